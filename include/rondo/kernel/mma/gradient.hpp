/// \file
/// Backward pass on tensor cores, in two halves that write disjoint rows, as the portable kernel's: no atomics, one order of
/// every sum. A block of 64 rows (queries, then keys) stays in shared memory with its two tensors while tiles of 32 rows of
/// the other side pass; the sums stay in registers.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/mma/tile.hpp>
#include <rondo/kernel/portable/gradient.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo::mma {

/// What the two halves share: blocks, tiles, and where they lie in shared memory.
template <class T, int Dim, class Exec, class Play>
struct GradientBlock {
  static constexpr int warps = 4;
  static constexpr int warp_rows = 16;
  static constexpr int block_rows = warps * warp_rows;
  static constexpr int tile_rows = 32;
  static constexpr int tiles_end = (2 * block_rows + 4 * tile_rows) * Dim;
  static constexpr int row_numbers = 3;  ///< of a passing query: lse in base 2, its factor, delta
  static constexpr int numbers_of_stage = tile_rows * row_numbers;
  static constexpr int shared_elements = tiles_end + 2 * numbers_of_stage * static_cast<int>(sizeof(float) / sizeof(T));

  using Member = typename Play::template Member<Exec>;
  using Team = typename Play::template Team<Member, warps>;
  using Warp = typename Team::Warp;
  using ScoreSums = Sums<Warp>[1][tile_rows / 8];
  using RowSums = Sums<Warp>[1][Dim / 8];

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

  /// Inner products of the warp's own rows with the passing ones, of both tensors.
  KOKKOS_FUNCTION void multiply(const Warp& warp, ScoreSums& s, ScoreSums& dp, int stage) const {
    const auto product = [&](ScoreSums& c, int which) {
      const T* rows = own(which);
      add_inner_products<Dim, 1, tile_rows>(
          warp, c, [&](int, int k, Pairs<Warp>& a) { load_a<Dim>(warp, a, rows, warp.number * warp_rows, 16 * k); },
          static_cast<const T*>(passing(stage, which)));
    };
    product(s, 0);
    product(dp, 1);
  }

  /// Inner products become weights: f(row, half, column, s, dp) for the pairs that count, 0 for the others.
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
    warp.each([&](int lane) {
      RONDO_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = warp.number * warp_rows + place_in_c(lane, 2 * half).row;
        const std::uint32_t visible = Tested ? lane_sees<tile_rows>(lane, row, sees) : ~0u;
        RONDO_UNROLL
        for (int n = 0; n < tile_rows / 8; ++n) {
          RONDO_UNROLL
          for (int e = 0; e < 2; ++e) {
            float& x = s[0][n].at(lane, 2 * half + e);
            float& y = dp[0][n].at(lane, 2 * half + e);
            if ((visible >> (2 * n + e) & 1u) != 0) {
              f(lane, row, half, 8 * n + place_in_c(lane, e).col, x, y);
            } else {
              x = 0.0f;
              y = 0.0f;
            }
          }
        }
      }
    });
  }

  /// Adds a warp's sums to the rows of a tensor [batch, tokens, heads, head_dim].
  template <class Out>
  KOKKOS_FUNCTION static void store(const Warp& warp, const RowSums& sums, const Out& out, int b, int row, int head,
                                    int count) {
    warp.each([&](int lane) {
      RONDO_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int i = warp.number * warp_rows + place_in_c(lane, 2 * half).row;
        if (i >= count) continue;
        RONDO_UNROLL
        for (int n = 0; n < Dim / 8; ++n) {
          RONDO_UNROLL
          for (int e = 0; e < 2; ++e) {
            const int d = 8 * n + place_in_c(lane, e).col;
            if (d < static_cast<int>(out.extent(3))) out(b, row + i, head, d) += sums[0][n].at(lane, 2 * half + e);
          }
        }
      }
    });
  }
};

