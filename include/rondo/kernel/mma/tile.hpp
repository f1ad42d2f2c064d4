/// \file
/// What the kernel on tensor cores does with tiles: bring rows into shared memory, multiply by them, walk over a sequence.
#pragma once

#include <rondo/kernel/mma/device.hpp>
#include <rondo/kernel/tensor_core/rows.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>
#include <type_traits>

namespace rondo::mma {

/// Rows of a tile where the sums of a head_dim of 128, or of two tensors, leave few registers: for older devices the compiler
/// needs more of them for the same. (Shared memory is for the larger.)
constexpr int tile_rows_for(int rows) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  return rows / 2;
#else
  return rows;
#endif
}

/// What a team does: a block of rows of one head, the first of which is `row`.
struct RowBlock {
  int b;
  int head;
  int row;
};
/// Of a league that does `count` queries of every head. Under a causal mask the last queries have most to do: they go first.
/// (Worked out anew where it is needed again: kept, it would take registers from the loop over tiles.)
template <int Rows>
KOKKOS_FUNCTION RowBlock query_block(int league_rank, int count, int heads) {
  const int blocks = (count + Rows - 1) / Rows;
  return {league_rank / blocks / heads, league_rank / blocks % heads, (blocks - 1 - league_rank % blocks) * Rows};
}

/// Starts to bring `count` rows into a tile of Rows rows of Dim elements; the rest of the tile becomes 0.
template <int Rows, int Dim, class Team, class T>
KOKKOS_FUNCTION void start_rows(Team& team, T* tile, const SourceRows<T>& from, int count) {
  if (from.in_groups()) {
    // A thread has every so many rows' group of the same columns: one addition leads from one to the next.
    constexpr unsigned groups = Dim / 8, step = Team::threads / groups;
    static_assert(Rows % step == 0 && step % 8 == 0);
    team.each_thread([&](unsigned thread) {
      const unsigned first = thread / groups, col = thread % groups * 8;
      T* to = tile + swizzled<Dim>(static_cast<int>(first), static_cast<int>(col));
      const auto* source = reinterpret_cast<const unsigned char*>(from.data + first * from.row_stride + col);
      const std::int64_t step_bytes = static_cast<std::int64_t>(sizeof(T)) * step * from.row_stride;
      const int left = static_cast<int>(col) < from.head_dim ? count - static_cast<int>(first) : 0;
      RONDO_UNROLL
      for (int row = 0; row < Rows; row += step, to += step * Dim, source += step_bytes) {
        team.start_copy(to, source, row < left);
      }
    });
    return;
  }
  team.share(Rows * Dim, [&](int element) {
    const int row = element / Dim, col = element % Dim;
    tile[swizzled<Dim>(row, col)] =
        row < count && col < from.head_dim ? from.data[row * from.row_stride + col * from.stride] : T(0.0f);
  });
}

template <int Dim>
KOKKOS_FUNCTION int place_in_tile(const Place& place) {
  return swizzled<Dim>(place.row, place.col);
}

template <int Dim, class Warp, class T>
KOKKOS_FUNCTION void load_a(const Warp& warp, Pairs<Warp>& a, const T* tile, int row, int k) {
  warp.template load_matrices<false>(a, tile,
                                     [&](int lane) { return moved<Dim>(place_in_tile<Dim>(named_row(lane)), row, k); });
}

/// c[r][n] += A_r · tileᵀ: inner products of rows of Dim elements, 16 rows on the left by Columns rows of the tile.
/// \param a  a(r, k, fragment) gives the A fragment of rows 16 r ... and dimensions 16 k ...
template <int Dim, int RowTiles, int Columns, class Warp, class T, class A>
KOKKOS_FUNCTION void add_inner_products(const Warp& warp, Sums<Warp> (&c)[RowTiles][Columns / 8], const A& a,
                                        const T* tile) {
  RONDO_UNROLL
  for (int k = 0; k < Dim / 16; ++k) {
    Pairs<Warp> left[RowTiles];
    RONDO_UNROLL
    for (int r = 0; r < RowTiles; ++r) a(r, k, left[r]);
    RONDO_UNROLL
    for (int n = 0; n < Columns / 16; ++n) {
      Pairs<Warp> right;
      warp.template load_matrices<false>(right, tile, [&](int lane) {
        return moved<Dim>(place_in_tile<Dim>(named_row_of_transposed(lane)), 16 * n, 16 * k);
      });
      RONDO_UNROLL
      for (int r = 0; r < RowTiles; ++r) {
        warp.template multiply_add<T>(c[r][2 * n], left[r], right, 0);
        warp.template multiply_add<T>(c[r][2 * n + 1], left[r], right, 2);
      }
    }
  }
}

