/// \file
/// Backward pass on tensor cores, in two halves that write disjoint rows, as the portable kernel's: no atomics, one order of
/// every sum. A block of rows (queries, then keys) stays in shared memory with its two tensors while tiles of 32 rows of the
/// other side pass; the sums stay in registers.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/mma/tile.hpp>
#include <rondo/kernel/portable/gradient.hpp>

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>

namespace rondo::mma {

/// What the two halves share: blocks, tiles, and where they lie in shared memory.
/// \tparam RowTiles  of 16 rows, for each warp
template <class T, int Dim, int RowTiles, class Exec, class Play>
struct GradientBlock {
  static constexpr int warps = 4;
  static constexpr int row_tiles = RowTiles;
  static constexpr int warp_rows = 16 * row_tiles;
  static constexpr int block_rows = warps * warp_rows;
  static constexpr int tile_rows = RowTiles == 1 ? 32 : tile_rows_for(32);
  static constexpr int tiles_end = (2 * block_rows + 4 * tile_rows) * Dim;
  static constexpr int row_numbers = 3;  ///< of a query: lse in base 2, its factor, delta
  static constexpr int numbers_of_stage = tile_rows * row_numbers;
  static constexpr int numbers_count = block_rows > 2 * tile_rows ? block_rows* row_numbers : 2 * numbers_of_stage;
  static constexpr int shared_elements = tiles_end + numbers_count * static_cast<int>(sizeof(float) / sizeof(T));

  using Member = typename Play::template Member<Exec>;
  using Team = typename Play::template Team<Member, warps>;
  using Warp = typename Team::Warp;
  using ScoreSums = Sums<Warp>[row_tiles][tile_rows / 8];
  using RowSums = Sums<Warp>[row_tiles][Dim / 8];
  template <int Parts>
  using Weights = WeightSums<T, Parts, row_tiles, tile_rows, Warp>;

  T* shared;

  KOKKOS_FUNCTION explicit GradientBlock(const Member& member)
      : shared(static_cast<T*>(Play::shared(member, sizeof(T) * shared_elements))) {}

  KOKKOS_FUNCTION T* own(int which) const { return shared + which * block_rows * Dim; }
  KOKKOS_FUNCTION T* passing(int stage, int which) const {
    return shared + (2 * block_rows + (2 * stage + which) * tile_rows) * Dim;
  }
  KOKKOS_FUNCTION float* numbers(int stage) const {
    return reinterpret_cast<float*>(shared + tiles_end) + stage * numbers_of_stage;
  }

  /// What is known of `rows` queries from `begin` on, `count` of which there are.
  template <class Input>
  KOKKOS_FUNCTION static void load_numbers(Team& team, const Input& in, float* numbers, int rows, int b, int head,
                                           std::int64_t begin, int count) {
    team.share(rows, [&](int i) {
      const float lse = i < count ? in.lse(b, head, begin + i) : 0.0f;
      numbers[row_numbers * i] = in.base2.lse2(lse);
      numbers[row_numbers * i + 1] = in.base2.lse2_factor(lse);
      numbers[row_numbers * i + 2] = i < count ? in.delta(b, head, begin + i) : 0.0f;
    });
  }

  /// Inner products of the warp's own rows with the passing ones, of both tensors.
  KOKKOS_FUNCTION void multiply(const Warp& warp, ScoreSums& s, ScoreSums& dp, int stage) const {
    const auto product = [&](ScoreSums& c, int which) {
      const T* rows = own(which);
      add_inner_products<Dim, row_tiles, tile_rows>(
          warp, c,
          [&](int r, int k, Pairs<Warp>& a) { load_a<Dim>(warp, a, rows, warp.number * warp_rows + 16 * r, 16 * k); },
          static_cast<const T*>(passing(stage, which)));
    };
    product(s, 0);
    product(dp, 1);
  }

  /// Calls f(r, half, row) for the two rows of each C fragment that a lane has a part of.
  template <class F>
  KOKKOS_FUNCTION static void for_rows(const Warp& warp, int lane, const F& f) {
    RONDO_UNROLL
    for (int r = 0; r < row_tiles; ++r) {
      RONDO_UNROLL
      for (int half = 0; half < 2; ++half) {
        f(r, half, warp.number * warp_rows + 16 * r + place_in_c(lane, 2 * half).row);
      }
    }
  }

