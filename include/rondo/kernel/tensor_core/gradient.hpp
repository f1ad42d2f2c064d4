/// \file
/// Backward pass on tensor cores, in two halves that write disjoint rows, as the portable kernel's: no atomics, one order of
/// every sum. A block of rows (queries, then keys) stays with its two tensors while tiles of rows of the other side pass
/// through shared memory; the sums stay in registers.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/portable/gradient.hpp>
#include <rondo/kernel/tensor_core/rows.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo::tensor_core {

/// What the two halves share. Tensor 0 is what scores are made of, tensor 1 what their gradients are, of own and passing rows.
template <class Block>
struct GradientSums {
  using Warp = typename Block::Team::Warp;
  using Lanes = typename Block::Lanes;
  using Scores = typename Block::Scores;
  static constexpr int warp_rows = Block::warp_rows;
  static constexpr int own_rows = warp_rows / Lanes::row_step;  ///< that a lane has a part of

  /// Calls f(own, row) for each row that a lane has a part of.
  template <class F>
  KOKKOS_FUNCTION static void for_rows(const Warp& warp, int lane, const F& f) {
    RONDO_UNROLL
    for (int own = 0; own < own_rows; ++own) f(own, warp.number * warp_rows + Lanes::row(lane, own));
  }

  /// Inner products become weights: f(lane, row, own, column, s, dp) for the pairs that count, 0 for the others.
  template <class Sees, class F>
  KOKKOS_FUNCTION static void weigh(const Warp& warp, Scores& s, Scores& dp, bool whole, const Sees& sees, const F& f) {
    if (whole) {
      weigh<false>(warp, s, dp, sees, f);
    } else {
      weigh<true>(warp, s, dp, sees, f);
    }
  }
  template <bool Tested, class Sees, class F>
  KOKKOS_FUNCTION static void weigh(const Warp& warp, Scores& s, Scores& dp, const Sees& sees, const F& f) {
    warp.each([&](int lane) {
      for_rows(warp, lane, [&](int own, int row) {
        const std::uint32_t visible = Tested ? lane_sees<Lanes, Block::tile_rows>(lane, row, sees) : ~0u;
        RONDO_UNROLL
        for (int n = 0; n < Lanes::template numbers<Block::tile_rows>; ++n) {
          float& x = Lanes::at(s, lane, own, n);
          float& y = Lanes::at(dp, lane, own, n);
          if ((visible >> n & 1u) != 0) {
            f(lane, row, own, Lanes::column(lane, n), x, y);
          } else {
            x = 0.0f;
            y = 0.0f;
          }
        }
      });
    });
  }

  /// Adds a warp's sums to the rows of a tensor [batch, tokens, heads, head_dim].
  template <class Out>
  KOKKOS_FUNCTION static void store(const Warp& warp, const typename Block::Sums& sums, const Out& out, int b, int row,
                                    int head, int count) {
    warp.each_anew([&](int lane) {
      for_rows(warp, lane, [&](int own, int i) {
        if (i >= count) return;
        RONDO_UNROLL
        for (int n = 0; n < Lanes::template numbers<Block::dim>; ++n) {
          const int d = Lanes::column(lane, n);
          if (d < static_cast<int>(out.extent(3))) out(b, row + i, head, d) += Lanes::at(sums, lane, own, n);
        }
      });
    });
  }
};

/// grad_q of a block of queries: keys and values pass.
template <class Model, class T, int Dim, class Exec, class Play, ProblemType P>
struct QueryGradient {
  using Member = typename Kokkos::TeamPolicy<Exec>::member_type;
  using Team = typename Play::template Team<Member, Model::warps>;
  using Warp = typename Team::Warp;
  using Block = typename Model::template QueryBlock<T, Dim, Team>;
  using Sums = GradientSums<Block>;

  static constexpr int threads = Model::warps * Model::lanes;
  static constexpr int warps = Model::warps;
  static constexpr int block_rows = Block::block_rows;
  static constexpr int tile_rows = Block::tile_rows;
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

    Team team{member};
    Block block{static_cast<T*>(
        member.team_scratch(int{Play::scratch_level}).get_shmem_aligned(sizeof(T) * shared_elements, 16))};
    typename Team::template PerWarp<Held> held;
    block.load_own(team, 0, rows_of(in.q, b, row, head), count);
    block.load_own(team, 1, rows_of(in.grad_out, b, row, head), count);
    team.warps([&](const Warp& warp) { load_numbers(warp, held[warp], b, head, row, count); });

