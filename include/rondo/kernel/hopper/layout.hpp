/// \file
/// Where elements stand in the products of a warp group (wgmma.m64nNk16 of the PTX ISA) and in shared memory: pure
/// functions, so that the tests can compare them with the ISA's tables.
#pragma once

#include <rondo/kernel/mma/fragments.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo::hopper {

using mma::Place;

inline constexpr int group_warps = 4;
inline constexpr int group_lanes = group_warps * mma::warp_lanes;
inline constexpr int group_rows = 64;       ///< of a product: 16 for each warp
inline constexpr int panel_columns = 64;    ///< 16-bit elements in 128 bytes, the widest swizzle
inline constexpr int pattern_bytes = 1024;  ///< after which the swizzle repeats: 8 rows of a panel

/// Of the sums D, 64 x N: where a lane's sums 0 ... N/2 - 1 stand.
KOKKOS_INLINE_FUNCTION constexpr Place place_in_d(int lane, int element) {
  const Place in_warp = mma::place_in_c(lane % mma::warp_lanes, element % 4);
  return {lane / mma::warp_lanes * 16 + in_warp.row, element / 4 * 8 + in_warp.col};
}

/// Of A, 64 x 16, in registers: where a lane's elements 0 ... 7 stand; 2i and 2i + 1 share its register i. Sums of two
/// neighbouring groups of eight columns, rounded and in pairs, are an A for the next product.
KOKKOS_INLINE_FUNCTION constexpr Place place_in_a(int lane, int element) {
  const Place in_warp = mma::place_in_a(lane % mma::warp_lanes, element);
  return {lane / mma::warp_lanes * 16 + in_warp.row, in_warp.col};
}

/// Where an element of a tile of Rows rows stands in shared memory, counted in elements. A tile is cut into panels of
/// 64 columns, one after the other, and within 128 bytes groups of eight elements are exchanged: the 128-byte swizzle,
/// as the tensor copies write it and products read it.
template <int Rows>
KOKKOS_INLINE_FUNCTION constexpr int place_in_tile(int row, int col) {
  static_assert(Rows % 8 == 0);
  return (col / panel_columns * Rows + row) * panel_columns + ((col / 8 % 8) ^ (row % 8)) * 8 + col % 8;
}

/// The 64 bits that tell a product where its operand lies: address, distances between blocks of 8 x 8 in bytes, and
/// that the 128-byte swizzle is used. Only the lower half depends on the address, and so that products further on in the
/// same tile need one addition: `skipped` bytes are added to it as they are.
KOKKOS_INLINE_FUNCTION constexpr std::uint64_t matrix_descriptor(std::uint32_t address, std::uint32_t leading,
                                                                 std::uint32_t stride, std::uint32_t skipped) {
  constexpr std::uint32_t swizzle_128 = std::uint32_t{1} << 30;
  const auto field = [](std::uint32_t bytes) { return (bytes & 0x3ffffu) >> 4; };
  const std::uint32_t low = (field(address) | field(leading) << 16) + (skipped >> 4);
  return low | std::uint64_t{field(stride) | swizzle_128} << 32;
}

/// Rows of a tile as an operand whose depth runs along them (A, or B transposed), 16 elements of depth from `depth` on.
/// \param address  of the tile, a multiple of 1024
/// \param row      the first row, a multiple of 8
template <int Rows>
KOKKOS_INLINE_FUNCTION constexpr std::uint64_t along_rows(std::uint32_t address, int row, int depth) {
  const int element = (depth / panel_columns * Rows + row) * panel_columns + depth % panel_columns;
  // The first distance is not used: 16 elements never leave their panel.
  return matrix_descriptor(address, 16, pattern_bytes, 2 * static_cast<std::uint32_t>(element));
}

/// Columns of a tile as an operand whose depth runs down them, 16 rows of depth from `depth` on, from the first column.
template <int Rows>
KOKKOS_INLINE_FUNCTION constexpr std::uint64_t down_columns(std::uint32_t address, int depth) {
  constexpr std::uint32_t row_bytes = 2 * panel_columns;
  return matrix_descriptor(address, Rows * row_bytes, pattern_bytes, static_cast<std::uint32_t>(depth) * row_bytes);
}

/// A place among `Stages` that are filled and emptied in turn, and the parity of the barriers' phase that belongs to
/// this round: a wait for it passes once the place has been filled (or, with the other parity, emptied) that often.
template <int Stages>
struct Turn {
  int stage = 0;
  std::uint32_t parity = 0;
  KOKKOS_FUNCTION constexpr void next() {
    if (++stage == Stages) {
      stage = 0;
      parity ^= 1u;
    }
  }
};

/// How a tensor copy sees memory: rows of 16-bit elements in slices in blocks, of which it takes boxes of `box_rows`
/// rows of a panel's columns. Rows beyond the last are 0.
struct CopySource {
  const void* data;
  int columns;
  std::int64_t rows, slices, blocks;
  std::int64_t row_stride, slice_stride, block_stride;  ///< in elements
  int box_rows;

  /// Whether tensor copies can read this: addresses and strides are multiples of 16 bytes.
  constexpr bool can_be_copied() const {
    const auto fits = [](std::int64_t stride) {
      return stride > 0 && stride % 8 == 0 && stride < std::int64_t{1} << 38;
    };
    return columns % panel_columns == 0 && rows > 0 && fits(row_stride) && fits(slice_stride) && fits(block_stride) &&
           reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
  }
};

}  // namespace rondo::hopper