  /// Inner products become weights: f(row, column, s, dp) for the pairs that count, 0 for the others.
  /// \param sees  sees(lane, row): the pairs that count, as bits of a lane's elements; not asked where all do
  template <class Sees, class F>
  KOKKOS_FUNCTION static void weigh(const Warp& warp, ScoreSums& s, ScoreSums& dp, bool whole, const Sees& sees,
                                    const F& f) {
    if (whole) {
      weigh<false>(warp, s, dp, sees, f);
    } else {
      weigh<true>(warp, s, dp, sees, f);
    }
  }
  template <bool Tested, class Sees, class F>
  KOKKOS_FUNCTION static void weigh(const Warp& warp, ScoreSums& s, ScoreSums& dp, const Sees& sees, const F& f) {
    const auto weigh_lane = [&](int lane) {
      for_rows(warp, lane, [&](int r, int half, int row) {
        const std::uint32_t visible = Tested ? sees(lane, row) : ~0u;
        RONDO_UNROLL
        for (int n = 0; n < tile_rows / 8; ++n) {
          RONDO_UNROLL
          for (int e = 0; e < 2; ++e) {
            float& x = s[r][n].at(lane, 2 * half + e);
            float& y = dp[r][n].at(lane, 2 * half + e);
            if ((visible >> (2 * n + e) & 1u) != 0) {
              f(row, 8 * n + place_in_c(lane, e).col, x, y);
            } else {
              x = 0.0f;
              y = 0.0f;
            }
          }
        }
      });
    };
    if constexpr (Tested) {
      warp.each_anew(weigh_lane);
    } else {
      warp.each(weigh_lane);
    }
  }

  /// Adds a warp's sums to the rows of a tensor [batch, tokens, heads, head_dim].
  template <class Out>
  KOKKOS_FUNCTION static void store(const Warp& warp, const RowSums& sums, const Out& out, int b, int row, int head,
                                    int count) {
    const int width = static_cast<int>(out.extent(3));
    const std::size_t stride = out.stride(3);
    warp.each_anew([&](int lane) {
      for_rows(warp, lane, [&](int r, int half, int i) {
        if (i >= count) return;
        int d = place_in_c(lane, 0).col;
        auto* at = &out(b, row + i, head, 0) + d * stride;  // one address after the other takes fewest registers
        RONDO_UNROLL
        for (int n = 0; n < Dim / 8; ++n, d += 8, at += 8 * stride) {
          if (d < width) at[0] += sums[r][n].at(lane, 2 * half);
          if (d + 1 < width) at[stride] += sums[r][n].at(lane, 2 * half + 1);
        }
      });
    });
  }
};

/// grad_q of 128 queries: keys and values pass.
template <class T, int Dim, class Exec, class Play, ProblemType P>
struct QueryGradient {
  using Block = GradientBlock<T, Dim, 2, Exec, Play>;
  using Member = typename Block::Member;
  using Warp = typename Block::Warp;
  static constexpr int warps = Block::warps;
  static constexpr int teams_together = 1;
  static constexpr int block_rows = Block::block_rows;
  static constexpr int shared_elements = Block::shared_elements;

  portable::GradientInput<T, float, Exec, P> in;
  Tensor<float, 4, typename Exec::memory_space> grad_q;