/// grad_q of 64 queries: keys and values pass.
template <class T, int Dim, class Exec, class Play, ProblemType P>
struct QueryGradient {
  using Block = GradientBlock<T, Dim, Exec, Play>;
  using Member = typename Block::Member;
  using Warp = typename Block::Warp;
  static constexpr int warps = Block::warps;
  static constexpr int teams_together = 1;
  static constexpr int block_rows = Block::block_rows;
  static constexpr int shared_elements = Block::shared_elements;

  portable::GradientInput<T, float, Exec, P> in;
  Tensor<float, 4, typename Exec::memory_space> grad_q;

  KOKKOS_FUNCTION void operator()(const Member& member) const {
    const int blocks = (in.queries.count + block_rows - 1) / block_rows;
    const int row = (blocks - 1 - member.league_rank() % blocks) * block_rows;
    const int head = member.league_rank() / blocks % in.shape.heads;
    const int b = member.league_rank() / blocks / in.shape.heads;
    const int count = in.queries.count - row < block_rows ? in.queries.count - row : block_rows;
    const Run mine = in.queries.part(row, count);
    const ScoreTile<P, float> scores{in.problem, b, head};
    if (scores.coverage(mine, in.keys) == Coverage::none) return;

    typename Block::Team team{member};
    const Block block(member);
    typename Block::Team::template PerWarp<Held> held;
    start_rows<block_rows, Dim>(team, block.own(0), rows_of(in.q, b, row, head), count);
    start_rows<block_rows, Dim>(team, block.own(1), rows_of(in.grad_out, b, row, head), count);
    team.warps([&](const Warp& warp) { load_numbers(warp, held[warp], b, head, row, count); });

    const int kv_head = head / (in.shape.heads / in.shape.kv_heads);
    const portable::WireRows<T> k = in.wire.keys(b, kv_head);
    const portable::WireRows<T> v = in.wire.values(b, kv_head);
    const auto cover = [&](const Run& tile) {
      return whole_or_some(scores.coverage(mine, tile), count == block_rows && tile.count == Block::tile_rows);
    };
    for_tiles<Block::tile_rows>(
        team, in.keys, cover,
        [&](std::int64_t begin, int tile_count, int stage) {
          start_rows<Block::tile_rows, Dim>(team, block.passing(stage, 0), rows_of_wire(k, begin), tile_count);
          start_rows<Block::tile_rows, Dim>(team, block.passing(stage, 1), rows_of_wire(v, begin), tile_count);
        },
        [&](std::int64_t begin, int tile_count, Coverage coverage, int stage) {
          const Run tile = in.keys.part(begin, tile_count);
          team.warps([&](const Warp& warp) {
            fold_tile(warp, held[warp], block, scores, mine, tile, coverage == Coverage::all, stage);
          });
        });
    team.warps([&](const Warp& warp) {
      Block::store(warp, held[warp].sums, grad_q, b, row, head, count);
      if (!held[warp].left_out) return;
      add_left_out<Dim, Block::warp_rows, Block::tile_rows>(
          warp, rows_of_wire(k, 0), in.keys, cover,
          [&](int i, std::int64_t j) { return i < count && scores.allowed(mine.at(i), in.keys.at(j)); },
          [&](int i, int d, float x) { grad_q(b, row + i, head, d) += x; });
    });
  }

 private:
  struct Held {
    typename Block::RowSums sums = {};
    bool left_out = false;  ///< elements of keys that are not finite
    mma::Held<Warp, float, 2> lse2, factor, delta;
  };

