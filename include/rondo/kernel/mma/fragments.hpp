/// \file
/// Which lane of a warp holds which element: the fragments of mma.sync.m16n8k16 and the matrices of ldmatrix, for operands
/// of 16 bits (PTX ISA, "Matrix Fragments for mma.m16n8k16" and "ldmatrix"). Plain functions that a host can call: the
/// tests compare them with the ISA's tables.
#pragma once

#include <rondo/kernel/tensor_core/team.hpp>

#include <Kokkos_Core.hpp>

namespace rondo::mma {

using namespace tensor_core;

inline constexpr int warp_lanes = 32;

/// Of A, 16 x 16: where a lane's elements 0 ... 7 stand. Elements 2i and 2i + 1 share its register i.
KOKKOS_INLINE_FUNCTION constexpr Place place_in_a(int lane, int element) {
  return {lane / 4 + (element & 2) * 4, lane % 4 * 2 + (element & 1) + (element & 4) * 2};
}

/// Of B, 16 x 8: where a lane's elements 0 ... 3 stand.
KOKKOS_INLINE_FUNCTION constexpr Place place_in_b(int lane, int element) {
  return {lane % 4 * 2 + (element & 1) + (element & 2) * 4, lane / 4};
}

/// Of C and D, 16 x 8: where a lane's sums 0 ... 3 stand. So two neighbours of C, side by side, rounded and in pairs, are an
/// A for the next product.
KOKKOS_INLINE_FUNCTION constexpr Place place_in_c(int lane, int element) {
  return {lane / 4 + (element & 2) * 4, lane % 4 * 2 + (element & 1)};
}

/// ldmatrix.x4 takes the address of a row of eight elements from every lane. For an A fragment of a matrix [row][k], and for
/// the B fragments of 16 columns (registers 0 and 1: the first eight) where memory holds B as it is, [k][column], with
/// ldmatrix.trans: the row that a lane names begins at ...
KOKKOS_INLINE_FUNCTION constexpr Place named_row(int lane) { return {lane % 16, lane / 16 * 8}; }

/// The same for B fragments where memory holds B transposed, [column][k]. (With the other rows too there would be one set of
/// addresses, but a fragment's registers would not be neighbours, and had to be moved.)
KOKKOS_INLINE_FUNCTION constexpr Place named_row_of_transposed(int lane) {
  return {lane % 8 + lane / 16 * 8, lane / 8 % 2 * 8};
}

/// Where an element of a tile with rows of Dim 16-bit elements stands in shared memory. Groups of eight, 16 bytes, are
/// exchanged within a row so that the eight rows of a matrix lie in different banks.
template <int Dim>
KOKKOS_INLINE_FUNCTION constexpr int swizzled(int row, int col) {
  static_assert(Dim % 64 == 0);
  return row * Dim + ((col / 8) ^ (row % 8)) * 8 + col % 8;
}

/// The same `rows` (a multiple of 8) below and `cols` (a multiple of 16) right of an element of the first 16 columns. Written
/// so that a lane needs one register for each of four columns: the rest is a number in the instruction.
template <int Dim>
KOKKOS_INLINE_FUNCTION constexpr int moved(int offset, int rows, int cols) {
  return (offset ^ cols % 64) + (cols / 64 * 64 + rows * Dim);
}

}  // namespace rondo::mma