  KOKKOS_FUNCTION void operator()(const Member& member) const {
    const auto [b, head, row] = query_block<block_rows>(member.league_rank(), in.queries.count, in.shape.heads);
    const int count = in.queries.count - row < block_rows ? in.queries.count - row : block_rows;
    const Run mine = in.queries.part(row, count);
    const ScoreTile<P, float> scores{in.problem, b, head};
    if (scores.coverage(mine, in.keys) == Coverage::none) return;

    typename Block::Team team{member};
    const Block block(member);
    typename Block::Team::template PerWarp<Held> held;
    start_rows<block_rows, Dim>(team, block.own(0), rows_of(in.q, b, row, head), count);
    start_rows<block_rows, Dim>(team, block.own(1), rows_of(in.grad_out, b, row, head), count);
    block.load_numbers(team, in, block.numbers(0), block_rows, b, head, row, count);

    const int kv_head = head / (in.shape.heads / in.shape.kv_heads);
    const auto keys_from = [&, b = b](std::int64_t begin) { return rows_of_wire(in.wire.keys(b, kv_head), begin); };
    const auto values_from = [&, b = b](std::int64_t begin) { return rows_of_wire(in.wire.values(b, kv_head), begin); };
    const auto cover = [&](const Run& tile) {
      return whole_or_some(scores.coverage(mine, tile), count == block_rows && tile.count == Block::tile_rows);
    };
    for_tiles<Block::tile_rows>(
        team, in.keys, cover,
        [&](std::int64_t begin, int tile_count, int stage) {
          start_rows<Block::tile_rows, Dim>(team, block.passing(stage, 0), keys_from(begin), tile_count);
          start_rows<Block::tile_rows, Dim>(team, block.passing(stage, 1), values_from(begin), tile_count);
        },
        [&](std::int64_t begin, int tile_count, Coverage coverage, int stage) {
          const Run tile = in.keys.part(begin, tile_count);
          team.warps([&](const Warp& warp) {
            fold_tile(warp, held[warp], block, scores, mine, tile, coverage == Coverage::all, stage);
          });
        });
    team.warps([&](const Warp& warp) {
      const auto again = query_block<block_rows>(member.league_rank(), in.queries.count, in.shape.heads);
      Block::store(warp, held[warp].sums, grad_q, again.b, again.row, again.head, count);
      if (!held[warp].left_out) return;
      add_left_out<Dim, Block::warp_rows, Block::tile_rows>(
          warp, keys_from(0), in.keys, cover,
          [&](int i, std::int64_t j) { return i < count && scores.allowed(mine.at(i), in.keys.at(j)); },
          [&](int i, int d, float x) { grad_q(again.b, again.row + i, again.head, d) += x; });
    });
  }

 private:
  struct Held {
    typename Block::RowSums sums = {};
    bool left_out = false;  ///< elements of keys that are not finite
  };

  template <class Scores>
  KOKKOS_FUNCTION static void fold_tile(const Warp& warp, Held& held, const Block& block, const Scores& scores,
                                        const Run& mine, const Run& tile, bool whole, int stage) {
    typename Block::ScoreSums s = {}, ds = {};
    block.multiply(warp, s, ds, stage);
    const auto sees = [&](int lane, int i) { return lane_sees_keys<Block::tile_rows>(lane, scores, mine, i, tile); };
    const float* numbers = block.numbers(0);
    Block::weigh(warp, s, ds, whole, sees, [&](int i, int j, float& dot_then_p, float& dp_then_ds) {
      const float* own = numbers + Block::row_numbers * i;
      portable::probability_and_gradient(scores, own[0], own[1], own[2], mine.at(i), tile.at(j), dot_then_p,
                                         dp_then_ds);
    });
    held.left_out |= add_weighted_rows<Dim, Block::row_tiles, Block::tile_rows>(
        warp, held.sums, typename Block::template Weights<WeightParts<2>::grad_q>{ds},
        static_cast<const T*>(block.passing(stage, 0)), whole);
  }
};

/// grad_k and grad_v of 128 keys, or 64 with head_dim 128, whose sums take the registers: the queries of every head that this kv head serves pass, with their grad_out.
template <class T, int Dim, class Exec, class Play, ProblemType P>
struct KeyValueGradient {
  using Block = GradientBlock<T, Dim, Dim <= 64 ? 2 : 1, Exec, Play>;
  using Member = typename Block::Member;
  using Warp = typename Block::Warp;
  static constexpr int warps = Block::warps;
  static constexpr int teams_together = 1;
  static constexpr int block_rows = Block::block_rows;
  static constexpr int shared_elements = Block::shared_elements;

  portable::GradientInput<T, float, Exec, P> in;
  Tensor<float, 4, typename Exec::memory_space> grad_k;
  Tensor<float, 4, typename Exec::memory_space> grad_v;

