/// \file
/// Forward pass for Hopper: one thread has tiles of keys and values copied while warp groups fold them into the softmax
/// state of 64 queries each. A tile's scores are computed while the values of the one before are added (Shah et al.,
/// FlashAttention-3, arXiv 2407.08608).
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/hopper/tile.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>
#include <type_traits>

namespace rondo::hopper {

/// m' = max(m, max s);  acc' = acc·2^(m - m') + Σ 2^(s - m')·v;  l likewise. Probabilities are rounded to T for the
/// product with the values; their sum l is not.
/// \tparam Dim  head_dim, 64 or 128
template <class T, int Dim, class Exec, ProblemType P>
struct ForwardFold {
  static constexpr bool is_bfloat16 = std::is_same_v<T, bfloat16>;
  static constexpr int consumers = 2;
  static constexpr int block_rows = consumers * group_rows;
  static constexpr int tile_rows = 128;
  static constexpr int stages = 2;
  using Tiles = Passing<T, tile_rows, Dim, stages>;
  static constexpr int own_elements = group_rows * Dim;
  static constexpr int tiles_end = consumers * own_elements * static_cast<int>(sizeof(T)) + 2 * Tiles::bytes;
  static constexpr int shared_bytes = tiles_end + 4 * stages * static_cast<int>(sizeof(Barrier));

  using Space = typename Exec::memory_space;

  P problem;
  Shape shape;
  Tensor<const T, 4, Space> q;
  Run queries;
  CopySource v;
  Run keys;
  SoftmaxState<float, Space> state;
  Phase phase;
  Tensor<T, 4, Space> out;  ///< with lse, where the phase is the last: instead of the state
  Tensor<float, 3, Space> lse;
  Base2<float> base2;  ///< the problem's

  template <class Block>
  KOKKOS_FUNCTION void operator()(const Block& block) const {
    using Group = typename Block::Group;
    const int blocks = (queries.count + block_rows - 1) / block_rows;
    // Under a causal mask the last queries have most to do: they go first.
    const int row = (blocks - 1 - block.number % blocks) * block_rows;
    const int head = block.number / blocks % shape.heads;
    const int b = block.number / blocks / shape.heads;
    const int count = queries.count - row < block_rows ? queries.count - row : block_rows;
    const Run mine = queries.part(row, count);
    const ScoreTile<P, float> scores{problem, b, head};
    if (!phase.first && !phase.last && scores.coverage(mine, keys) == Coverage::none) return;

    T* const own = reinterpret_cast<T*>(block.shared);
    T* const tiles = own + consumers * own_elements;
    Barrier* const barriers = reinterpret_cast<Barrier*>(block.shared + tiles_end);
    const Tiles key_tiles{tiles, barriers, barriers + stages};
    const Tiles value_tiles{tiles + stages * Tiles::tile_elements, barriers + 2 * stages, barriers + 3 * stages};
    key_tiles.make_barriers(block, consumers);
    value_tiles.make_barriers(block, consumers);

    const int kv_head = head / (shape.heads / shape.kv_heads);
    const auto cover = [&](const Run& tile) {
      return mma::whole_or_some(scores.coverage(mine, tile), count == block_rows && tile.count == tile_rows);
    };
    block.play(
        [&](const auto& producer) {
          Turn<stages> turn;
          for (auto walk = tiles_of<tile_rows>(keys, cover); walk.next(); turn.next()) {
            key_tiles.fill(producer, turn, 0, walk.begin, kv_head, b);
            value_tiles.fill(producer, turn, 1, walk.begin, kv_head, b);
          }
        },
        [&](const Group& group) {
          const int skipped = group.number * group_rows;
          T* const q_tile = own + group.number * own_elements;
          load_own_rows<Dim>(group, q_tile, mma::rows_of(q, b, row + skipped, head), count - skipped);
          if (scores.sign() != 1.0f) multiply_tile<own_elements>(group, q_tile, scores.sign());
          Rows<Group> rows;
          load_state(group, rows, b, head, row, count);
          auto walk = tiles_of<tile_rows>(keys, cover);
          const auto values = [&](std::int64_t begin) { return rows_of_source<T>(v, b, kv_head, begin); };
          if (walk.next()) fold_tiles(group, rows, block, scores, mine, walk, q_tile, key_tiles, value_tiles, values);
          if (!phase.last || rows.left_out) store_state(group, rows, b, head, row, count);
          if (rows.left_out) {
            group.warps([&](const auto& warp) {
              mma::add_left_out<Dim, 16, tile_rows>(
                  warp, values(0), keys, cover,
                  [&](int i, std::int64_t j) { return i < count && scores.allowed(mine.at(i), keys.at(j)); },
                  [&](int i, int d, float x) { state.acc(b, row + i, head, d) += x; });
            });
          }
          if (!phase.last) return;
          if (rows.left_out) load_sums(group, rows, b, head, row, count);  // which each lane has added to itself
          finish(group, rows, b, head, row, count);
        });
  }

