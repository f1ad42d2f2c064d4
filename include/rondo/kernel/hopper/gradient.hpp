/// \file
/// Backward pass for Hopper, in two halves that write disjoint rows, as the kernel's on mma.sync: no atomics, one order
/// of every sum. A group's 64 rows (queries, then keys) stay in shared memory with their two tensors while tiles of 64
/// rows of the other side pass; the sums stay in registers.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/hopper/tile.hpp>
#include <rondo/kernel/portable/gradient.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>
#include <type_traits>

namespace rondo::hopper {

/// What the two halves share: blocks, tiles, and where they lie in shared memory.
template <class T, int Dim>
struct GradientBlock {
  static constexpr int consumers = 2;
  static constexpr int block_rows = consumers * group_rows;
  static constexpr int tile_rows = 64;
  static constexpr int stages = 2;
  using Tiles = Passing<T, tile_rows, Dim, stages>;
  static constexpr int own_elements = group_rows * Dim;
  static constexpr int row_numbers = 3;  ///< of a passing query: lse in base 2, its factor, delta
  static constexpr int own_bytes = 2 * consumers * own_elements * static_cast<int>(sizeof(T));
  static constexpr int tiles_end = own_bytes + 2 * Tiles::bytes;
  static constexpr int barriers_end = tiles_end + 4 * stages * static_cast<int>(sizeof(Barrier));
  static constexpr int number_places = 3;
  static constexpr int numbers_of_group = number_places * tile_rows * row_numbers;
  static constexpr int shared_bytes = barriers_end + consumers * numbers_of_group * static_cast<int>(sizeof(float));

  unsigned char* shared;
  Tiles first, second;  ///< the two tensors that pass

  template <class Block>
  KOKKOS_FUNCTION explicit GradientBlock(const Block& block)
      : shared(block.shared), first(tiles_at(0)), second(tiles_at(1)) {
    first.make_barriers(block, consumers);
    second.make_barriers(block, consumers);
  }

  KOKKOS_FUNCTION T* own(int group, int which) const {
    return reinterpret_cast<T*>(shared) + (2 * group + which) * own_elements;
  }
  /// The numbers of a tile's queries. Three tiles have some: while the next one's are brought, another warp may still be
  /// reading those of the tile before.
  KOKKOS_FUNCTION float* numbers(int group, int place) const {
    return reinterpret_cast<float*>(shared + barriers_end) + group * numbers_of_group + place * tile_rows * row_numbers;
  }

  /// Inner products of the group's own rows with the passing ones, of both tensors.
  /// \param meanwhile  called while they are made
  template <class Group, class Block, class Meanwhile>
  KOKKOS_FUNCTION void multiply(const Group& group, const Block& block, Held<Group, float, tile_rows / 2>& s,
                                Held<Group, float, tile_rows / 2>& dp, const Turn<stages>& turn,
                                const Meanwhile& meanwhile) const {
    first.wait_full(group, turn);
    begin_inner_products<T, Dim, tile_rows>(group, s, own(group.number, 0), first.tile(turn), block);
    second.wait_full(group, turn);
    begin_inner_products<T, Dim, tile_rows>(group, dp, own(group.number, 1), second.tile(turn), block);
    meanwhile();
    group.template wait_products<0>();
    group.settle(s);
    group.settle(dp);
  }

  /// Weights on their way into a product, in so many parts.
  template <class Group, int Parts>
  struct Parted {
    Weights<Group, tile_rows> near, rest;

    /// Begins sums += weights · tile, the small part first.
    template <class Block>
    KOKKOS_FUNCTION void begin(const Group& group, const Block& block, Held<Group, float, Dim / 2>& sums,
                               const Held<Group, float, tile_rows / 2>& weights, const T* tile) {
      if constexpr (Parts == 2) {
        round_in_parts<T>(group, weights, near, rest);
        begin_weighted_rows<T, Dim, tile_rows>(group, sums, rest, tile, block);
      } else {
        near.template round<T>(group, weights);
      }
      begin_weighted_rows<T, Dim, tile_rows>(group, sums, near, tile, block);
    }
    /// After a wait for all products.
    KOKKOS_FUNCTION void settle(const Group& group, Held<Group, float, Dim / 2>& sums) const {
      if constexpr (Parts == 2) settle_weighted_rows(group, sums, rest);
      settle_weighted_rows(group, sums, near);
    }
  };

