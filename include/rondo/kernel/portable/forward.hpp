/// \file
/// Forward pass of the portable kernel: folds a piece of keys and values into the softmax state of 64 queries a team.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/portable/score_lanes.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo::portable {

/// m' = max(m, max s);  acc' = acc·2^(m - m') + Σ 2^(s - m')·v;  l likewise (Liu & Abbeel, arXiv 2305.19370, with the
/// running maximum of Milakov & Gimelshein). A lane is a query; m, l and the columns of acc stay in the team's scratch.
template <class T, class A, class Exec, ProblemType P>
struct ForwardFold {
  using Space = typename Exec::memory_space;
  using Member = typename Kokkos::TeamPolicy<Exec>::member_type;

  P problem;
  Shape shape;
  Tensor<const T, 4, Space> q;
  Run queries;
  Wire<T> wire;
  Run keys;
  SoftmaxState<A, Space> state;
  bool first;
  int level;

  KOKKOS_FUNCTION static int scratch_rows(const Shape& shape) {
    return shape.head_dim + shape.value_dim + 2 * tile_rows + 3;
  }

  KOKKOS_FUNCTION void operator()(const Member& team) const {
    const int blocks = (queries.count + lanes - 1) / lanes;
    const int block = team.league_rank() % blocks;
    const int head = team.league_rank() / blocks % shape.heads;
    const int b = team.league_rank() / blocks / shape.heads;
    const int row = block * lanes;
    const Run mine = queries.part(row, Kokkos::min<std::int64_t>(lanes, queries.count - row));
    const ScoreTile<P, A> scores{problem, b, head};
    if (!first && scores.coverage(mine, keys) == Coverage::none) return;

    const int dim = shape.head_dim, value_dim = shape.value_dim;
    LaneScratch<A> scratch{team, level, scratch_rows(shape)};
    A* query = scratch.rows(dim);
    A* acc = scratch.rows(value_dim);
    A* s = scratch.rows(tile_rows);
    A* visible = scratch.rows(tile_rows);
    A* m = scratch.rows(1);
    A* l = scratch.rows(1);
    A* factor = scratch.rows(1);

    load_lanes(team, query, dim, mine.count,
               [&](int lane, int d) { return static_cast<A>(q(b, row + lane, head, d)) * scores.sign(); });
    load_state(team, b, head, row, mine.count, m, l, acc);

    const int kv_head = head / (shape.heads / shape.kv_heads);
    const WireRows<T> k = wire.keys(b, kv_head);
    const WireRows<T> v = wire.values(b, kv_head);
    for (std::int32_t begin = 0; begin < keys.count; begin += tile_rows) {
      const Run tile = keys.part(begin, Kokkos::min<std::int64_t>(tile_rows, keys.count - begin));
      const Coverage coverage = scores.coverage(mine, tile);
      if (coverage == Coverage::none) continue;
      fill(team, s, tile.count, A{0});
      add_product(team, s, query, tile.count, dim, [&](int r, int d) { return k.template at<A>(begin + r, d); });
      score_query_lanes(team, scores, s, visible, mine, tile, coverage);
      exponentiate(team, scores, s, tile.count, m, l, factor);
      if constexpr (P::has_dropout) drop(team, scores, s, mine, tile);
      for (int d = 0; d < value_dim; ++d) {
        A* column = acc + d * lanes;
        for_lanes(team, [=](int lane) { column[lane] *= factor[lane]; });
      }
      const auto value = [&](int d, int r) { return v.template at<A>(begin + r, d); };
      if (coverage == Coverage::all) {
        add_product(team, acc, s, value_dim, tile.count, value);
      } else {
        add_masked_product(team, acc, s, visible, value_dim, tile.count, value);
      }
    }
    store_state(team, b, head, row, mine.count, m, l, acc);
  }

 private:
  KOKKOS_FUNCTION void load_state(const Member& team, int b, int head, int row, int count, A* m, A* l, A* acc) const {
    const bool fresh = first;
    const auto& from = state;
    for_lanes(team, [=](int lane) {
      const bool held = !fresh && lane < count;
      m[lane] = held ? from.m(b, head, row + lane) : detail::minus_infinity<A>;
      l[lane] = held ? from.l(b, head, row + lane) : A{0};
    });
    load_lanes(team, acc, shape.value_dim, fresh ? 0 : count,
               [&](int lane, int d) { return from.acc(b, row + lane, head, d); });
  }

  KOKKOS_FUNCTION void store_state(const Member& team, int b, int head, int row, int count, const A* m, const A* l,
                                   const A* acc) const {
    const auto& to = state;
    for_lanes(team, [=](int lane) {
      if (lane >= count) return;
      to.m(b, head, row + lane) = m[lane];
      to.l(b, head, row + lane) = l[lane];
    });
    for (int d = 0; d < shape.value_dim; ++d) {
      for_lanes(team, [=](int lane) {
        if (lane < count) to.acc(b, row + lane, head, d) = acc[d * lanes + lane];
      });
    }
  }

  /// Probabilities that dropout takes become 0; l keeps them.
  KOKKOS_FUNCTION static void drop(const Member& team, const ScoreTile<P, A>& scores, A* s, const Run& queries,
                                   const Run& tile) {
    for (int r = 0; r < tile.count; ++r) {
      const std::int64_t j = tile.at(r);
      A* KOKKOS_RESTRICT p = s + r * lanes;
      for_lanes(team, [=](int lane) { p[lane] = scores.keeps(queries.at(lane), j) ? p[lane] : A{0}; });
    }
  }

  /// Scores become 2^(s - m') in place; m and l move on; `factor` is 2^(m - m'), by which acc has to shrink.
  KOKKOS_FUNCTION static void exponentiate(const Member& team, const ScoreTile<P, A>& scores, A* KOKKOS_RESTRICT s,
                                           int rows, A* KOKKOS_RESTRICT m, A* KOKKOS_RESTRICT l,
                                           A* KOKKOS_RESTRICT factor) {
    for_lanes(team, [=](int lane) { factor[lane] = m[lane]; });
    for (int r = 0; r < rows; ++r) {
      const A* KOKKOS_RESTRICT score = s + r * lanes;
      for_lanes(team, [=](int lane) {
        const A here = scores.base2(score[lane]);
        m[lane] = here > m[lane] ? here : m[lane];
      });
    }
    for_lanes(team, [=](int lane) {
      factor[lane] = detail::exp2(factor[lane] - detail::finite_maximum(m[lane]));
      l[lane] *= factor[lane];
    });
    for (int r = 0; r < rows; ++r) {
      A* KOKKOS_RESTRICT p = s + r * lanes;
      for_lanes(team, [=](int lane) {
        p[lane] = detail::exp2(scores.above(p[lane], detail::finite_maximum(m[lane])));
        l[lane] += p[lane];
      });
    }
  }
};

}  // namespace rondo::portable