/// Whether a tile has an element that is not finite.
template <int Rows, int Dim, class Warp, class T>
KOKKOS_FUNCTION bool any_not_finite(const Warp& warp, const T* tile) {
  Held<Warp, std::uint32_t, 1> found{};
  const auto* pairs = reinterpret_cast<const std::uint32_t*>(tile);
  warp.each([&](int lane) {
    RONDO_NO_UNROLL
    for (int i = lane; i < Rows * Dim / 2; i += warp_lanes) found.at(lane, 0) |= finite_pair<T>(pairs[i]) ^ pairs[i];
  });
  return warp.any(found);
}

/// Weights, 16 x Depth for each row tile, that stand in C fragments: rounded to T, or with two Parts to a sum of two numbers
/// of type T, when they are asked for.
template <class T, int Parts, int RowTiles, int Depth, class Warp>
struct WeightSums {
  static constexpr int parts = Parts;
  const Sums<Warp> (&sums)[RowTiles][Depth / 8];

  /// The A fragments of columns 16 k ...
  KOKKOS_FUNCTION void get(const Warp& warp, int k, Pairs<Warp> (&left)[Parts][RowTiles]) const {
    RONDO_UNROLL
    for (int r = 0; r < RowTiles; ++r) {
      warp.each([&](int lane) {
        RONDO_UNROLL
        for (int i = 0; i < 4; ++i) {
          const auto& from = sums[r][2 * k + i / 2];
          const float low = from.at(lane, i % 2 * 2), high = from.at(lane, i % 2 * 2 + 1);
          const std::uint32_t pair = Warp::template rounded_pair<T>(low, high);
          left[0][r].at(lane, i) = pair;
          if constexpr (Parts == 2) {
            left[1][r].at(lane, i) =
                Warp::template rounded_pair<T>(rest_of<T>(low, pair, 0), rest_of<T>(high, pair, 1));
          }
        }
      });
    }
  }
};

/// The same, rounded before.
template <int RowTiles, int Depth, class Warp>
struct WeightPairs {
  static constexpr int parts = 1;
  const Pairs<Warp> (&pairs)[RowTiles][Depth / 16];

  KOKKOS_FUNCTION void get(const Warp& /*warp*/, int k, Pairs<Warp> (&left)[1][RowTiles]) const {
    RONDO_UNROLL
    for (int r = 0; r < RowTiles; ++r) left[0][r] = pairs[r][k];
  }
};

/// c[r][n] += A_r · tile, for weights A_r.
/// \tparam Finite  where an element of the tile is not finite, 0 is taken
template <bool Finite, int Dim, int RowTiles, int Depth, class Warp, class T, class Weights>
KOKKOS_FUNCTION void add_products(const Warp& warp, Sums<Warp> (&c)[RowTiles][Dim / 8], const Weights& weights,
                                  const T* tile) {
  RONDO_UNROLL
  for (int k = 0; k < Depth / 16; ++k) {
    Pairs<Warp> left[Weights::parts][RowTiles];
    weights.get(warp, k, left);
    RONDO_UNROLL
    for (int n = 0; n < Dim / 16; ++n) {
      Pairs<Warp> right;
      warp.template load_matrices<true>(
          right, tile, [&](int lane) { return moved<Dim>(place_in_tile<Dim>(named_row(lane)), 16 * k, 16 * n); });
      if constexpr (Finite) {
        warp.each([&](int lane) {
          RONDO_UNROLL
          for (int i = 0; i < 4; ++i) right.at(lane, i) = finite_pair<T>(right.at(lane, i));
        });
      }
      RONDO_UNROLL
      for (int r = 0; r < RowTiles; ++r) {
        RONDO_UNROLL
        for (int part = Weights::parts - 1; part >= 0; --part) {
          warp.template multiply_add<T>(c[r][2 * n], left[part][r], right, 0);
          warp.template multiply_add<T>(c[r][2 * n + 1], left[part][r], right, 2);
        }
      }
    }
  }
}

/// The same where some weights may be 0 because their pair is masked (unless `whole`), and such a product must not be made:
/// then elements of the tile that are not finite are left out. Returns whether there are some, for add_left_out.
template <int Dim, int RowTiles, int Depth, class Warp, class T, class Weights>
KOKKOS_FUNCTION bool add_weighted_rows(const Warp& warp, Sums<Warp> (&c)[RowTiles][Dim / 8], const Weights& weights,
                                       const T* tile, bool whole) {
  if (whole || !any_not_finite<Depth, Dim>(warp, tile)) {
    add_products<false, Dim, RowTiles, Depth>(warp, c, weights, tile);
    return false;
  }
  add_products<true, Dim, RowTiles, Depth>(warp, c, weights, tile);
  return true;
}

