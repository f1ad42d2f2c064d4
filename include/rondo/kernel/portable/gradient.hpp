/// \file
/// Backward pass of the portable kernel, in two halves that write disjoint rows: no atomics, one order of every sum.
/// With p = e^(s - lse):  grad_v += pᵀ·grad_out;  ds = p ∘ (grad_out·vᵀ - delta);  grad_q += scale·ds·k;
/// grad_k += scale·dsᵀ·q  (Dao, arXiv 2307.08691, section 3.1). Both halves compute p: 7 products where 5 would do.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/portable/score_lanes.hpp>
#include <rondo/launch.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo::portable {

/// What both halves read.
template <class T, class A, class Exec, ProblemType P>
struct GradientInput {
  using Space = typename Exec::memory_space;

  P problem;
  Shape shape;
  Tensor<const T, 4, Space> q;
  Tensor<const T, 4, Space> grad_out;
  Tensor<const A, 3, Space> lse;
  Tensor<const A, 3, Space> delta;
  Run queries;
  Wire<T> wire;
  Run keys;
  Base2<A> base2 = base2_of<A>(problem);
  int level = 0;  ///< of the team's scratch memory, where a kernel has a choice
};

/// Σ over d of x · y, in A. On a host in the order of grad_out·v, one product fused to the sum after the other: where out is v,
/// as for a query that sees one key, the two are the same bits, and their difference is 0.
template <class Exec, class A, class T>
KOKKOS_FUNCTION A row_product(const detail::Row<Exec>& row, const T* x, std::int64_t x_stride, const T* y,
                              std::int64_t y_stride, int dim) {
  if constexpr (detail::is_host<Exec>) {
    A sum{0}, of_part{0};
    for (int d = 0; d < dim; ++d) {
      of_part += static_cast<A>(x[d * x_stride]) * static_cast<A>(y[d * y_stride]);
      if ((d + 1) % depth_part == 0 || d + 1 == dim) {
        sum += of_part;
        of_part = A{0};
      }
    }
    return sum;
  } else {
    return row.template sum<A>(dim, [&](int d, int count) {
      detail::Eight<T> one, other;
      one.read(x + d * x_stride, x_stride, count);
      other.read(y + d * y_stride, y_stride, count);
      A of_part{0};
      for (int e = 0; e < count; ++e) of_part += static_cast<A>(one.x[e]) * static_cast<A>(other.x[e]);
      return of_part;
    });
  }
}

/// p and ds of one (query, key) from their inner products. With dropout, the p that values are multiplied by.
template <class Scores, class A>
KOKKOS_FUNCTION void probability_and_gradient(const Scores& scores, A lse2, A lse2_factor, A delta, std::int64_t i,
                                              std::int64_t j, A& dot_then_p, A& dp_then_ds) {
  const A dot = dot_then_p;
  const A p = scores.probability(dot, lse2, lse2_factor, i, j);
  const A weight = scores.keeps(i, j) ? scores.keep_factor() : A{0};
  dot_then_p = p * weight;
  dp_then_ds = scores.gradient(p, dp_then_ds * weight, delta, dot, i, j);
}

/// Adds what a tile of 64 queries and some keys gives to the parameters of its head: one thread, one order.
template <class Member, class Scores, class A>
KOKKOS_FUNCTION void add_parameters(const Member& team, const Scores& scores, double* sums, const A* s, const A* ds,
                                    const A* visible, const A* lse2, const A* lse2_factor, const A* delta,
                                    const Run& queries, const Run& keys) {
  Kokkos::single(Kokkos::PerThread(team), [&] {
    for (int r = 0; r < keys.count; ++r) {
      for (int x = 0; x < queries.count; ++x) {
        if (visible[r * lanes + x] == A{0}) continue;
        const std::int64_t i = queries.at(x), j = keys.at(r);
        const A dot = s[r * lanes + x];
        const A weight = scores.keeps(i, j) ? scores.keep_factor() : A{0};
        const A p = scores.probability(dot, lse2[x], lse2_factor[x], i, j);
        scores.add_parameter(sums, p * (ds[r * lanes + x] * weight - delta[x]), dot, i, j);
      }
    }
  });
}

/// sums += those of the teams, in their order.
/// \param team_sums  [batch, heads, query_blocks, per_head]
/// \param sums       [heads, per_head]
template <class Exec>
void add_teams(const Exec& exec, const Shape& shape, int per_head, int query_blocks, const double* team_sums,
               double* sums) {
  const Shape s = shape;
  Kokkos::parallel_for(
      "rondo::sums", detail::range(exec, shape.heads * per_head), KOKKOS_LAMBDA(std::int64_t index) {
        const std::int64_t head = index / per_head;
        for (int b = 0; b < s.batch; ++b) {
          for (int block = 0; block < query_blocks; ++block) {
            const std::int64_t team = (std::int64_t{b} * s.heads + head) * query_blocks + block;
            sums[index] += team_sums[team * per_head + index % per_head];
          }
        }
      });
}