  KOKKOS_FUNCTION void operator()(const Member& member) const {
    const int blocks = (in.keys.count + block_rows - 1) / block_rows;
    const int row = member.league_rank() % blocks * block_rows;
    const int kv_head = member.league_rank() / blocks % in.shape.kv_heads;
    const int b = member.league_rank() / blocks / in.shape.kv_heads;
    const int count = in.keys.count - row < block_rows ? in.keys.count - row : block_rows;
    const Run mine = in.keys.part(row, count);

    typename Block::Team team{member};
    const Block block(member);
    typename Block::Team::template PerWarp<Held> held;
    start_rows<block_rows, Dim>(team, block.own(0), rows_of_wire(in.wire.keys(b, kv_head), row), count);
    start_rows<block_rows, Dim>(team, block.own(1), rows_of_wire(in.wire.values(b, kv_head), row), count);

    for (int of_group = 0; of_group < in.shape.heads / in.shape.kv_heads; ++of_group) {
      const int head = kv_head * (in.shape.heads / in.shape.kv_heads) + of_group;
      const ScoreTile<P, float> scores{in.problem, b, head};
      for_tiles<Block::tile_rows>(
          team, in.queries, cover_of(scores, mine),
          [&](std::int64_t begin, int tile_count, int stage) {
            start_rows<Block::tile_rows, Dim>(team, block.passing(stage, 0), rows_of(in.q, b, begin, head), tile_count);
            start_rows<Block::tile_rows, Dim>(team, block.passing(stage, 1), rows_of(in.grad_out, b, begin, head),
                                              tile_count);
            block.load_numbers(team, in, block.numbers(stage), Block::tile_rows, b, head, begin, tile_count);
          },
          [&](std::int64_t begin, int tile_count, Coverage coverage, int stage) {
            const Run tile = in.queries.part(begin, tile_count);
            team.warps([&](const Warp& warp) {
              fold_tile(warp, held[warp], block, scores, mine, tile, coverage == Coverage::all, stage);
            });
          });
    }
    team.warps([&](const Warp& warp) {
      Block::store(warp, held[warp].key_sums, grad_k, b, row, kv_head, count);
      Block::store(warp, held[warp].value_sums, grad_v, b, row, kv_head, count);
      if (!held[warp].left_out) return;
      const int group = in.shape.heads / in.shape.kv_heads;
      for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
        add_left_out_of(warp, rows_of(in.q, b, 0, head), grad_k, b, head, row, mine);
        add_left_out_of(warp, rows_of(in.grad_out, b, 0, head), grad_v, b, head, row, mine);
      }
    });
  }

 private:
  struct Held {
    typename Block::RowSums key_sums = {};
    typename Block::RowSums value_sums = {};
    bool left_out = false;  ///< elements of queries or grad_out that are not finite
  };

  template <class Scores>
  KOKKOS_FUNCTION static auto cover_of(const Scores& scores, const Run& mine) {
    return [&scores, &mine](const Run& tile) {
      return whole_or_some(scores.coverage(tile, mine), mine.count == block_rows && tile.count == Block::tile_rows);
    };
  }

  /// One head's part of what was left out of the sums of `grad`.
  template <class Grad>
  KOKKOS_FUNCTION void add_left_out_of(const Warp& warp, const SourceRows<T>& from, const Grad& grad, int b, int head,
                                       int row, const Run& mine) const {
    const ScoreTile<P, float> scores{in.problem, b, head};
    const int kv_head = head / (in.shape.heads / in.shape.kv_heads);
    add_left_out<Dim, Block::warp_rows, Block::tile_rows>(
        warp, from, in.queries, cover_of(scores, mine),
        [&](int j, std::int64_t i) { return j < mine.count && scores.allowed(in.queries.at(i), mine.at(j)); },
        [&](int j, int d, float x) { grad(b, row + j, kv_head, d) += x; });
  }

  template <class Scores>
  KOKKOS_FUNCTION static void fold_tile(const Warp& warp, Held& held, const Block& block, const Scores& scores,
                                        const Run& mine, const Run& tile, bool whole, int stage) {
    typename Block::ScoreSums p = {}, ds = {};
    block.multiply(warp, p, ds, stage);
    const auto sees = [&](int lane, int j) {
      return lane_sees<Block::tile_rows>(lane, j, [&](int j, int i) {
        return j < mine.count && i < tile.count && scores.allowed(tile.at(i), mine.at(j));
      });
    };
    const float* numbers = block.numbers(stage);
    Block::weigh(warp, p, ds, whole, sees, [&](int j, int i, float& dot_then_p, float& dp_then_ds) {
      const float* of_row = numbers + Block::row_numbers * i;
      portable::probability_and_gradient(scores, of_row[0], of_row[1], of_row[2], tile.at(i), mine.at(j), dot_then_p,
                                         dp_then_ds);
    });
    held.left_out |= add_weighted_rows<Dim, Block::row_tiles, Block::tile_rows>(
        warp, held.value_sums, typename Block::template Weights<WeightParts<2>::grad_v>{p},
        static_cast<const T*>(block.passing(stage, 1)), whole);
    held.left_out |= add_weighted_rows<Dim, Block::row_tiles, Block::tile_rows>(
        warp, held.key_sums, typename Block::template Weights<WeightParts<2>::grad_k>{ds},
        static_cast<const T*>(block.passing(stage, 0)), whole);
  }
};

}  // namespace rondo::mma