  /// Inner products become weights: f(lane, row, half, column, s, dp) for the pairs that count, 0 for the others.
  /// \param sees  sees(lane, row): the pairs that count, as bits of a lane's elements; not asked where all do
  template <class Group, class Sees, class F>
  KOKKOS_FUNCTION static void weigh(const Group& group, Held<Group, float, tile_rows / 2>& s,
                                    Held<Group, float, tile_rows / 2>& dp, bool whole, const Sees& sees, const F& f) {
    if (whole) {
      weigh<false>(group, s, dp, sees, f);
    } else {
      weigh<true>(group, s, dp, sees, f);
    }
  }

  /// Makes a tile ready whose pairs are partly masked: elements that are not finite, which must not be multiplied by 0,
  /// become 0. Returns whether there are some.
  template <class Group>
  KOKKOS_FUNCTION static bool clean(const Group& group, const Tiles& tiles, const Turn<stages>& turn,
                                    const SourceRows<T>& rows, int count) {
    if (!any_not_finite<Dim>(group, rows, count)) return false;
    tiles.wait_full(group, turn);
    keep_finite<Tiles::tile_elements>(group, tiles.tile(turn));
    return true;
  }

  /// Adds a group's sums to rows of a tensor [batch, tokens, heads, head_dim].
  template <class Group, class Out>
  KOKKOS_FUNCTION static void store(const Group& group, const Held<Group, float, Dim / 2>& sums, const Out& out, int b,
                                    int row, int head, int count) {
    group.each([&](int lane) {
      RONDO_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int i = row_in_block(group, lane, half);
        if (i >= count) continue;
        float* to = &out(b, row + i, head, 0);
        const auto stride = static_cast<std::int64_t>(out.stride(3));
        for_sums<Dim / 2>(lane, half, [&](int e, int d) { to[d * stride] += sums.at(lane, e); });
      }
    });
  }

 private:
  KOKKOS_FUNCTION Tiles tiles_at(int which) const {
    Barrier* const barriers = reinterpret_cast<Barrier*>(shared + tiles_end) + 2 * stages * which;
    return {reinterpret_cast<T*>(shared + own_bytes + which * Tiles::bytes), barriers, barriers + stages};
  }

  template <bool Tested, class Group, class Sees, class F>
  KOKKOS_FUNCTION static void weigh(const Group& group, Held<Group, float, tile_rows / 2>& s,
                                    Held<Group, float, tile_rows / 2>& dp, const Sees& sees, const F& f) {
    group.each([&](int lane) {
      RONDO_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = row_in_block(group, lane, half);
        const std::uint32_t visible = Tested ? sees(lane, row) : ~0u;
        for_sums<tile_rows / 2>(lane, half, [&](int e, int column) {
          float& x = s.at(lane, e);
          float& y = dp.at(lane, e);
          if ((visible >> (e / 4 * 2 + e % 2) & 1u) != 0) {
            f(lane, row, half, column, x, y);
          } else {
            x = 0.0f;
            y = 0.0f;
          }
        });
      }
    });
  }
};

/// grad_q of 128 queries: keys and values pass.
template <class T, int Dim, class Exec, ProblemType P>
struct QueryGradient {
  using Layout = GradientBlock<T, Dim>;
  static constexpr bool is_bfloat16 = std::is_same_v<T, bfloat16>;
  static constexpr int consumers = Layout::consumers;
  static constexpr int block_rows = Layout::block_rows;
  static constexpr int tile_rows = Layout::tile_rows;
  static constexpr int shared_bytes = Layout::shared_bytes;

  portable::GradientInput<T, float, Exec, P> in;
  Tensor<float, 4, typename Exec::memory_space> grad_q;

