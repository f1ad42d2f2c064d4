/// \file
/// Forward pass on tensor cores: folds a piece of keys and values into the softmax state of a block of queries. The sums
/// of a warp's rows stay in registers while tiles of keys pass through shared memory (Dao, arXiv 2307.08691).
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/tensor_core/rows.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo::tensor_core {

/// m' = max(m, max s);  acc' = acc·2^(m - m') + Σ 2^(s - m')·v;  l likewise. Probabilities are rounded to T for the
/// product with the values; their sum l is not.
/// \tparam Model  whose instructions, and which lane holds what: mfma::Model
/// \tparam Dim    head_dim, or the next multiple of 64: what is missing is 0
/// \tparam Play   on_device; the tests have another
template <class Model, class T, int Dim, class Exec, class Play, ProblemType P>
struct ForwardFold {
  using Space = typename Exec::memory_space;
  using Member = typename Kokkos::TeamPolicy<Exec>::member_type;
  using Team = typename Play::template Team<Member, Model::warps>;
  using Warp = typename Team::Warp;
  using Block = typename Model::template ForwardBlock<T, Dim, Team>;
  using Lanes = typename Block::Lanes;

  static constexpr int threads = Model::warps * Model::lanes;
  static constexpr int warps = Model::warps;
  static constexpr int block_rows = Block::block_rows;
  static constexpr int tile_rows = Block::tile_rows;
  static constexpr int shared_elements = Block::shared_elements;

  P problem;
  Shape shape;
  Tensor<const T, 4, Space> q;
  Run queries;
  portable::Wire<T> wire;
  Run keys;
  SoftmaxState<float, Space> state;
  bool first;

  KOKKOS_FUNCTION void operator()(const Member& member) const {
    const int blocks = (queries.count + block_rows - 1) / block_rows;
    // Under a causal mask the last queries have most to do: they go first.
    const int row = (blocks - 1 - member.league_rank() % blocks) * block_rows;
    const int head = member.league_rank() / blocks % shape.heads;
    const int b = member.league_rank() / blocks / shape.heads;
    const int count = queries.count - row < block_rows ? queries.count - row : block_rows;
    const Run mine = queries.part(row, count);
    const ScoreTile<P, float> scores{problem, b, head};
    if (!first && scores.coverage(mine, keys) == Coverage::none) return;

    Team team{member};
    Block block{static_cast<T*>(
        member.team_scratch(int{Play::scratch_level}).get_shmem_aligned(sizeof(T) * shared_elements, 16))};
    typename Team::template PerWarp<Rows> held;
    block.load_own(team, 0, rows_of(q, b, row, head), count);
    team.warps([&](const Warp& warp) { load_state(warp, held[warp], b, head, row, count); });

    const int kv_head = head / (shape.heads / shape.kv_heads);
    const portable::WireRows<T> k = wire.keys(b, kv_head);
    const portable::WireRows<T> v = wire.values(b, kv_head);
    const auto cover = [&](const Run& tile) {
      return whole_or_some(scores.coverage(mine, tile), count == block_rows && tile.count == tile_rows);
    };
    block.for_tiles(
        team, VisibleTiles<tile_rows, decltype(cover)>{keys, cover},
        [&](std::int64_t begin, int tile_count, int stage) {
          block.start(team, 0, rows_of_wire(k, begin), tile_count, stage);
          block.start(team, 1, rows_of_wire(v, begin), tile_count, stage);
        },
        [&](std::int64_t begin, int tile_count, Coverage coverage, int stage) {
          const Run tile = keys.part(begin, tile_count);
          team.warps([&](const Warp& warp) {
            fold_tile(warp, block, held[warp], scores, mine, tile, coverage == Coverage::all, stage);
          });
        });
    team.warps([&](const Warp& warp) {
      store_state(warp, held[warp], b, head, row, count);
      if (!held[warp].left_out) return;
      add_left_out<Lanes, Dim, warp_rows, tile_rows>(
          warp, rows_of_wire(v, 0), keys, cover,
          [&](int i, std::int64_t j) { return i < count && scores.allowed(mine.at(i), keys.at(j)); },
          [&](int i, int d, float x) { state.acc(b, row + i, head, d) += x; });
    });
  }

 private:
  static constexpr int warp_rows = Block::warp_rows;
  static constexpr int own_rows = warp_rows / Lanes::row_step;  ///< that a lane has a part of
  /// Where small numbers of type T lose digits, probabilities are multiplied by this before they are rounded.
  static constexpr float weight_scale = Block::weight_scale;

  /// What a warp keeps of its rows. A row of sums is shared by some lanes; each has its part of l.
  struct Rows {
    typename Block::Sums acc;
    Held<Warp, float, own_rows> m;
    Held<Warp, float, own_rows> l;
    bool left_out = false;  ///< elements of values that are not finite
  };

  /// Calls f(own, row) for each row that a lane has a part of.
  template <class F>
  KOKKOS_FUNCTION static void for_rows(const Warp& warp, int lane, const F& f) {
    RONDO_UNROLL
    for (int own = 0; own < own_rows; ++own) f(own, warp.number * warp_rows + Lanes::row(lane, own));
  }

  /// (Rows and columns that stand for nothing get another's numbers, which are never stored: a test of each would take
  /// registers.)
  KOKKOS_FUNCTION void load_state(const Warp& warp, Rows& held, int b, int head, int row, int count) const {
    warp.each_anew([&](int lane) {
      for_rows(warp, lane, [&](int own, int i) {
        float& m = held.m.at(lane, own);
        float& l = held.l.at(lane, own);
        m = detail::minus_infinity<float>;
        l = 0.0f;
        RONDO_UNROLL
        for (int n = 0; n < Lanes::template numbers<Dim>; ++n) Lanes::at(held.acc, lane, own, n) = 0.0f;
        if (first) return;
        const int known = row + (i < count ? i : count - 1);
        m = state.m(b, head, known);
        if (Lanes::begins_row(lane)) l = state.l(b, head, known);
        const float* acc = &state.acc(b, known, head, 0);
        const auto stride = static_cast<std::int64_t>(state.acc.stride(3));
        RONDO_UNROLL
        for (int n = 0; n < Lanes::template numbers<Dim>; ++n) {
          const int d = Lanes::column(lane, n);
          Lanes::at(held.acc, lane, own, n) = acc[(d < shape.head_dim ? d : 0) * stride] * weight_scale;
        }
      });
    });
  }

  KOKKOS_FUNCTION void store_state(const Warp& warp, Rows& held, int b, int head, int row, int count) const {
    Lanes::combine_rows(warp, held.l, [](float x, float y) { return x + y; });
    warp.each_anew([&](int lane) {
      for_rows(warp, lane, [&](int own, int i) {
        if (i >= count) return;
        if (Lanes::begins_row(lane)) {
          state.m(b, head, row + i) = held.m.at(lane, own);
          state.l(b, head, row + i) = held.l.at(lane, own);
        }
        float* acc = &state.acc(b, row + i, head, 0);
        const auto stride = static_cast<std::int64_t>(state.acc.stride(3));
        RONDO_UNROLL
        for (int n = 0; n < Lanes::template numbers<Dim>; ++n) {
          const int d = Lanes::column(lane, n);
          if (d < shape.head_dim) acc[d * stride] = Lanes::at(held.acc, lane, own, n) * (1 / weight_scale);
        }
      });
    });
  }

  /// \param whole  none of the tile's pairs is masked, or stands for no query or no key
  template <class Scores>
  KOKKOS_FUNCTION static void fold_tile(const Warp& warp, Block& block, Rows& held, const Scores& scores,
                                        const Run& mine, const Run& tile, bool whole, int stage) {
    typename Block::Scores s = {};
    block.multiply(warp, s, 0, stage);

    Held<Warp, float, own_rows> largest;
    if (whole) {
      keep_scores<false>(warp, s, largest, scores, mine, tile);
    } else {
      keep_scores<true>(warp, s, largest, scores, mine, tile);
    }
    Lanes::combine_rows(warp, largest, [](float x, float y) { return x > y ? x : y; });
    warp.each([&](int lane) {
      for_rows(warp, lane, [&](int own, int i) {
        float& m = held.m.at(lane, own);
        float& l = held.l.at(lane, own);
        const float top = largest.at(lane, own) > m ? largest.at(lane, own) : m;
        const float reference = detail::finite_maximum(top);
        const float factor = detail::exp2(m - reference);
        m = top;
        l *= factor;
        RONDO_UNROLL
        for (int n = 0; n < Lanes::template numbers<tile_rows>; ++n) {
          float& x = Lanes::at(s, lane, own, n);
          x = detail::exp2(scores.above(x, reference));
          l += x;
          if constexpr (P::has_dropout) x = scores.keeps(mine.at(i), tile.at(Lanes::column(lane, n))) ? x : 0.0f;
          x *= weight_scale;
        }
        RONDO_UNROLL
        for (int n = 0; n < Lanes::template numbers<Dim>; ++n) Lanes::at(held.acc, lane, own, n) *= factor;
      });
    });
    held.left_out |= block.template add_weighted<1>(warp, held.acc, s, 1, stage, whole);
  }

  /// Inner products become what is kept of them, -inf where a pair is masked, and of each row the largest score is found.
  template <bool Tested, class Scores>
  KOKKOS_FUNCTION static void keep_scores(const Warp& warp, typename Block::Scores& s,
                                          Held<Warp, float, own_rows>& largest, const Scores& scores, const Run& mine,
                                          const Run& tile) {
    const auto sees = [&](int i, int j) {
      return i < mine.count && j < tile.count && scores.allowed(mine.at(i), tile.at(j));
    };
    warp.each([&](int lane) {
      for_rows(warp, lane, [&](int own, int i) {
        const std::uint32_t visible = Tested ? lane_sees<Lanes, tile_rows>(lane, i, sees) : ~0u;
        float top = detail::minus_infinity<float>;
        RONDO_UNROLL
        for (int n = 0; n < Lanes::template numbers<tile_rows>; ++n) {
          float& x = Lanes::at(s, lane, own, n);
          const bool counts = (visible >> n & 1u) != 0;
          x = counts ? scores.kept(x * scores.sign(), mine.at(i), tile.at(Lanes::column(lane, n)))
                     : detail::minus_infinity<float>;
          const float here = scores.base2(x);
          top = here > top ? here : top;
        }
        largest.at(lane, own) = top;
      });
    });
  }
};

}  // namespace rondo::tensor_core