/// grad_q of 64 queries a team: a lane is a query, rows are the piece's keys.
template <class T, class A, class Exec, ProblemType P>
struct QueryGradient {
  using Space = typename Exec::memory_space;
  using Member = typename Kokkos::TeamPolicy<Exec>::member_type;

  GradientInput<T, A, Exec, P> in;
  Tensor<A, 4, Space> grad_q;
  double* team_sums;  ///< [teams, parameters_per_head], or null

  KOKKOS_FUNCTION static int scratch_rows(const Shape& shape) {
    return 2 * shape.head_dim + shape.value_dim + 3 * tile_rows + 3;
  }

  KOKKOS_FUNCTION void operator()(const Member& team) const {
    const int blocks = (in.queries.count + lanes - 1) / lanes;
    const int row = team.league_rank() % blocks * lanes;
    const int head = team.league_rank() / blocks % in.shape.heads;
    const int b = team.league_rank() / blocks / in.shape.heads;
    const Run mine = in.queries.part(row, Kokkos::min<std::int64_t>(lanes, in.queries.count - row));
    const int count = mine.count;
    const ScoreTile<P, A> scores{in.problem, b, head};
    if (scores.coverage(mine, in.keys) == Coverage::none) return;

    const int dim = in.shape.head_dim, value_dim = in.shape.value_dim;
    LaneScratch<A> scratch{team, in.level, scratch_rows(in.shape)};
    A* query = scratch.rows(dim);
    A* grad_out = scratch.rows(value_dim);
    A* sums = scratch.rows(dim);
    A* s = scratch.rows(tile_rows);
    A* ds = scratch.rows(tile_rows);
    A* visible = scratch.rows(tile_rows);
    A* lse2 = scratch.rows(1);
    A* lse2_factor = scratch.rows(1);
    A* delta = scratch.rows(1);
    load_lanes(team, query, dim, count, [&](int x, int d) { return static_cast<A>(in.q(b, row + x, head, d)); });
    load_lanes(team, grad_out, value_dim, count,
               [&](int x, int d) { return static_cast<A>(in.grad_out(b, row + x, head, d)); });
    load_lanes(team, lse2, 1, count, [&](int x, int) { return in.base2.lse2(in.lse(b, head, row + x)); });
    load_lanes(team, lse2_factor, 1, count, [&](int x, int) { return in.base2.lse2_factor(in.lse(b, head, row + x)); });
    load_lanes(team, delta, 1, count, [&](int x, int) { return in.delta(b, head, row + x); });
    fill(team, sums, dim, A{0});

    const int kv_head = head / (in.shape.heads / in.shape.kv_heads);
    const WireRows<T> k = in.wire.keys(b, kv_head);
    const WireRows<T> v = in.wire.values(b, kv_head);
    for (std::int32_t begin = 0; begin < in.keys.count; begin += tile_rows) {
      const Run tile = in.keys.part(begin, Kokkos::min<std::int64_t>(tile_rows, in.keys.count - begin));
      const Coverage coverage = scores.coverage(mine, tile);
      if (coverage == Coverage::none) continue;
      fill(team, s, tile.count, A{0});
      fill(team, ds, tile.count, A{0});
      add_product(team, s, query, tile.count, dim, [&](int r, int d) { return k.template at<A>(begin + r, d); });
      add_inner_product(team, ds, grad_out, tile.count, value_dim,
                        [&](int r, int d) { return v.template at<A>(begin + r, d); });
      for (int r = 0; r < tile.count; ++r) {
        const std::int64_t j = tile.at(r);
        A* KOKKOS_RESTRICT seen = visible + r * lanes;
        for_lanes(team, [=](int x) {
          seen[x] = coverage == Coverage::all || (x < mine.count && scores.allowed(mine.at(x), j)) ? A{1} : A{0};
        });
      }
      if constexpr (ScoreTile<P, A>::learned) {
        if (team_sums != nullptr) {
          double* const sums_of_head = team_sums + team.league_rank() * in.problem.score.parameters_per_head();
          add_parameters(team, scores, sums_of_head, s, ds, visible, lse2, lse2_factor, delta, mine, tile);
        }
      }
      for (int r = 0; r < tile.count; ++r) {
        const std::int64_t j = tile.at(r);
        A* KOKKOS_RESTRICT p = s + r * lanes;
        A* KOKKOS_RESTRICT gradient = ds + r * lanes;
        for_lanes(team, [=](int x) {
          probability_and_gradient(scores, lse2[x], lse2_factor[x], delta[x], mine.at(x), j, p[x], gradient[x]);
        });
      }
      const auto key = [&](int d, int r) { return k.template at<A>(begin + r, d); };
      if (coverage == Coverage::all) {
        add_product(team, sums, ds, dim, tile.count, key);
      } else {
        add_masked_product(team, sums, ds, visible, dim, tile.count, key);
      }
    }
    const auto& out = grad_q;
    for (int d = 0; d < dim; ++d) {
      for_lanes(team, [=](int x) {
        if (x < count) out(b, row + x, head, d) += sums[d * lanes + x];
      });
    }
  }
};