 private:
  /// What a group keeps of its 64 rows. A row is shared by four lanes.
  template <class Group>
  struct Rows {
    Held<Group, float, Dim / 2> acc;
    Held<Group, float, 2> m;
    Held<Group, float, 2> l;
    Held<Group, float, 2> factor;  ///< what the last tile's scores have made of the sums before it
    bool left_out = false;         ///< elements of values that are not finite
  };

  /// (Rows that stand for nothing get another's numbers, which are never stored.)
  template <class Group>
  KOKKOS_FUNCTION void load_state(const Group& group, Rows<Group>& rows, int b, int head, int row, int count) const {
    group.each([&](int lane) {
      RONDO_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int i = row_in_block(group, lane, half);
        rows.m.at(lane, half) = detail::minus_infinity<float>;
        rows.l.at(lane, half) = 0.0f;
        for_sums<Dim / 2>(lane, half, [&](int e, int) { rows.acc.at(lane, e) = 0.0f; });
        if (phase.first) continue;
        const int known = row + (i < count ? i : count - 1);
        rows.m.at(lane, half) = state.m(b, head, known);
        rows.l.at(lane, half) = state.l(b, head, known);
      }
    });
    if (!phase.first) load_sums(group, rows, b, head, row, count);
  }

  template <class Group>
  KOKKOS_FUNCTION void load_sums(const Group& group, Rows<Group>& rows, int b, int head, int row, int count) const {
    group.each([&](int lane) {
      RONDO_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int i = row_in_block(group, lane, half);
        const float* acc = &state.acc(b, row + (i < count ? i : count - 1), head, 0);
        const auto stride = static_cast<std::int64_t>(state.acc.stride(3));
        for_sums<Dim / 2>(lane, half, [&](int e, int d) { rows.acc.at(lane, e) = acc[d * stride]; });
      }
    });
  }

  template <class Group>
  KOKKOS_FUNCTION void store_state(const Group& group, Rows<Group>& rows, int b, int head, int row, int count) const {
    group.each([&](int lane) {
      RONDO_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int i = row_in_block(group, lane, half);
        if (i >= count) continue;
        if (lane % 4 == 0) {
          state.m(b, head, row + i) = rows.m.at(lane, half);
          state.l(b, head, row + i) = rows.l.at(lane, half);
        }
        float* acc = &state.acc(b, row + i, head, 0);
        const auto stride = static_cast<std::int64_t>(state.acc.stride(3));
        for_sums<Dim / 2>(lane, half, [&](int e, int d) { acc[d * stride] = rows.acc.at(lane, e); });
      }
    });
  }

  /// What portable_kernel's finish makes of the state.
  template <class Group>
  KOKKOS_FUNCTION void finish(const Group& group, Rows<Group>& rows, int b, int head, int row, int count) const {
    group.each([&](int lane) {
      RONDO_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int i = row_in_block(group, lane, half);
        if (i >= count) continue;
        const Finished<float> end = finished(problem, base2, head, rows.m.at(lane, half), rows.l.at(lane, half));
        if (lane % 4 == 0) lse(b, head, row + i) = end.lse;
        const float factor = end.divisor == 0.0f ? 0.0f : 1.0f / end.divisor;
        T* to = &out(b, row + i, head, 0);
        const auto stride = static_cast<std::int64_t>(out.stride(3));
        const bool in_pairs = stride == 1 && reinterpret_cast<std::uintptr_t>(to) % (2 * sizeof(T)) == 0;
        for_sums<Dim / 2>(lane, half, [&](int e, int d) {
          float& x = rows.acc.at(lane, e);
          x = end.divisor == 0.0f ? 0.0f : x * factor;
          if (!in_pairs) {
            to[d * stride] = T(x);
          } else if (e % 2 == 1) {
            *reinterpret_cast<std::uint32_t*>(to + d - 1) =
                Group::template rounded_pair<T>(rows.acc.at(lane, e - 1), x);
          }
        });
      }
    });
  }

  /// All tiles, from the one on that `walk` stands at.
  template <class Group, class Block, class Scores, class Walk, class Values>
  KOKKOS_FUNCTION void fold_tiles(const Group& group, Rows<Group>& rows, const Block& block, const Scores& scores,
                                  const Run& mine, Walk& walk, const T* q_tile, const Tiles& k, const Tiles& v,
                                  const Values& values) const {
    Held<Group, float, tile_rows / 2> s;
    Weights<Group, tile_rows> even, odd;  // a tile's weights are made while products still read those of the one before
    Turn<stages> turn;
    k.wait_full(group, turn);
    begin_inner_products<T, Dim, tile_rows>(group, s, q_tile, k.tile(turn), block);
    group.template wait_products<0>();
    group.settle(s);
    k.release(group, turn);
    weigh(group, rows, s, scores, mine, walk, v, turn, values);
    shrink(group, rows);
    even.template round<T>(group, s);
    auto ahead = walk;
    bool more = ahead.next();
    // One tile: its scores are computed while the one before is added.
    const auto step = [&](Weights<Group, tile_rows>& present, Weights<Group, tile_rows>& next) {
      const Turn<stages> before = turn;
      walk = ahead;
      turn.next();
      k.wait_full(group, turn);
      v.wait_full(group, before);
      begin_inner_products<T, Dim, tile_rows>(group, s, q_tile, k.tile(turn), block);
      begin_weighted_rows<T, Dim, tile_rows>(group, rows.acc, present, v.tile(before), block);
      more = ahead.next();
      group.template wait_products<1>();
      group.settle(s);
      k.release(group, turn);
      weigh(group, rows, s, scores, mine, walk, v, turn, values);
      next.template round<T>(group, s);
      group.template wait_products<0>();
      settle_weighted_rows(group, rows.acc, present);
      v.release(group, before);
      shrink(group, rows);
    };
    const auto finish = [&](const Weights<Group, tile_rows>& last) {
      v.wait_full(group, turn);
      begin_weighted_rows<T, Dim, tile_rows>(group, rows.acc, last, v.tile(turn), block);
      group.template wait_products<0>();
      settle_weighted_rows(group, rows.acc, last);
    };
    for (;;) {
      if (!more) return finish(even);
      step(even, odd);
      if (!more) return finish(odd);
      step(odd, even);
    }
  }

  /// Inner products become probabilities above the new maximum of their row; m and l follow, acc when `shrink` is
  /// called.
  template <class Group, class Scores, class Walk, class Values>
  KOKKOS_FUNCTION void weigh(const Group& group, Rows<Group>& rows, Held<Group, float, tile_rows / 2>& s,
                             const Scores& scores, const Run& mine, const Walk& walk, const Tiles& v,
                             const Turn<stages>& turn, const Values& values) const {
    const Run tile = walk.tile();
    Held<Group, float, 2> largest;
    if (walk.whole()) {
      keep_scores<false>(group, s, largest, scores, mine, tile);
    } else {
      keep_scores<true>(group, s, largest, scores, mine, tile);
      // A masked pair's probability is 0, and must not be multiplied by what is not finite.
      if (any_not_finite<Dim>(group, values(walk.begin), walk.count)) {
        v.wait_full(group, turn);
        keep_finite<Tiles::tile_elements>(group, v.tile(turn));
        rows.left_out = true;
      }
    }
    Held<Group, float, 2> sums;
    group.combine_rows(largest, [](float x, float y) { return Kokkos::fmax(x, y); });
    group.each([&](int lane) {
      RONDO_UNROLL
      for (int half = 0; half < 2; ++half) {
        float& m = rows.m.at(lane, half);
        const float top = largest.at(lane, half) > m ? largest.at(lane, half) : m;
        const float reference = detail::finite_maximum(top);
        rows.factor.at(lane, half) = detail::exp2(m - reference);
        m = top;
        float sum = 0.0f;
        for_sums<tile_rows / 2>(lane, half, [&](int e, int j) {
          float& x = s.at(lane, e);
          x = detail::exp2(scores.above(x, reference));
          sum += x;
          if constexpr (P::has_dropout) {
            x = scores.keeps(mine.at(row_in_block(group, lane, half)), tile.at(j)) ? x : 0.0f;
          }
        });
        sums.at(lane, half) = sum;
      }
    });
    // (Here and not at the end, for the compiler as well: it takes no wait for products across an exchange between lanes,
    // but would take the next one across all of the above, which is to be done while products are made.)
    group.combine_rows(sums, [](float x, float y) { return x + y; });
    group.each([&](int lane) {
      RONDO_UNROLL
      for (int half = 0; half < 2; ++half) {
        rows.l.at(lane, half) = rows.l.at(lane, half) * rows.factor.at(lane, half) + sums.at(lane, half);
      }
    });
  }

  template <class Group>
  KOKKOS_FUNCTION static void shrink(const Group& group, Rows<Group>& rows) {
    group.each_if_any([&](int lane) { return rows.factor.at(lane, 0) != 1.0f || rows.factor.at(lane, 1) != 1.0f; },
                      [&](int lane) {
                        RONDO_UNROLL
                        for (int half = 0; half < 2; ++half) {
                          for_sums<Dim / 2>(lane, half,
                                            [&](int e, int) { rows.acc.at(lane, e) *= rows.factor.at(lane, half); });
                        }
                      });
  }

  /// Inner products become what is kept of them, -inf where a pair is masked, and of each row the largest score is
  /// found.
  template <bool Tested, class Group, class Scores>
  KOKKOS_FUNCTION static void keep_scores(const Group& group, Held<Group, float, tile_rows / 2>& s,
                                          Held<Group, float, 2>& largest, const Scores& scores, const Run& mine,
                                          const Run& tile) {
    group.each([&](int lane) {
      RONDO_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int i = row_in_block(group, lane, half);
        const std::uint32_t visible = Tested ? mma::lane_sees_keys<tile_rows>(lane, scores, mine, i, tile) : ~0u;
        constexpr float lowest = detail::minus_infinity<float>;
        float top[4] = {lowest, lowest, lowest, lowest};  // each waits for itself only
        for_sums<tile_rows / 2>(lane, half, [&](int e, int j) {
          float& x = s.at(lane, e);
          const bool counts = (visible >> (e / 4 * 2 + e % 2) & 1u) != 0;
          x = counts ? scores.kept(x, mine.at(i), tile.at(j)) : detail::minus_infinity<float>;
          float& of_some = top[e % 2 + e / 4 % 2 * 2];
          of_some = Kokkos::fmax(x, of_some);  // of NaN and a number, the number
        });
        largest.at(lane, half) = scores.base2(Kokkos::fmax(Kokkos::fmax(top[0], top[1]), Kokkos::fmax(top[2], top[3])));
      }
    });
  }
};

}  // namespace rondo::hopper