  template <class Block>
  KOKKOS_FUNCTION void operator()(const Block& block) const {
    using Group = typename Block::Group;
    const int blocks = (in.queries.count + block_rows - 1) / block_rows;
    const int row = (blocks - 1 - block.number % blocks) * block_rows;
    const int head = block.number / blocks % in.shape.heads;
    const int b = block.number / blocks / in.shape.heads;
    const int count = in.queries.count - row < block_rows ? in.queries.count - row : block_rows;
    const Run mine = in.queries.part(row, count);
    const ScoreTile<P, float> scores{in.problem, b, head};
    if (scores.coverage(mine, in.keys) == Coverage::none) return;

    const Layout layout(block);
    const int kv_head = head / (in.shape.heads / in.shape.kv_heads);
    const auto cover = [&](const Run& tile) {
      return mma::whole_or_some(scores.coverage(mine, tile), count == block_rows && tile.count == tile_rows);
    };
    block.play(
        [&](const auto& producer) {
          Turn<Layout::stages> turn;
          for (auto walk = tiles_of<tile_rows>(in.keys, cover); walk.next(); turn.next()) {
            layout.first.fill(producer, turn, 0, walk.begin, kv_head, b);
            layout.second.fill(producer, turn, 1, walk.begin, kv_head, b);
          }
        },
        [&](const Group& group) {
          const int skipped = group.number * group_rows;
          const auto own = [&](const auto& x, int which) {
            load_own_rows<Dim>(group, layout.own(group.number, which), mma::rows_of(x, b, row + skipped, head),
                               count - skipped);
          };
          own(in.q, 0);
          own(in.grad_out, 1);
          Rows<Group> rows;
          load_numbers(group, rows, b, head, row, count);
          bool left_out = false;
          Turn<Layout::stages> turn;
          auto ahead = tiles_of<tile_rows>(in.keys, cover);
          for (bool more = ahead.next(); more; turn.next()) {
            const auto walk = ahead;
            if (!walk.whole()) {
              left_out |= Layout::clean(group, layout.first, turn, keys_from(b, kv_head, walk.begin), walk.count);
            }
            fold_tile(group, rows, block, layout, scores, mine, walk, turn, [&] { more = ahead.next(); });
          }
          Layout::store(group, rows.sums, grad_q, b, row, head, count);
          if (!left_out) return;
          group.warps([&](const auto& warp) {
            mma::add_left_out<Dim, 16, tile_rows>(
                warp, keys_from(b, kv_head, 0), in.keys, cover,
                [&](int i, std::int64_t j) { return i < count && scores.allowed(mine.at(i), in.keys.at(j)); },
                [&](int i, int d, float x) { grad_q(b, row + i, head, d) += x; });
          });
        });
  }

 private:
  template <class Group>
  struct Rows {
    Held<Group, float, Dim / 2> sums = {};
    Held<Group, float, 2> lse2, factor, delta;
  };

  KOKKOS_FUNCTION SourceRows<T> keys_from(int b, int kv_head, std::int64_t begin) const {
    return mma::rows_of_wire(in.wire.keys(b, kv_head), begin);
  }

  template <class Group>
  KOKKOS_FUNCTION void load_numbers(const Group& group, Rows<Group>& rows, int b, int head, int row, int count) const {
    group.each([&](int lane) {
      RONDO_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int i = row_in_block(group, lane, half);
        const float lse = i < count ? in.lse(b, head, row + i) : 0.0f;
        rows.lse2.at(lane, half) = in.base2.lse2(lse);
        rows.factor.at(lane, half) = in.base2.lse2_factor(lse);
        rows.delta.at(lane, half) = i < count ? in.delta(b, head, row + i) : 0.0f;
      }
    });
  }

  template <class Group, class Block, class Scores, class Walk, class Meanwhile>
  KOKKOS_FUNCTION static void fold_tile(const Group& group, Rows<Group>& rows, const Block& block, const Layout& layout,
                                        const Scores& scores, const Run& mine, const Walk& walk,
                                        const Turn<Layout::stages>& turn, const Meanwhile& meanwhile) {
    const Run tile = walk.tile();
    Held<Group, float, tile_rows / 2> s, ds;
    layout.multiply(group, block, s, ds, turn, meanwhile);
    layout.second.release(group, turn);
    const auto sees = [&](int lane, int i) { return mma::lane_sees_keys<tile_rows>(lane, scores, mine, i, tile); };
    Layout::weigh(
        group, s, ds, walk.whole(), sees, [&](int lane, int i, int half, int j, float& dot, float& dp_then_ds) {
          portable::probability_and_gradient(scores, rows.lse2.at(lane, half), rows.factor.at(lane, half),
                                             rows.delta.at(lane, half), mine.at(i), tile.at(j), dot, dp_then_ds);
        });
    typename Layout::template Parted<Group, WeightParts<1>::grad_q> weights;
    weights.begin(group, block, rows.sums, ds, layout.first.tile(turn));
    group.template wait_products<0>();
    weights.settle(group, rows.sums);
    layout.first.release(group, turn);
  }
};

