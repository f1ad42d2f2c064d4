/// \file
/// What the kernel on tensor cores does with tiles: bring rows into shared memory, multiply by them, walk over a sequence.
#pragma once

#include <rondo/kernel/mma/device.hpp>
#include <rondo/kernel/tensor_core/rows.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>
#include <type_traits>

namespace rondo::mma {

/// Starts to bring `count` rows into a tile of Rows rows of Dim elements; the rest of the tile becomes 0.
template <int Rows, int Dim, class Team, class T>
KOKKOS_FUNCTION void start_rows(Team& team, T* tile, const SourceRows<T>& from, int count) {
  constexpr int groups = Dim / 8;
  if (from.in_groups()) {
    team.share(Rows * groups, [&](int group) {
      const int row = group / groups, col = group % groups * 8;
      T* to = tile + swizzled<Dim>(row, col);
      if (row < count && col < from.head_dim) {
        team.start_copy(to, from.data + row * from.row_stride + col);
      } else {
        team.clear_group(to);
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

template <int Dim, class Warp, class T>
KOKKOS_FUNCTION void load_a(const Warp& warp, Pairs<Warp>& a, const T* tile, int row, int k) {
  warp.template load_matrices<false>(a, tile, [&](int lane) {
    const Place begin = row_for_a(lane);
    return moved<Dim>(swizzled<Dim>(begin.row, begin.col), row, k);
  });
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
        const Place begin = row_for_b_transposed(lane);
        return moved<Dim>(swizzled<Dim>(begin.row, begin.col), 16 * n, 16 * k);
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

/// c[r][n] += A_r · tile, for weights A_r (16 x Depth) in C fragments. They are rounded to T, or with two Parts to a sum of
/// two numbers of type T.
/// \tparam Finite  where an element of the tile is not finite, 0 is taken
template <bool Finite, int Parts, int Dim, int RowTiles, int Depth, class Warp, class T>
KOKKOS_FUNCTION void add_products(const Warp& warp, Sums<Warp> (&c)[RowTiles][Dim / 8],
                                  const Sums<Warp> (&weights)[RowTiles][Depth / 8], const T* tile) {
  RONDO_UNROLL
  for (int k = 0; k < Depth / 16; ++k) {
    Pairs<Warp> left[Parts][RowTiles];
    RONDO_UNROLL
    for (int r = 0; r < RowTiles; ++r) {
      warp.each([&](int lane) {
        RONDO_UNROLL
        for (int i = 0; i < 4; ++i) {
          const auto& from = weights[r][2 * k + i / 2];
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
    RONDO_UNROLL
    for (int n = 0; n < Dim / 16; ++n) {
      Pairs<Warp> right;
      warp.template load_matrices<true>(right, tile, [&](int lane) {
        const Place begin = row_for_b(lane);
        return moved<Dim>(swizzled<Dim>(begin.row, begin.col), 16 * k, 16 * n);
      });
      if constexpr (Finite) {
        warp.each([&](int lane) {
          RONDO_UNROLL
          for (int i = 0; i < 4; ++i) right.at(lane, i) = finite_pair<T>(right.at(lane, i));
        });
      }
      RONDO_UNROLL
      for (int r = 0; r < RowTiles; ++r) {
        RONDO_UNROLL
        for (int part = Parts - 1; part >= 0; --part) {
          warp.template multiply_add<T>(c[r][2 * n], left[part][r], right, 0);
          warp.template multiply_add<T>(c[r][2 * n + 1], left[part][r], right, 2);
        }
      }
    }
  }
}

/// The same where some weights may be 0 because their pair is masked (unless `whole`), and such a product must not be made:
/// then elements of the tile that are not finite are left out. Returns whether there are some, for add_left_out.
template <int Parts, int Dim, int RowTiles, int Depth, class Warp, class T>
KOKKOS_FUNCTION bool add_weighted_rows(const Warp& warp, Sums<Warp> (&c)[RowTiles][Dim / 8],
                                       const Sums<Warp> (&weights)[RowTiles][Depth / 8], const T* tile, bool whole) {
  if (whole || !any_not_finite<Depth, Dim>(warp, tile)) {
    add_products<false, Parts, Dim, RowTiles, Depth>(warp, c, weights, tile);
    return false;
  }
  add_products<true, Parts, Dim, RowTiles, Depth>(warp, c, weights, tile);
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
  const auto count_at = [&](std::int64_t begin) {
    return static_cast<int>(run.count - begin < Rows ? run.count - begin : Rows);
  };
  const auto next = [&](std::int64_t begin, Coverage& coverage) {
    for (; begin < run.count; begin += Rows) {
      coverage = cover(run.part(begin, count_at(begin)));
      if (coverage != Coverage::none) break;
    }
    return begin;
  };
  Coverage coverage = Coverage::none;
  std::int64_t begin = next(0, coverage);
  if (begin < run.count) load(begin, count_at(begin), 0);
  team.end_group();
  for (int stage = 0; begin < run.count; stage = 1 - stage) {
    Coverage coverage_after = Coverage::none;
    const std::int64_t after = next(begin + Rows, coverage_after);
    if (after < run.count) load(after, count_at(after), 1 - stage);
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
