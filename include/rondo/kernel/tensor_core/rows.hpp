/// \file
/// Rows of tokens, and which of them a tile shows to which lane: what the kernels on tensor cores share beside the passes.
#pragma once

#include <rondo/kernel/portable/score_lanes.hpp>
#include <rondo/kernel/tensor_core/team.hpp>
#include <rondo/mask/concept.hpp>
#include <rondo/sharding/run.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>
#include <type_traits>

namespace rondo::tensor_core {

/// Calls f with head_dim as these kernels compute it, the next multiple of 64, as an integral_constant; false where they do
/// not, or f says so.
template <class F>
bool for_padded_head_dim(const Shape& shape, const F& f) {
  // With a head_dim of 1 what rounding probabilities costs is not averaged out (1.7 times plain arithmetic's RMS error).
  if (shape.value_dim != shape.head_dim || shape.head_dim < 8) return false;
  if (shape.head_dim <= 64) return f(std::integral_constant<int, 64>{});
  if (shape.head_dim <= 128) return f(std::integral_constant<int, 128>{});
  return false;
}

/// Rows of tokens somewhere in memory.
template <class T>
struct SourceRows {
  const T* data;
  std::int64_t row_stride;  ///< elements from a token to the next
  std::int64_t stride;      ///< elements from a dimension to the next
  int head_dim;

  /// Whether groups of so many elements can be copied as one.
  template <int Elements = 8>
  KOKKOS_FUNCTION bool in_groups() const {
    return stride == 1 && head_dim % Elements == 0 && row_stride % Elements == 0 &&
           reinterpret_cast<std::uintptr_t>(data) % (Elements * sizeof(T)) == 0;
  }
};

/// The rows of one head of a tensor [batch, tokens, heads, head_dim], from token `row` on.
template <class Tensor>
KOKKOS_FUNCTION auto rows_of(const Tensor& x, int b, std::int64_t row, int head) {
  using T = std::remove_const_t<typename Tensor::value_type>;
  return SourceRows<T>{x.data() + b * static_cast<std::int64_t>(x.stride(0)) +
                           row * static_cast<std::int64_t>(x.stride(1)) + head * static_cast<std::int64_t>(x.stride(2)),
                       static_cast<std::int64_t>(x.stride(1)), static_cast<std::int64_t>(x.stride(3)),
                       static_cast<int>(x.extent(3))};
}

/// The rows of a piece's keys or values in its wire, from `begin` on.
template <class T>
KOKKOS_FUNCTION SourceRows<T> rows_of_wire(const portable::WireRows<T>& rows, std::int64_t begin) {
  return {rows.data + begin * rows.width, rows.width, 1, rows.width};
}

/// The coverage of a tile, all only if it is full as well: in others, places stand for no query or no key.
KOKKOS_INLINE_FUNCTION Coverage whole_or_some(Coverage coverage, bool full) {
  return coverage == Coverage::all && !full ? Coverage::some : coverage;
}

/// Tiles of Rows tokens of a run, those that the mask leaves nothing of left out.
template <int Rows, class Cover>
struct VisibleTiles {
  const Run& run;
  const Cover& cover;  ///< the coverage of a part of the run

  KOKKOS_FUNCTION int count_at(std::int64_t begin) const {
    return static_cast<int>(run.count - begin < Rows ? run.count - begin : Rows);
  }
  /// The first tile from `begin` on; the end of the run, or more, if there is none.
  KOKKOS_FUNCTION std::int64_t next(std::int64_t begin, Coverage& coverage) const {
    for (; begin < run.count; begin += Rows) {
      coverage = cover(run.part(begin, count_at(begin)));
      if (coverage != Coverage::none) break;
    }
    return begin;
  }
};

/// Which of its numbers of one row a lane sees: bit n for the n-th. (A loop that is not unrolled: positions and masks take
/// registers.)
/// \param sees  sees(row of the block, place in the tile)
template <class Lanes, int Columns, class Sees>
KOKKOS_FUNCTION std::uint32_t lane_sees(int lane, int row, const Sees& sees) {
  constexpr int numbers = Lanes::template numbers<Columns>;
  static_assert(numbers <= 32);
  std::uint32_t bits = 0;
  RONDO_NO_UNROLL
  for (int n = 0; n < numbers; ++n) {
    if (sees(row, Lanes::column(lane, n))) bits |= 1u << n;
  }
  return bits;
}

/// Adds what was left out of a warp's sums to where each lane has stored them: the elements that are not finite of a run's
/// rows, in tiles that are not whole, where the pair is not masked. (Slow and rare. Done afterwards it takes no registers
/// from the loop over tiles.)
/// \param from   the rows of the run
/// \param cover  the coverage of a tile; all: it is whole
/// \param sees   sees(row of the block, place in the run)
/// \param add    add(row of the block, dimension, x)
template <class Lanes, int Dim, int WarpRows, int TileRows, class Warp, class T, class Cover, class Sees, class Add>
KOKKOS_FUNCTION void add_left_out(const Warp& warp, const SourceRows<T>& from, const Run& run, const Cover& cover,
                                  const Sees& sees, const Add& add) {
  const auto add_row = [&](int lane, std::int64_t j) {
    RONDO_NO_UNROLL
    for (int own = 0; own < WarpRows / Lanes::row_step; ++own) {
      const int row = warp.number * WarpRows + Lanes::row(lane, own);
      if (!sees(row, j)) continue;
      RONDO_NO_UNROLL
      for (int n = 0; n < Lanes::template numbers<Dim>; ++n) {
        const int d = Lanes::column(lane, n);
        if (d >= from.head_dim) break;
        const auto x = static_cast<float>(from.data[j * from.row_stride + d * from.stride]);
        if (!(x - x == 0.0f)) add(row, d, x);
      }
    }
  };
  RONDO_NO_UNROLL
  for (std::int64_t begin = 0; begin < run.count; begin += TileRows) {
    const int count = static_cast<int>(run.count - begin < TileRows ? run.count - begin : TileRows);
    if (cover(run.part(begin, count)) != Coverage::some) continue;
    warp.each_anew([&](int lane) {
      RONDO_NO_UNROLL
      for (int j = 0; j < count; ++j) add_row(lane, begin + j);
    });
  }
}

}  // namespace rondo::tensor_core