    const int kv_head = head / (in.shape.heads / in.shape.kv_heads);
    const portable::WireRows<T> k = in.wire.keys(b, kv_head);
    const portable::WireRows<T> v = in.wire.values(b, kv_head);
    const auto cover = [&](const Run& tile) {
      return whole_or_some(scores.coverage(mine, tile), count == block_rows && tile.count == tile_rows);
    };
    block.for_tiles(
        team, VisibleTiles<tile_rows, decltype(cover)>{in.keys, cover},
        [&](std::int64_t begin, int tile_count, int stage) {
          block.start(team, 0, rows_of_wire(k, begin), tile_count, stage);
          block.start(team, 1, rows_of_wire(v, begin), tile_count, stage);
        },
        [&](std::int64_t begin, int tile_count, Coverage coverage, int stage) {
          const Run tile = in.keys.part(begin, tile_count);
          team.warps([&](const Warp& warp) {
            fold_tile(warp, held[warp], block, scores, mine, tile, coverage == Coverage::all, stage);
          });
        });
    team.warps([&](const Warp& warp) {
      Sums::store(warp, held[warp].sums, grad_q, b, row, head, count);
      if (!held[warp].left_out) return;
      add_left_out<typename Block::Lanes, Dim, Block::warp_rows, tile_rows>(
          warp, rows_of_wire(k, 0), in.keys, cover,
          [&](int i, std::int64_t j) { return i < count && scores.allowed(mine.at(i), in.keys.at(j)); },
          [&](int i, int d, float x) { grad_q(b, row + i, head, d) += x; });
    });
  }

 private:
  struct Held {
    typename Block::Sums sums = {};
    bool left_out = false;  ///< elements of keys that are not finite
    tensor_core::Held<Warp, float, Sums::own_rows> lse2, factor, delta;
  };

  KOKKOS_FUNCTION void load_numbers(const Warp& warp, Held& held, int b, int head, int row, int count) const {
    warp.each([&](int lane) {
      Sums::for_rows(warp, lane, [&](int own, int i) {
        const float lse = i < count ? in.lse(b, head, row + i) : 0.0f;
        held.lse2.at(lane, own) = in.base2.lse2(lse);
        held.factor.at(lane, own) = in.base2.lse2_factor(lse);
        held.delta.at(lane, own) = i < count ? in.delta(b, head, row + i) : 0.0f;
      });
    });
  }

  template <class Scores>
  KOKKOS_FUNCTION static void fold_tile(const Warp& warp, Held& held, Block& block, const Scores& scores,
                                        const Run& mine, const Run& tile, bool whole, int stage) {
    typename Block::Scores s = {}, ds = {};
    block.multiply(warp, s, 0, stage);
    block.multiply(warp, ds, 1, stage);
    const auto sees = [&](int i, int j) {
      return i < mine.count && j < tile.count && scores.allowed(mine.at(i), tile.at(j));
    };
    Sums::weigh(warp, s, ds, whole, sees, [&](int lane, int i, int own, int j, float& dot_then_p, float& dp_then_ds) {
      portable::probability_and_gradient(scores, held.lse2.at(lane, own), held.factor.at(lane, own),
                                         held.delta.at(lane, own), mine.at(i), tile.at(j), dot_then_p, dp_then_ds);
    });
    held.left_out |= block.template add_weighted<WeightParts<2>::grad_q>(warp, held.sums, ds, 0, stage, whole);
  }
};

/// grad_k and grad_v of a block of keys: the queries of every head that this kv head serves pass, with their grad_out.
template <class Model, class T, int Dim, class Exec, class Play, ProblemType P>
struct KeyValueGradient {
  using Member = typename Kokkos::TeamPolicy<Exec>::member_type;
  using Team = typename Play::template Team<Member, Model::warps>;
  using Warp = typename Team::Warp;
  using Block = typename Model::template KeyBlock<T, Dim, Team>;
  using Sums = GradientSums<Block>;

  static constexpr int threads = Model::warps * Model::lanes;
  static constexpr int warps = Model::warps;
  static constexpr int block_rows = Block::block_rows;
  static constexpr int tile_rows = Block::tile_rows;
  static constexpr int row_numbers = 3;  ///< of a passing query: lse in base 2, its factor, delta
  static constexpr int stage_numbers = tile_rows * row_numbers;
  static constexpr int shared_elements =
      Block::shared_elements + 2 * stage_numbers * static_cast<int>(sizeof(float) / sizeof(T));

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

    Team team{member};
    Block block{static_cast<T*>(
        member.team_scratch(int{Play::scratch_level}).get_shmem_aligned(sizeof(T) * shared_elements, 16))};
    typename Team::template PerWarp<Held> held;
    block.load_own(team, 0, rows_of_wire(in.wire.keys(b, kv_head), row), count);
    block.load_own(team, 1, rows_of_wire(in.wire.values(b, kv_head), row), count);