/// grad_k and grad_v of 64 keys a team: a lane is a key, rows are the queries of every head that this kv head serves.
template <class T, class A, class Exec, ProblemType P>
struct KeyValueGradient {
  using Space = typename Exec::memory_space;
  using Member = typename Kokkos::TeamPolicy<Exec>::member_type;

  GradientInput<T, A, Exec, P> in;
  Tensor<A, 4, Space> grad_k;
  Tensor<A, 4, Space> grad_v;

  KOKKOS_FUNCTION static int scratch_rows(const Shape& shape) {
    return 2 * (shape.head_dim + shape.value_dim) + 3 * tile_rows;
  }

  KOKKOS_FUNCTION void operator()(const Member& team) const {
    const int blocks = (in.keys.count + lanes - 1) / lanes;
    const int row = team.league_rank() % blocks * lanes;
    const int kv_head = team.league_rank() / blocks % in.shape.kv_heads;
    const int b = team.league_rank() / blocks / in.shape.kv_heads;
    const Run mine = in.keys.part(row, Kokkos::min<std::int64_t>(lanes, in.keys.count - row));
    const int count = mine.count;

    const int dim = in.shape.head_dim, value_dim = in.shape.value_dim;
    LaneScratch<A> scratch{team, in.level, scratch_rows(in.shape)};
    A* key = scratch.rows(dim);
    A* value = scratch.rows(value_dim);
    A* key_sums = scratch.rows(dim);
    A* value_sums = scratch.rows(value_dim);
    A* s = scratch.rows(tile_rows);
    A* ds = scratch.rows(tile_rows);
    A* visible = scratch.rows(tile_rows);
    const WireRows<T> k = in.wire.keys(b, kv_head);
    const WireRows<T> v = in.wire.values(b, kv_head);
    load_lanes(team, key, dim, count, [&](int x, int d) { return k.template at<A>(row + x, d); });
    load_lanes(team, value, value_dim, count, [&](int x, int d) { return v.template at<A>(row + x, d); });
    fill(team, key_sums, dim, A{0});
    fill(team, value_sums, value_dim, A{0});

    const int group = in.shape.heads / in.shape.kv_heads;
    for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const ScoreTile<P, A> scores{in.problem, b, head};
      for (std::int32_t begin = 0; begin < in.queries.count; begin += tile_rows) {
        const Run tile = in.queries.part(begin, Kokkos::min<std::int64_t>(tile_rows, in.queries.count - begin));
        const Coverage coverage = scores.coverage(tile, mine);
        if (coverage == Coverage::none) continue;
        const auto query = [&](int r, int d) { return static_cast<A>(in.q(b, begin + r, head, d)); };
        const auto grad_out = [&](int r, int d) { return static_cast<A>(in.grad_out(b, begin + r, head, d)); };
        fill(team, s, tile.count, A{0});
        fill(team, ds, tile.count, A{0});
        add_product(team, s, key, tile.count, dim, query);
        add_inner_product(team, ds, value, tile.count, value_dim, grad_out);
        for (int r = 0; r < tile.count; ++r) {
          const std::int64_t i = tile.at(r);
          const A lse2 = in.base2.lse2(in.lse(b, head, begin + r));
          const A lse2_factor = in.base2.lse2_factor(in.lse(b, head, begin + r));
          const A delta = in.delta(b, head, begin + r);
          A* KOKKOS_RESTRICT p = s + r * lanes;
          A* KOKKOS_RESTRICT gradient = ds + r * lanes;
          A* KOKKOS_RESTRICT seen = visible + r * lanes;
          for_lanes(team, [=](int x) {
            seen[x] = coverage == Coverage::all || (x < count && scores.allowed(i, mine.at(x))) ? A{1} : A{0};
          });
          for_lanes(team, [=](int x) {
            probability_and_gradient(scores, lse2, lse2_factor, delta, i, mine.at(x), p[x], gradient[x]);
          });
        }
        const auto query_column = [&](int d, int r) { return query(r, d); };
        const auto grad_out_column = [&](int d, int r) { return grad_out(r, d); };
        if (coverage == Coverage::all) {
          add_product(team, value_sums, s, value_dim, tile.count, grad_out_column);
          add_product(team, key_sums, ds, dim, tile.count, query_column);
        } else {
          add_masked_product(team, value_sums, s, visible, value_dim, tile.count, grad_out_column);
          add_masked_product(team, key_sums, ds, visible, dim, tile.count, query_column);
        }
      }
    }
    const auto& to_k = grad_k;
    const auto& to_v = grad_v;
    for (int d = 0; d < dim; ++d) {
      for_lanes(team, [=](int x) {
        if (x < count) to_k(b, row + x, kv_head, d) += key_sums[d * lanes + x];
      });
    }
    for (int d = 0; d < value_dim; ++d) {
      for_lanes(team, [=](int x) {
        if (x < count) to_v(b, row + x, kv_head, d) += value_sums[d * lanes + x];
      });
    }
  }
};

}  // namespace rondo::portable