  KOKKOS_FUNCTION void load_numbers(const Warp& warp, Held& held, int b, int head, int row, int count) const {
    warp.each([&](int lane) {
      RONDO_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int i = warp.number * Block::warp_rows + place_in_c(lane, 2 * half).row;
        const float lse = i < count ? in.lse(b, head, row + i) : 0.0f;
        held.lse2.at(lane, half) = in.base2.lse2(lse);
        held.factor.at(lane, half) = in.base2.lse2_factor(lse);
        held.delta.at(lane, half) = i < count ? in.delta(b, head, row + i) : 0.0f;
      }
    });
  }

  template <class Scores>
  KOKKOS_FUNCTION static void fold_tile(const Warp& warp, Held& held, const Block& block, const Scores& scores,
                                        const Run& mine, const Run& tile, bool whole, int stage) {
    typename Block::ScoreSums s = {}, ds = {};
    block.multiply(warp, s, ds, stage);
    const auto sees = [&](int i, int j) {
      return i < mine.count && j < tile.count && scores.allowed(mine.at(i), tile.at(j));
    };
    Block::weigh(warp, s, ds, whole, sees, [&](int lane, int i, int half, int j, float& dot_then_p, float& dp_then_ds) {
      portable::probability_and_gradient(scores, held.lse2.at(lane, half), held.factor.at(lane, half),
                                         held.delta.at(lane, half), mine.at(i), tile.at(j), dot_then_p, dp_then_ds);
    });
    held.left_out |= add_weighted_rows<WeightParts<2>::grad_q, Dim, 1, Block::tile_rows>(
        warp, held.sums, ds, static_cast<const T*>(block.passing(stage, 0)), whole);
  }
};

/// grad_k and grad_v of 64 keys: the queries of every head that this kv head serves pass, with their grad_out.
template <class T, int Dim, class Exec, class Play, ProblemType P>
struct KeyValueGradient {
  using Block = GradientBlock<T, Dim, Exec, Play>;
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

    const int group = in.shape.heads / in.shape.kv_heads;
    for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const ScoreTile<P, float> scores{in.problem, b, head};
      for_tiles<Block::tile_rows>(
          team, in.queries, cover_of(scores, mine),
          [&](std::int64_t begin, int tile_count, int stage) {
            start_rows<Block::tile_rows, Dim>(team, block.passing(stage, 0), rows_of(in.q, b, begin, head), tile_count);
            start_rows<Block::tile_rows, Dim>(team, block.passing(stage, 1), rows_of(in.grad_out, b, begin, head),
                                              tile_count);
            load_numbers(team, block.numbers(stage), b, head, begin, tile_count);
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

  KOKKOS_FUNCTION void load_numbers(typename Block::Team& team, float* numbers, int b, int head, std::int64_t begin,
                                    int count) const {
    team.share(Block::tile_rows, [&](int i) {
      const float lse = i < count ? in.lse(b, head, begin + i) : 0.0f;
      numbers[Block::row_numbers * i] = in.base2.lse2(lse);
      numbers[Block::row_numbers * i + 1] = in.base2.lse2_factor(lse);
      numbers[Block::row_numbers * i + 2] = i < count ? in.delta(b, head, begin + i) : 0.0f;
    });
  }

  template <class Scores>
  KOKKOS_FUNCTION static void fold_tile(const Warp& warp, Held& held, const Block& block, const Scores& scores,
                                        const Run& mine, const Run& tile, bool whole, int stage) {
    typename Block::ScoreSums p = {}, ds = {};
    block.multiply(warp, p, ds, stage);
    const auto sees = [&](int j, int i) {
      return j < mine.count && i < tile.count && scores.allowed(tile.at(i), mine.at(j));
    };
    const float* numbers = block.numbers(stage);
    Block::weigh(warp, p, ds, whole, sees, [&](int, int j, int, int i, float& dot_then_p, float& dp_then_ds) {
      const float* of_row = numbers + Block::row_numbers * i;
      portable::probability_and_gradient(scores, of_row[0], of_row[1], of_row[2], tile.at(i), mine.at(j), dot_then_p,
                                         dp_then_ds);
    });
    held.left_out |= add_weighted_rows<WeightParts<2>::grad_v, Dim, 1, Block::tile_rows>(
        warp, held.value_sums, p, static_cast<const T*>(block.passing(stage, 1)), whole);
    held.left_out |= add_weighted_rows<WeightParts<2>::grad_k, Dim, 1, Block::tile_rows>(
        warp, held.key_sums, ds, static_cast<const T*>(block.passing(stage, 0)), whole);
  }
};

}  // namespace rondo::mma