    const int group = in.shape.heads / in.shape.kv_heads;
    for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      const ScoreTile<P, float> scores{in.problem, b, head};
      const auto cover = cover_of(scores, mine);
      block.for_tiles(
          team, VisibleTiles<tile_rows, decltype(cover)>{in.queries, cover},
          [&](std::int64_t begin, int tile_count, int stage) {
            block.start(team, 0, rows_of(in.q, b, begin, head), tile_count, stage);
            block.start(team, 1, rows_of(in.grad_out, b, begin, head), tile_count, stage);
            load_numbers(team, numbers(block, stage), b, head, begin, tile_count);
          },
          [&](std::int64_t begin, int tile_count, Coverage coverage, int stage) {
            const Run tile = in.queries.part(begin, tile_count);
            team.warps([&](const Warp& warp) {
              fold_tile(warp, held[warp], block, scores, mine, tile, coverage == Coverage::all, stage);
            });
          });
    }
    team.warps([&](const Warp& warp) {
      Sums::store(warp, held[warp].key_sums, grad_k, b, row, kv_head, count);
      Sums::store(warp, held[warp].value_sums, grad_v, b, row, kv_head, count);
      if (!held[warp].left_out) return;
      for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
        add_left_out_of(warp, rows_of(in.q, b, 0, head), grad_k, b, head, row, mine);
        add_left_out_of(warp, rows_of(in.grad_out, b, 0, head), grad_v, b, head, row, mine);
      }
    });
  }

 private:
  struct Held {
    typename Block::Sums key_sums = {};
    typename Block::Sums value_sums = {};
    bool left_out = false;  ///< elements of queries or grad_out that are not finite
  };

  KOKKOS_FUNCTION static float* numbers(const Block& block, int stage) {
    return reinterpret_cast<float*>(block.shared + Block::shared_elements) + stage * stage_numbers;
  }

  template <class Scores>
  KOKKOS_FUNCTION static auto cover_of(const Scores& scores, const Run& mine) {
    return [&scores, &mine](const Run& tile) {
      return whole_or_some(scores.coverage(tile, mine), mine.count == block_rows && tile.count == tile_rows);
    };
  }

  /// One head's part of what was left out of the sums of `grad`.
  template <class Grad>
  KOKKOS_FUNCTION void add_left_out_of(const Warp& warp, const SourceRows<T>& from, const Grad& grad, int b, int head,
                                       int row, const Run& mine) const {
    const ScoreTile<P, float> scores{in.problem, b, head};
    const int kv_head = head / (in.shape.heads / in.shape.kv_heads);
    add_left_out<typename Block::Lanes, Dim, Block::warp_rows, tile_rows>(
        warp, from, in.queries, cover_of(scores, mine),
        [&](int j, std::int64_t i) { return j < mine.count && scores.allowed(in.queries.at(i), mine.at(j)); },
        [&](int j, int d, float x) { grad(b, row + j, kv_head, d) += x; });
  }

  KOKKOS_FUNCTION void load_numbers(Team& team, float* numbers, int b, int head, std::int64_t begin, int count) const {
    team.share(tile_rows, [&](int i) {
      const float lse = i < count ? in.lse(b, head, begin + i) : 0.0f;
      numbers[row_numbers * i] = in.base2.lse2(lse);
      numbers[row_numbers * i + 1] = in.base2.lse2_factor(lse);
      numbers[row_numbers * i + 2] = i < count ? in.delta(b, head, begin + i) : 0.0f;
    });
  }

  template <class Scores>
  KOKKOS_FUNCTION static void fold_tile(const Warp& warp, Held& held, Block& block, const Scores& scores,
                                        const Run& mine, const Run& tile, bool whole, int stage) {
    typename Block::Scores p = {}, ds = {};
    block.multiply(warp, p, 0, stage);
    block.multiply(warp, ds, 1, stage);
    const auto sees = [&](int j, int i) {
      return j < mine.count && i < tile.count && scores.allowed(tile.at(i), mine.at(j));
    };
    const float* of_tile = numbers(block, stage);
    Sums::weigh(warp, p, ds, whole, sees, [&](int, int j, int, int i, float& dot_then_p, float& dp_then_ds) {
      const float* of_row = of_tile + row_numbers * i;
      portable::probability_and_gradient(scores, of_row[0], of_row[1], of_row[2], tile.at(i), mine.at(j), dot_then_p,
                                         dp_then_ds);
    });
    held.left_out |= block.template add_weighted<WeightParts<2>::grad_v>(warp, held.value_sums, p, 1, stage, whole);
    held.left_out |= block.template add_weighted<WeightParts<2>::grad_k>(warp, held.key_sums, ds, 0, stage, whole);
  }
};

}  // namespace rondo::tensor_core
