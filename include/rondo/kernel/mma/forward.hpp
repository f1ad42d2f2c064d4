/// \file
/// Forward pass on tensor cores: folds a piece of keys and values into the softmax state of a block of queries. The sums
/// of a warp's rows stay in registers while tiles of 64 keys pass through shared memory (Dao, arXiv 2307.08691).
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/mma/tile.hpp>
#include <rondo/kernel/portable/score_lanes.hpp>

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>

namespace rondo::mma {

/// m' = max(m, max s);  acc' = acc·2^(m - m') + Σ 2^(s - m')·v;  l likewise. Probabilities are rounded to T for the
/// product with the values; their sum l is not.
/// \tparam Dim   head_dim, or the next multiple of 64: what is missing is 0
/// \tparam Play  on_device; the tests have another
template <class T, int Dim, class Exec, class Play, ProblemType P>
struct ForwardFold {
  static constexpr int warps = 4;
  static constexpr int teams_together = 1;  ///< that a multiprocessor has to hold, at least
  static constexpr int row_tiles = 2;       ///< of 16 queries, for each warp
  static constexpr int warp_rows = 16 * row_tiles;
  static constexpr int block_rows = warps * warp_rows;
  static constexpr int tile_rows = Dim <= 64 ? 64 : tile_rows_for(64);
  static constexpr bool in_registers = Dim <= 64;  ///< queries; else they stay in shared memory
  static constexpr int query_elements = in_registers ? 0 : block_rows * Dim;
  static constexpr int shared_elements = query_elements + 4 * tile_rows * Dim;  ///< two tiles of keys, two of values
  static_assert(block_rows * Dim <= shared_elements);

  using Space = typename Exec::memory_space;
  using Member = typename Play::template Member<Exec>;
  using Team = typename Play::template Team<Member, warps>;
  using Warp = typename Team::Warp;

  P problem;
  Shape shape;
  Tensor<const T, 4, Space> q;
  Run queries;
  Tensor<const T, 4, Space> k;  ///< of the piece, [batch, tokens, kv_heads, head_dim]
  Tensor<const T, 4, Space> v;
  Run keys;
  SoftmaxState<float, Space> state;
  Phase phase;
  Tensor<T, 4, Space> out;  ///< with lse, where the phase is the last: instead of the state
  Tensor<float, 3, Space> lse;
  Base2<float> base2;  ///< the problem's

  KOKKOS_FUNCTION void operator()(const Member& member) const {
    const auto part = query_block<block_rows>(member.league_rank(), queries.count, shape.heads);
    const int b = part.b, head = part.head, row = part.row;
    const int count = queries.count - row < block_rows ? queries.count - row : block_rows;
    const Run mine = queries.part(row, count);
    const ScoreTile<P, float> scores{problem, b, head};
    if (!phase.first && !phase.last && scores.coverage(mine, keys) == Coverage::none) return;

    Team team{member};
    T* const shared = static_cast<T*>(Play::shared(member, sizeof(T) * shared_elements));
    typename Team::template PerWarp<Rows> held;
    start_rows<block_rows, Dim>(team, shared, rows_of(q, b, row, head), count);
    team.end_group();
    team.template wait<0>();
    team.barrier();
    if (scores.sign() != 1.0f) {
      team.share(block_rows * Dim, [&](int i) { shared[i] = T(static_cast<float>(shared[i]) * scores.sign()); });
      team.barrier();
    }
    team.warps([&](const Warp& warp) {
      load_queries(warp, held[warp], shared);
      load_state(warp, held[warp], part, count);
    });
    team.barrier();

    const int kv_head = head / (shape.heads / shape.kv_heads);
    const auto cover = [&](const Run& tile) {
      return whole_or_some(scores.coverage(mine, tile), count == block_rows && tile.count == tile_rows);
    };
    for_tiles<tile_rows>(
        team, keys, cover,
        [&](std::int64_t begin, int tile_count, int stage) {
          start_rows<tile_rows, Dim>(team, place(shared, stage, 0), rows_of(k, b, begin, kv_head), tile_count);
          start_rows<tile_rows, Dim>(team, place(shared, stage, 1), rows_of(v, b, begin, kv_head), tile_count);
        },
        [&](std::int64_t begin, int tile_count, Coverage coverage, int stage) {
          const Run tile = keys.part(begin, tile_count);
          team.warps([&](const Warp& warp) {
            fold_tile(warp, held[warp], scores, mine, tile, coverage == Coverage::all, shared, place(shared, stage, 0));
          });
        });
    team.warps([&](const Warp& warp) {
      const auto again = query_block<block_rows>(member.league_rank(), queries.count, shape.heads);
      warp.combine_rows(held[warp].l, [](float x, float y) { return x + y; });
      if (!phase.last || held[warp].left_out) store_state(warp, held[warp], again, count);
      if (held[warp].left_out) {
        add_left_out<Dim, warp_rows, tile_rows>(
            warp, rows_of(v, again.b, 0, kv_head), keys, cover,
            [&](int i, std::int64_t j) { return i < count && scores.allowed(mine.at(i), keys.at(j)); },
            [&](int i, int d, float x) { state.acc(again.b, again.row + i, again.head, d) += x; });
        if (!phase.last) return;
        load_sums(warp, held[warp], again, count);  // to which each lane has added
      } else if (!phase.last) {
        return;
      }
      finish(warp, held[warp], again, count);
    });
  }