/// grad_k and grad_v of 128 keys: the queries of every head that this kv head serves pass, with their grad_out.
template <class T, int Dim, class Exec, ProblemType P>
struct KeyValueGradient {
  using Layout = GradientBlock<T, Dim>;
  static constexpr bool is_bfloat16 = std::is_same_v<T, bfloat16>;
  static constexpr int consumers = Layout::consumers;
  static constexpr int block_rows = Layout::block_rows;
  static constexpr int tile_rows = Layout::tile_rows;
  static constexpr int shared_bytes = Layout::shared_bytes;

  portable::GradientInput<T, float, Exec, P> in;
  Tensor<float, 4, typename Exec::memory_space> grad_k;
  Tensor<float, 4, typename Exec::memory_space> grad_v;

  template <class Block>
  KOKKOS_FUNCTION void operator()(const Block& block) const {
    using Group = typename Block::Group;
    const int blocks = (in.keys.count + block_rows - 1) / block_rows;
    const int row = block.number % blocks * block_rows;
    const int kv_head = block.number / blocks % in.shape.kv_heads;
    const int b = block.number / blocks / in.shape.kv_heads;
    const int count = in.keys.count - row < block_rows ? in.keys.count - row : block_rows;
    const Run mine = in.keys.part(row, count);

    const Layout layout(block);
    const int per_kv_head = in.shape.heads / in.shape.kv_heads;
    block.play(
        [&](const auto& producer) {
          Turn<Layout::stages> turn;
          for (int head = kv_head * per_kv_head; head < (kv_head + 1) * per_kv_head; ++head) {
            const ScoreTile<P, float> scores{in.problem, b, head};
            const auto cover = cover_of(scores, mine);
            for (auto walk = tiles_of<tile_rows>(in.queries, cover); walk.next(); turn.next()) {
              layout.first.fill(producer, turn, 0, walk.begin, head, b);
              layout.second.fill(producer, turn, 1, walk.begin, head, b);
            }
          }
        },
        [&](const Group& group) {
          const int skipped = group.number * group_rows;
          load_own_rows<Dim>(group, layout.own(group.number, 0),
                             mma::rows_of_wire(in.wire.keys(b, kv_head), row + skipped), count - skipped);
          load_own_rows<Dim>(group, layout.own(group.number, 1),
                             mma::rows_of_wire(in.wire.values(b, kv_head), row + skipped), count - skipped);
          Rows<Group> rows;
          bool left_out = false;
          Turn<Layout::stages> turn;
          int place = 0;
          for (int head = kv_head * per_kv_head; head < (kv_head + 1) * per_kv_head; ++head) {
            const ScoreTile<P, float> scores{in.problem, b, head};
            const auto cover = cover_of(scores, mine);
            auto ahead = tiles_of<tile_rows>(in.queries, cover);
            bool more = ahead.next();
            if (more) load_numbers(group, layout.numbers(group.number, place), b, head, ahead.begin, ahead.count);
            for (; more; turn.next()) {
              const auto walk = ahead;
              if (!walk.whole()) {
                left_out |=
                    Layout::clean(group, layout.first, turn, mma::rows_of(in.q, b, walk.begin, head), walk.count);
                left_out |= Layout::clean(group, layout.second, turn, mma::rows_of(in.grad_out, b, walk.begin, head),
                                          walk.count);
              }
              const float* const numbers = layout.numbers(group.number, place);
              place = place + 1 == Layout::number_places ? 0 : place + 1;
              fold_tile(group, rows, block, layout, scores, mine, walk, turn, numbers, [&] {
                more = ahead.next();
                if (more) load_numbers(group, layout.numbers(group.number, place), b, head, ahead.begin, ahead.count);
              });
            }
          }
          Layout::store(group, rows.key_sums, grad_k, b, row, kv_head, count);
          Layout::store(group, rows.value_sums, grad_v, b, row, kv_head, count);
          if (!left_out) return;
          for (int head = kv_head * per_kv_head; head < (kv_head + 1) * per_kv_head; ++head) {
            add_left_out_of(group, mma::rows_of(in.q, b, 0, head), grad_k, b, head, row, mine);
            add_left_out_of(group, mma::rows_of(in.grad_out, b, 0, head), grad_v, b, head, row, mine);
          }
        });
  }

