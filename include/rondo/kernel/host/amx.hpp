/// \file
/// Products of bfloat16 in AMX tiles, where the processor has them. Intel's instruction set reference, "Intel AMX".
#pragma once

#include <rondo/kernel/host/vec.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#if RONDO_HOST_AMX && !defined(RONDO_HOST_AMX_EMULATED)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace rondo::host {
inline namespace RONDO_HOST_NAMESPACE {

/// Whether products of T are made in AMX tiles.
template <class T>
inline constexpr bool in_tiles = RONDO_HOST_AMX != 0 && std::is_same_v<T, bfloat16>;

/// What a thread needs to multiply operands of type T, as long as this lives.
template <class T>
struct TileUnit {};

/// Sums of products for RowTiles·16 rows and 32 columns.
template <class T, int RowTiles>
class AmxSums;

#if RONDO_HOST_AMX

/// Rows of A and C in a tile, elements of the depth that a product takes, columns of B and C.
inline constexpr int amx_rows = 16, amx_depth = 32, amx_columns = 16;

/// Whether this process may use tiles: Linux keeps room for them in a thread's context when asked, once per process.
inline bool amx_granted() {
#ifdef RONDO_HOST_AMX_EMULATED
  return rondo::test::emulated_amx_granted();
#else
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool granted = syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  return granted;
#endif
}

/// Shapes the tiles of the calling thread: all of 16 rows of 64 bytes.
template <>
struct TileUnit<bfloat16> {
  TileUnit() {
    if (!amx_granted()) return;
    struct alignas(64) {
      std::uint8_t palette = 1, start = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {amx_rows, amx_rows, amx_rows, amx_rows, amx_rows, amx_rows, amx_rows, amx_rows};
    } const shapes;
    static_assert(sizeof(shapes) == 64);
    _tile_loadconfig(&shapes);
  }
  ~TileUnit() {
    if (amx_granted()) _tile_release();
  }
  TileUnit(const TileUnit&) = delete;
  TileUnit& operator=(const TileUnit&) = delete;
};

/// Numbers in one or two parts of the same form, whose sum they are.
template <int Count>
struct Parts {
  const bfloat16* first;
  std::ptrdiff_t next = 0;  ///< elements from one part to the next

  const bfloat16* at(int part) const { return first + part * next; }
};

/// Tiles 0 to 3 hold the sums, 4 and 5 A, 6 and 7 B, so that a thread makes one of these after the other. Where tiles are
/// not granted: by pairs in vectors.
template <int RowTiles>
class AmxSums<bfloat16, RowTiles> {
  static_assert(RowTiles == 1 || RowTiles == 2);
  static constexpr int column_tiles = 2;

 public:
  [[gnu::always_inline]] AmxSums() {
    if (!amx_granted()) [[unlikely]] {
      for (auto& row : sums_) std::fill_n(row, column_tiles, Vec<float>{});
      return;
    }
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (RowTiles == 2) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }

  /// sums[row][·] += Σ over k in [0, depth) of a[row · a_stride + k] · b[k][·].
  /// \param b      [pair of the depth][column][2], `b_stride` columns from one pair to the next
  /// \param depth  a multiple of amx_depth
  template <int PartsOfA, int PartsOfB>
  [[gnu::always_inline]] void add(const Parts<PartsOfA>& a, std::ptrdiff_t a_stride, const Parts<PartsOfB>& b,
                                  std::ptrdiff_t b_stride, std::int64_t depth) {
    static_assert(PartsOfA == 1 || PartsOfB == 1);
    if (!amx_granted()) [[unlikely]] {
      for (int i = 0; i < PartsOfA; ++i) {
        for (int j = 0; j < PartsOfB; ++j) add_pairwise(a.at(i), a_stride, b.at(j), b_stride, depth);
      }
      return;
    }
    asm volatile("" ::: "memory");  // the loads below do not tell the compiler that they read memory
    for (std::int64_t k = 0; k < depth; k += amx_depth) {
      load_a(a.at(0) + k, a_stride);
      load_b(b.at(0) + k * b_stride, b_stride);
      multiply();
      if constexpr (PartsOfA == 2) {
        load_a(a.at(1) + k, a_stride);
        multiply();
      }
      if constexpr (PartsOfB == 2) {
        load_b(b.at(1) + k * b_stride, b_stride);
        multiply();
      }
    }
  }
  [[gnu::always_inline]] void add(const bfloat16* a, std::ptrdiff_t a_stride, const bfloat16* b,
                                  std::ptrdiff_t b_stride, std::int64_t depth) {
    add(Parts<1>{a}, a_stride, Parts<1>{b}, b_stride, depth);
  }

  /// c[row · c_stride + column] = sums.
  [[gnu::always_inline]] void store(float* c, std::ptrdiff_t c_stride) const {
    if (!amx_granted()) [[unlikely]] {
      for (int row = 0; row < RowTiles * amx_rows; ++row) {
        for (int tile = 0; tile < column_tiles; ++tile) {
          rondo::host::store(c + row * c_stride + tile * amx_columns, sums_[row][tile]);
        }
      }
      return;
    }
    const std::ptrdiff_t bytes = 4 * c_stride;
    _tile_stored(0, c, bytes);
    _tile_stored(1, c + amx_columns, bytes);
    if constexpr (RowTiles == 2) {
      _tile_stored(2, c + amx_rows * c_stride, bytes);
      _tile_stored(3, c + amx_rows * c_stride + amx_columns, bytes);
    }
  }

 private:
  [[gnu::always_inline]] static void load_a(const bfloat16* a, std::ptrdiff_t stride) {
    _tile_loadd(4, a, 2 * stride);
    if constexpr (RowTiles == 2) _tile_loadd(5, a + amx_rows * stride, 2 * stride);
  }
  [[gnu::always_inline]] static void load_b(const bfloat16* b, std::ptrdiff_t stride) {
    _tile_loadd(6, b, 4 * stride);
    _tile_loadd(7, b + 2 * amx_columns, 4 * stride);
  }
  [[gnu::always_inline]] static void multiply() {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (RowTiles == 2) {
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  [[gnu::noinline]] void add_pairwise(const bfloat16* a, std::ptrdiff_t a_stride, const bfloat16* b,
                                      std::ptrdiff_t b_stride, std::int64_t depth) {
    for (int row = 0; row < RowTiles * amx_rows; ++row) {
      for (std::int64_t k = 0; k < depth; k += 2) {
        for (int tile = 0; tile < column_tiles; ++tile) {
          sums_[row][tile] =
              add_pairs(sums_[row][tile], a + row * a_stride + k, b + k * b_stride + 2 * tile * amx_columns);
        }
      }
    }
  }

  Vec<float> sums_[RowTiles * amx_rows][column_tiles];  ///< where tiles are not granted
};

#endif

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace rondo::host