 private:
  /// What a warp keeps of its rows. A row of sums is shared by four lanes; each has its part of l.
  struct Rows {
    Pairs<Warp> q[row_tiles][in_registers ? Dim / 16 : 1];
    Sums<Warp> acc[row_tiles][Dim / 8];
    Held<Warp, float, 2 * row_tiles> m;
    Held<Warp, float, 2 * row_tiles> l;
    bool left_out = false;  ///< elements of values that are not finite
  };

  KOKKOS_FUNCTION static T* place(T* shared, int stage, int which) {
    return shared + query_elements + (2 * stage + which) * tile_rows * Dim;
  }

  /// The row of a lane's numbers 2 · half and 2 · half + 1 of a C fragment, counted from the warp's first.
  KOKKOS_FUNCTION static constexpr int row_in_warp(int lane, int r, int half) {
    return 16 * r + place_in_c(lane, 2 * half).row;
  }

  KOKKOS_FUNCTION static void load_queries(const Warp& warp, Rows& held, const T* shared) {
    if constexpr (in_registers) {
      RONDO_UNROLL
      for (int r = 0; r < row_tiles; ++r) {
        RONDO_UNROLL
        for (int step = 0; step < Dim / 16; ++step) load_query(warp, held.q[r][step], shared, r, step);
      }
    }
  }
  KOKKOS_FUNCTION static void load_query(const Warp& warp, Pairs<Warp>& a, const T* shared, int r, int step) {
    load_a<Dim>(warp, a, shared, warp.number * warp_rows + 16 * r, 16 * step);
  }

  /// Calls f(i, row, lane's place in registers) for the two rows of each C fragment that a lane has a part of.
  template <class F>
  KOKKOS_FUNCTION static void for_rows(const Warp& warp, int lane, const F& f) {
    RONDO_UNROLL
    for (int r = 0; r < row_tiles; ++r) {
      RONDO_UNROLL
      for (int half = 0; half < 2; ++half) f(r, half, warp.number * warp_rows + row_in_warp(lane, r, half));
    }
  }

  /// Calls f(n, e, element) for those of a row's elements that a lane has sums of in C fragment n. (One address after the
  /// other, which takes fewest registers.)
  template <class X, class F>
  KOKKOS_FUNCTION void for_columns(int lane, int half, X* row, std::size_t stride, const F& f) const {
    int d = place_in_c(lane, 0).col;
    row += d * stride;
    RONDO_UNROLL
    for (int n = 0; n < Dim / 8; ++n, d += 8, row += 8 * stride) {
      if (d < shape.head_dim) f(n, 2 * half, *row);
      if (d + 1 < shape.head_dim) f(n, 2 * half + 1, row[stride]);
    }
  }