 private:
  template <class Group>
  struct Rows {
    Held<Group, float, Dim / 2> key_sums = {};
    Held<Group, float, Dim / 2> value_sums = {};
  };

  template <class Scores>
  KOKKOS_FUNCTION static auto cover_of(const Scores& scores, const Run& mine) {
    return [&scores, &mine](const Run& tile) {
      return mma::whole_or_some(scores.coverage(tile, mine), mine.count == block_rows && tile.count == tile_rows);
    };
  }

  /// One head's part of what was left out of the sums of `grad`.
  template <class Group, class Grad>
  KOKKOS_FUNCTION void add_left_out_of(const Group& group, const SourceRows<T>& from, const Grad& grad, int b, int head,
                                       int row, const Run& mine) const {
    const ScoreTile<P, float> scores{in.problem, b, head};
    const int kv_head = head / (in.shape.heads / in.shape.kv_heads);
    group.warps([&](const auto& warp) {
      mma::add_left_out<Dim, 16, tile_rows>(
          warp, from, in.queries, cover_of(scores, mine),
          [&](int j, std::int64_t i) { return j < mine.count && scores.allowed(in.queries.at(i), mine.at(j)); },
          [&](int j, int d, float x) { grad(b, row + j, kv_head, d) += x; });
    });
  }

  template <class Group>
  KOKKOS_FUNCTION void load_numbers(const Group& group, float* numbers, int b, int head, std::int64_t begin,
                                    int count) const {
    group.share(tile_rows, [&](int i) {
      const float lse = i < count ? in.lse(b, head, begin + i) : 0.0f;
      numbers[Layout::row_numbers * i] = in.base2.lse2(lse);
      numbers[Layout::row_numbers * i + 1] = in.base2.lse2_factor(lse);
      numbers[Layout::row_numbers * i + 2] = i < count ? in.delta(b, head, begin + i) : 0.0f;
    });
    group.publish();
  }

  template <class Group, class Block, class Scores, class Walk, class Meanwhile>
  KOKKOS_FUNCTION static void fold_tile(const Group& group, Rows<Group>& rows, const Block& block, const Layout& layout,
                                        const Scores& scores, const Run& mine, const Walk& walk,
                                        const Turn<Layout::stages>& turn, const float* numbers,
                                        const Meanwhile& meanwhile) {
    const Run tile = walk.tile();
    Held<Group, float, tile_rows / 2> p, ds;
    layout.multiply(group, block, p, ds, turn, meanwhile);
    const auto sees = [&](int lane, int row) {
      return mma::lane_sees<tile_rows>(lane, row, [&](int j, int i) {
        return j < mine.count && i < tile.count && scores.allowed(tile.at(i), mine.at(j));
      });
    };
    Layout::weigh(group, p, ds, walk.whole(), sees, [&](int, int j, int, int i, float& dot_then_p, float& dp_then_ds) {
      const float* of_row = numbers + Layout::row_numbers * i;
      portable::probability_and_gradient(scores, of_row[0], of_row[1], of_row[2], tile.at(i), mine.at(j), dot_then_p,
                                         dp_then_ds);
    });
    typename Layout::template Parted<Group, WeightParts<1>::grad_v> value_weights;
    typename Layout::template Parted<Group, WeightParts<1>::grad_k> key_weights;
    key_weights.begin(group, block, rows.key_sums, ds, layout.first.tile(turn));
    value_weights.begin(group, block, rows.value_sums, p, layout.second.tile(turn));
    group.template wait_products<0>();
    value_weights.settle(group, rows.value_sums);
    key_weights.settle(group, rows.key_sums);
    layout.second.release(group, turn);
    layout.first.release(group, turn);
  }
};

}  // namespace rondo::hopper
