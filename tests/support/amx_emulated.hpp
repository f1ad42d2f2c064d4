/// \file
/// AMX tiles in plain loops, after the pseudocode of Intel's instruction set reference: to be included before Rondo, whose
/// host kernel then multiplies in them on a processor without AMX.
#pragma once

#include <immintrin.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#define RONDO_HOST_AMX 1
#define RONDO_HOST_AMX_EMULATED

namespace rondo::test {

/// A tile: rows of bytes, as many as its shape says. Everything else is an error, as it is for the processor.
struct EmulatedTile {
  int rows = 0, row_bytes = 0;
  std::array<std::array<std::byte, 64>, 16> bytes{};
};

struct EmulatedAmx {
  bool configured = false;
  std::array<EmulatedTile, 8> tiles;

  static void fail_unless(bool right) {
    if (!right) std::abort();
  }

  void load_config(const void* memory) {
    std::uint8_t config[64];
    std::memcpy(config, memory, sizeof(config));
    fail_unless(config[0] == 1 && config[1] == 0);
    for (int t = 0; t < 8; ++t) {
      std::uint16_t row_bytes;
      std::memcpy(&row_bytes, config + 16 + 2 * t, sizeof(row_bytes));
      fail_unless(row_bytes <= 64 && config[48 + t] <= 16);
      tiles[static_cast<std::size_t>(t)] = {.rows = config[48 + t], .row_bytes = row_bytes};
    }
    configured = true;
  }
  void release() { *this = {}; }

  EmulatedTile& tile(std::size_t t) {
    fail_unless(configured && tiles[t].rows > 0);
    return tiles[t];
  }
  void zero(std::size_t t) { tile(t).bytes = {}; }
  void load(std::size_t t, const void* from, std::ptrdiff_t stride) {
    EmulatedTile& to = tile(t);
    to.bytes = {};
    for (int row = 0; row < to.rows; ++row) {
      std::memcpy(to.bytes[static_cast<std::size_t>(row)].data(), static_cast<const std::byte*>(from) + row * stride,
                  static_cast<std::size_t>(to.row_bytes));
    }
  }
  void store(std::size_t t, void* to, std::ptrdiff_t stride) {
    const EmulatedTile& from = tile(t);
    for (int row = 0; row < from.rows; ++row) {
      std::memcpy(static_cast<std::byte*>(to) + row * stride, from.bytes[static_cast<std::size_t>(row)].data(),
                  static_cast<std::size_t>(from.row_bytes));
    }
  }

  /// TDPBF16PS: c[m][n] += Σ over pairs k of a[m][2k]·b[k][2n] + a[m][2k + 1]·b[k][2n + 1].
  void multiply(std::size_t into, std::size_t first, std::size_t second) {
    EmulatedTile& c = tile(into);
    const EmulatedTile &a = tile(first), &b = tile(second);
    fail_unless(a.rows == c.rows && b.row_bytes == c.row_bytes && a.row_bytes == 4 * b.rows);
    for (int m = 0; m < c.rows; ++m) {
      for (int k = 0; k < b.rows; ++k) {
        for (int n = 0; n < c.row_bytes / 4; ++n) {
          float sum = read<float>(c, m, n);
          for (const int member : {0, 1}) sum += bfloat16_at(a, m, 2 * k + member) * bfloat16_at(b, k, 2 * n + member);
          std::memcpy(c.bytes[static_cast<std::size_t>(m)].data() + 4 * n, &sum, sizeof(sum));
        }
      }
    }
  }

 private:
  template <class T>
  static T read(const EmulatedTile& tile, int row, int at) {
    T value;
    std::memcpy(&value, tile.bytes[static_cast<std::size_t>(row)].data() + static_cast<std::size_t>(at) * sizeof(T),
                sizeof(T));
    return value;
  }
  static float bfloat16_at(const EmulatedTile& tile, int row, int at) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(read<std::uint16_t>(tile, row, at)) << 16);
  }
};

/// The calling thread's.
inline EmulatedAmx& emulated_amx() {
  thread_local EmulatedAmx amx;
  return amx;
}

/// Whether the system grants tiles to this process.
inline bool& emulated_amx_granted() {
  static bool granted = true;
  return granted;
}

/// Products made so far by all threads: whether the kernel came here at all.
inline std::atomic<long>& emulated_products() {
  static std::atomic<long> count{0};
  return count;
}

}  // namespace rondo::test

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(config) rondo::test::emulated_amx().load_config(config)
#define _tile_release() rondo::test::emulated_amx().release()
#define _tile_zero(tile) rondo::test::emulated_amx().zero(tile)
#define _tile_loadd(tile, from, stride) rondo::test::emulated_amx().load(tile, from, stride)
#define _tile_stored(tile, to, stride) rondo::test::emulated_amx().store(tile, to, stride)
#define _tile_dpbf16ps(c, a, b) \
  (++rondo::test::emulated_products(), rondo::test::emulated_amx().multiply(c, a, b))