  /// (Rows that stand for nothing get another's numbers, which are never stored: a test of each would take
  /// registers.)
  KOKKOS_FUNCTION void load_state(const Warp& warp, Rows& held, const RowBlock& part, int count) const {
    warp.each_anew([&](int lane) {
      for_rows(warp, lane, [&](int r, int half, int i) {
        float& m = held.m.at(lane, 2 * r + half);
        float& l = held.l.at(lane, 2 * r + half);
        m = detail::minus_infinity<float>;
        l = 0.0f;
        RONDO_UNROLL
        for (int n = 0; n < Dim / 8; ++n) {
          held.acc[r][n].at(lane, 2 * half) = 0.0f;
          held.acc[r][n].at(lane, 2 * half + 1) = 0.0f;
        }
        if (phase.first) return;
        const int known = part.row + (i < count ? i : count - 1);
        m = state.m(part.b, part.head, known);
        if (lane % 4 == 0) l = state.l(part.b, part.head, known);
      });
    });
    if (!phase.first) load_sums(warp, held, part, count);
  }

  KOKKOS_FUNCTION void load_sums(const Warp& warp, Rows& held, const RowBlock& part, int count) const {
    warp.each_anew([&](int lane) {
      for_rows(warp, lane, [&](int r, int half, int i) {
        for_columns(lane, half, &state.acc(part.b, part.row + (i < count ? i : count - 1), part.head, 0),
                    state.acc.stride(3), [&](int n, int e, const float& x) { held.acc[r][n].at(lane, e) = x; });
      });
    });
  }

  KOKKOS_FUNCTION void store_state(const Warp& warp, Rows& held, const RowBlock& part, int count) const {
    warp.each_anew([&](int lane) {
      for_rows(warp, lane, [&](int r, int half, int i) {
        if (i >= count) return;
        if (lane % 4 == 0) {
          state.m(part.b, part.head, part.row + i) = held.m.at(lane, 2 * r + half);
          state.l(part.b, part.head, part.row + i) = held.l.at(lane, 2 * r + half);
        }
        for_columns(lane, half, &state.acc(part.b, part.row + i, part.head, 0), state.acc.stride(3),
                    [&](int n, int e, float& x) { x = held.acc[r][n].at(lane, e); });
      });
    });
  }

  /// What portable_kernel's finish makes of the state.
  KOKKOS_FUNCTION void finish(const Warp& warp, Rows& held, const RowBlock& part, int count) const {
    warp.each_anew([&](int lane) {
      for_rows(warp, lane, [&](int r, int half, int i) {
        if (i >= count) return;
        const Finished<float> end =
            finished(problem, base2, part.head, held.m.at(lane, 2 * r + half), held.l.at(lane, 2 * r + half));
        if (lane % 4 == 0) lse(part.b, part.head, part.row + i) = end.lse;
        const float factor = end.divisor == 0.0f ? 0.0f : 1.0f / end.divisor;
        for_columns(lane, half, &out(part.b, part.row + i, part.head, 0), out.stride(3), [&](int n, int e, T& x) {
          x = T(end.divisor == 0.0f ? 0.0f : held.acc[r][n].at(lane, e) * factor);
        });
      });
    });
  }

