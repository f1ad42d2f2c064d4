/// \file
/// Which lane of a wave holds which element: the operands of v_mfma_f32_32x32x8 and v_mfma_f32_16x16x16 for 16 bits (AMD's
/// matrix instruction calculator; CDNA2 and CDNA3 agree). Plain functions that a host can call: the tests compare them with
/// AMD's tables. Products are made transposed: a lane's sums belong to one column of C, and columns are the block's own
/// rows, so that a row of scores is shared by few lanes and, rounded, is the B of the next product as it stands.
#pragma once

#include <rondo/kernel/tensor_core/team.hpp>

#include <Kokkos_Core.hpp>

namespace rondo::mfma {

using namespace tensor_core;

inline constexpr int wave_lanes = 64;

/// How many terms a product of Size x Size sums up: 8 of 32, 16 of 16.
template <int Size>
inline constexpr int depth = 256 / Size;

/// A lane's sums.
template <int Size>
inline constexpr int lane_sums = Size* Size / wave_lanes;

/// Of A, Size x depth: where a lane's elements 0 ... 3 stand.
template <int Size>
KOKKOS_INLINE_FUNCTION constexpr Place place_in_a(int lane, int element) {
  return {lane % Size, lane / Size * 4 + element};
}

/// Of B, depth x Size: where a lane's elements 0 ... 3 stand.
template <int Size>
KOKKOS_INLINE_FUNCTION constexpr Place place_in_b(int lane, int element) {
  return {lane / Size * 4 + element, lane % Size};
}

/// Of C and D, Size x Size: where a lane's sums stand. So four neighbours of them are the B for a next product.
template <int Size>
KOKKOS_INLINE_FUNCTION constexpr Place place_in_c(int lane, int element) {
  return {element / 4 * depth<Size> + lane / Size * 4 + element % 4, lane % Size};
}

/// C fragments one below the other, seen as Size rows of a block: the columns of C.
template <int Size>
struct Lanes {
  static constexpr int row_step = Size;  ///< a lane has a part of one row
  /// How many numbers of a row of so many columns a lane has.
  template <int Columns>
  static constexpr int numbers = Columns* Size / wave_lanes;

  KOKKOS_FUNCTION static constexpr int row(int lane, int own) { return own * Size + lane % Size; }
  KOKKOS_FUNCTION static constexpr int column(int lane, int number) {
    return number / lane_sums<Size> * Size + place_in_c<Size>(lane, number % lane_sums<Size>).row;
  }
  /// Of the lanes that share a row, the one that has its first column.
  KOKKOS_FUNCTION static constexpr bool begins_row(int lane) { return lane < Size; }

  /// Combines what the lanes of a row hold; each gets the result.
  template <class Wave, int N, class Combine>
  KOKKOS_FUNCTION static void combine_rows(const Wave& wave, Held<Wave, float, N>& x, const Combine& combine) {
    RONDO_UNROLL
    for (int step = Size; step < wave_lanes; step *= 2) wave.combine_lanes(x, step, combine);
  }

  template <class Sums>
  KOKKOS_FUNCTION static auto& at(Sums& sums, int lane, int /*own*/, int number) {
    return sums[number / lane_sums<Size>].at(lane, number % lane_sums<Size>);
  }
};

/// Where an element of a tile with rows of Width 16-bit elements stands in shared memory. Four elements of room behind each
/// row put the same four columns of 16 rows into different banks: 33 or 17 or 9 times 8 bytes from one to the next.
template <int Width>
inline constexpr int padded = Width + 4;
template <int Width>
KOKKOS_INLINE_FUNCTION constexpr int place_in_tile(int row, int col) {
  static_assert(Width % 32 == 0);
  return row * padded<Width> + col;
}

/// A thread brings squares of 4 x 4 elements: the first place of the n-th of a tile whose rows have Dim elements. Sixteen
/// lanes have 4 x 4 squares, so that they write to different banks as they are and transposed.
template <int Dim>
KOKKOS_INLINE_FUNCTION constexpr Place square(int n) {
  constexpr int across = Dim / 16;
  return {4 * (n / 4 % 4 + n / 16 / across * 4), 4 * (n % 4 + n / 16 % across * 4)};
}

}  // namespace rondo::mfma
