/// \file
/// Products of pairs of bfloat16 in AMX tiles, where the processor has them. Intel's instruction set reference, "Intel AMX".
#pragma once

#include <rondo/kernel/host/vec.hpp>

#include <cstddef>
#include <cstdint>

#if RONDO_HOST_AMX
#ifndef RONDO_HOST_AMX_EMULATED
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace rondo::host {
inline namespace RONDO_HOST_NAMESPACE {

/// Rows of A and C in a tile, elements of the depth that a product takes, columns of B and C.
inline constexpr int amx_rows = 12, amx_depth = 32, amx_columns = 16;

/// Whether this process may use tiles: Linux keeps room for them in a thread's context when asked, once per process.
inline bool amx_granted() {
#ifdef RONDO_HOST_AMX_EMULATED
  return true;
#else
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool granted = syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  return granted;
#endif
}

/// Shapes the tiles of the calling thread: 0 and 1 hold C, 2 holds A, 3 and 4 hold B. As long as this lives.
class AmxTiles {
 public:
  AmxTiles() {
    if (!amx_granted()) return;
    struct alignas(64) {
      std::uint8_t palette = 1, start = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {amx_rows, amx_rows, amx_rows, amx_depth / 2, amx_depth / 2};
    } const shapes;
    static_assert(sizeof(shapes) == 64);
    _tile_loadconfig(&shapes);
  }
  ~AmxTiles() {
    if (amx_granted()) _tile_release();
  }
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;
};

/// c[row][·] = Σ over k in [0, depth) of a[row · a_stride + k] · b[k][·], for Columns vectors side by side.
/// \param b      [pair of the depth][column][2], `b_stride` columns from one pair to the next
/// \param depth  a multiple of amx_depth
template <int Columns>
inline void multiply_amx(float* c, const bfloat16* a, std::ptrdiff_t a_stride, const bfloat16* b,
                         std::ptrdiff_t b_stride, std::int64_t depth) {
  asm volatile("" ::: "memory");  // the loads below do not tell the compiler that they read memory
  _tile_zero(0);
  if constexpr (Columns == 2) _tile_zero(1);
  for (std::int64_t k = 0; k < depth; k += amx_depth) {
    const bfloat16* const pairs = b + k * b_stride;
    _tile_loadd(2, a + k, 2 * a_stride);
    _tile_loadd(3, pairs, 4 * b_stride);
    _tile_dpbf16ps(0, 2, 3);
    if constexpr (Columns == 2) {
      _tile_loadd(4, pairs + 2 * amx_columns, 4 * b_stride);
      _tile_dpbf16ps(1, 2, 4);
    }
  }
  _tile_stored(0, c, 64 * Columns);
  if constexpr (Columns == 2) _tile_stored(1, c + amx_columns, 64 * Columns);
}

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace rondo::host
#endif