/// Adds what was left out of a warp's sums to where each lane has stored them: the elements that are not finite of a run's
/// rows, in tiles that are not whole, where the pair is not masked. (Slow and rare. Done afterwards it takes no registers
/// from the loop over tiles.)
/// \param from   the rows of the run
/// \param cover  the coverage of a tile; all: it is whole
/// \param sees   sees(row of the block, place in the run)
/// \param add    add(row of the block, dimension, x)
template <int Dim, int WarpRows, int TileRows, class Warp, class T, class Cover, class Sees, class Add>
KOKKOS_FUNCTION void add_left_out(const Warp& warp, const SourceRows<T>& from, const Run& run, const Cover& cover,
                                  const Sees& sees, const Add& add) {
  const auto add_row = [&](int lane, std::int64_t j) {
    RONDO_NO_UNROLL
    for (int i = lane / 4; i < WarpRows; i += 8) {
      if (!sees(warp.number * WarpRows + i, j)) continue;
      RONDO_NO_UNROLL
      for (int d = place_in_c(lane, 0).col; d < from.head_dim; d += d % 2 == 0 ? 1 : 7) {
        const auto x = static_cast<float>(from.data[j * from.row_stride + d * from.stride]);
        if (!(x - x == 0.0f)) add(warp.number * WarpRows + i, d, x);
      }
    }
  };
  RONDO_NO_UNROLL
  for (std::int64_t begin = 0; begin < run.count; begin += TileRows) {
    const int count = static_cast<int>(run.count - begin < TileRows ? run.count - begin : TileRows);
    if (cover(run.part(begin, count)) != Coverage::some) continue;
    warp.each([&](int lane) {
      RONDO_NO_UNROLL
      for (int j = 0; j < count; ++j) add_row(lane, begin + j);
    });
  }
}

/// Which of its elements of row i of a C fragment a lane sees: bit 2n + e for element e of the n-th eight columns. (A loop
/// that is not unrolled: positions and masks take registers.)
template <int Columns, class Sees>
KOKKOS_FUNCTION std::uint32_t lane_sees(int lane, int i, const Sees& sees) {
  static_assert(Columns <= 128);
  std::uint32_t bits = 0;
  RONDO_NO_UNROLL
  for (int bit = 0; bit < Columns / 4; ++bit) {
    if (sees(i, 8 * (bit / 2) + place_in_c(lane, bit % 2).col)) bits |= 1u << bit;
  }
  return bits;
}

/// The same for the elements whose columns lie in a range.
template <int Columns>
KOKKOS_FUNCTION std::uint32_t lane_sees_range(int lane, const IndexRange& range) {
  static_assert(Columns <= 128);
  const auto bits_before = [&](int column) {  // those of elements on the left of a column
    const int after_first = column - place_in_c(lane, 0).col;
    const int count = after_first <= 0 ? 0 : after_first / 8 * 2 + (after_first % 8 < 2 ? after_first % 8 : 2);
    return (std::uint64_t{1} << (count < Columns / 4 ? count : Columns / 4)) - 1;
  };
  return static_cast<std::uint32_t>(bits_before(range.end) & ~bits_before(range.begin));
}

/// Which keys of a tile query `i` of a run sees, of those that a lane has elements for.
template <int Columns, class Scores>
KOKKOS_FUNCTION std::uint32_t lane_sees_keys(int lane, const Scores& scores, const Run& queries, int i,
                                             const Run& tile) {
  if (i >= queries.count) return 0;
  const std::int64_t query = queries.at(i);
  if constexpr (Scores::has_intervals) {
    return lane_sees_range<Columns>(lane, scores.keys(query, tile));
  } else {
    return lane_sees<Columns>(lane, i, [&](int, int j) { return j < tile.count && scores.allowed(query, tile.at(j)); });
  }
}

/// Calls compute(begin, count, coverage, stage) for each tile of Rows tokens of a run that the mask leaves something of,
/// after load(begin, count, stage) has brought it to one of two places. The next tile is on its way meanwhile.
/// \param cover  the coverage of a part of the run
template <int Rows, class Team, class Cover, class Load, class Compute>
KOKKOS_FUNCTION void for_tiles(Team& team, const Run& run, const Cover& cover, const Load& load,
                               const Compute& compute) {
  const auto count = static_cast<unsigned>(run.count);
  const auto count_at = [&](unsigned begin) { return static_cast<int>(count - begin < Rows ? count - begin : Rows); };
  const auto next = [&](unsigned begin, Coverage& coverage) {
    for (; begin < count; begin += Rows) {
      coverage = cover(run.part(begin, count_at(begin)));
      if (coverage != Coverage::none) break;
    }
    return begin;
  };
  Coverage coverage = Coverage::none;
  unsigned begin = next(0, coverage);
  if (begin < count) load(begin, count_at(begin), 0);
  team.end_group();
  for (int stage = 0; begin < count; stage = 1 - stage) {
    Coverage coverage_after = Coverage::none;
    const unsigned after = next(begin + Rows, coverage_after);
    if (after < count) load(after, count_at(after), 1 - stage);
    team.end_group();
    team.template wait<1>();
    team.barrier();
    compute(begin, count_at(begin), coverage, stage);
    team.barrier();  // before the place that was read is written again
    begin = after;
    coverage = coverage_after;
  }
}

}  // namespace rondo::mma