  /// \param whole  none of the tile's pairs is masked, or stands for no query or no key
  template <class Scores>
  KOKKOS_FUNCTION static void fold_tile(const Warp& warp, Rows& held, const Scores& scores, const Run& mine,
                                        const Run& tile, bool whole, const T* own, const T* k) {
    Sums<Warp> s[row_tiles][tile_rows / 8] = {};
    add_inner_products<Dim, row_tiles, tile_rows>(
        warp, s,
        [&](int r, int step, Pairs<Warp>& a) {
          if constexpr (in_registers) {
            a = held.q[r][step];
          } else {
            load_query(warp, a, own, r, step);
          }
        },
        k);

    Held<Warp, float, 2 * row_tiles> largest;
    if (whole) {
      keep_scores<false>(warp, s, largest, scores, mine, tile);
    } else {
      keep_scores<true>(warp, s, largest, scores, mine, tile);
    }
    warp.combine_rows(largest, [](float x, float y) { return Kokkos::fmax(x, y); });
    rise(warp, held, largest);
    Pairs<Warp> p[row_tiles][tile_rows / 16];  // half as many registers while they wait to be multiplied
    warp.each([&](int lane) {
      for_rows(warp, lane, [&](int r, int half, int i) {
        const float reference = detail::finite_maximum(held.m.at(lane, 2 * r + half));
        float& l = held.l.at(lane, 2 * r + half);
        for_scores(lane, half, [&](int n, int e, int j) {
          float& x = s[r][n].at(lane, e);
          x = detail::exp2(scores.above(x, reference));
          l += x;
          if constexpr (P::has_dropout) x = scores.keeps(mine.at(i), tile.at(j)) ? x : 0.0f;
          if (e % 2 == 0) return;
          p[r][n / 2].at(lane, n % 2 * 2 + half) = Warp::template rounded_pair<T>(s[r][n].at(lane, e - 1), x);
        });
      });
    });
    held.left_out |= add_weighted_rows<Dim, row_tiles, tile_rows>(
        warp, held.acc, WeightPairs<row_tiles, tile_rows, Warp>{p}, k + tile_rows * Dim, whole);
  }

  /// The maxima rise to what a tile has; where one does, its row's sums so far shrink.
  KOKKOS_FUNCTION static void rise(const Warp& warp, Rows& held, Held<Warp, float, 2 * row_tiles>& largest) {
    const auto rises = [&](int lane) {
      bool any = false;
      RONDO_UNROLL
      for (int i = 0; i < 2 * row_tiles; ++i) any |= largest.at(lane, i) > held.m.at(lane, i);
      return any;
    };
    warp.each_if_any(rises, [&](int lane) {
      for_rows(warp, lane, [&](int r, int half, int) {
        float& m = held.m.at(lane, 2 * r + half);
        const float top = largest.at(lane, 2 * r + half) > m ? largest.at(lane, 2 * r + half) : m;
        const float factor = detail::exp2(m - detail::finite_maximum(top));
        m = top;
        held.l.at(lane, 2 * r + half) *= factor;
        RONDO_UNROLL
        for (int n = 0; n < Dim / 8; ++n) {
          held.acc[r][n].at(lane, 2 * half) *= factor;
          held.acc[r][n].at(lane, 2 * half + 1) *= factor;
        }
      });
    });
  }

  /// Inner products become what is kept of them, -inf where a pair is masked, and of each row the largest score is found.
  template <bool Tested, class Scores>
  KOKKOS_FUNCTION static void keep_scores(const Warp& warp, Sums<Warp> (&s)[row_tiles][tile_rows / 8],
                                          Held<Warp, float, 2 * row_tiles>& largest, const Scores& scores,
                                          const Run& mine, const Run& tile) {
    const auto keep = [&](int lane) {
      for_rows(warp, lane, [&](int r, int half, int i) {
        const std::uint32_t visible = Tested ? lane_sees_keys<tile_rows>(lane, scores, mine, i, tile) : ~0u;
        float top = detail::minus_infinity<float>;
        for_scores(lane, half, [&](int n, int e, int j) {
          float& x = s[r][n].at(lane, e);
          const bool counts = (visible >> (2 * n + e % 2) & 1u) != 0;
          x = counts ? scores.kept(x, mine.at(i), tile.at(j)) : detail::minus_infinity<float>;
          top = Kokkos::fmax(x, top);  // of NaN and a number, the number
        });
        largest.at(lane, 2 * r + half) = scores.base2(top);
      });
    };
    if constexpr (Tested) {
      warp.each_anew(keep);
    } else {
      warp.each(keep);
    }
  }

  /// Calls f(n, e, key) for a lane's scores of one row.
  template <class F>
  KOKKOS_FUNCTION static void for_scores(int lane, int half, const F& f) {
    RONDO_UNROLL
    for (int n = 0; n < tile_rows / 8; ++n) {
      RONDO_UNROLL
      for (int e = 2 * half; e < 2 * half + 2; ++e) f(n, e, 8 * n + place_in_c(lane, e).col);
    }
  }
};

}  // namespace rondo::mma
