/// \file
/// How many query-key pairs each rank of a ring has in a step.
#pragma once

#include <rondo/engine/workspace_bytes.hpp>
#include <rondo/mask/causal.hpp>
#include <rondo/mask/concept.hpp>
#include <rondo/mask/full.hpp>
#include <rondo/mask/window.hpp>
#include <rondo/sharding/shard_table.hpp>

#include <cstdint>
#include <type_traits>
#include <utility>

namespace rondo::plan {

/// A mask whose pieces are all sent round, and computed with in one call: as every rank's steps are then the same, and known.
template <Mask M>
struct unskipped : M {
  static constexpr bool sends_all = true;
  KOKKOS_FUNCTION constexpr Coverage coverage(int /*batch*/, int /*head*/, const Run& /*queries*/,
                                              const Run& /*keys*/) const {
    return Coverage::some;
  }
};

/// Masks that look at distances only.
template <Mask M>
inline constexpr bool by_distance = std::is_base_of_v<full, M> || std::is_base_of_v<window, M> ||
                                    std::is_same_v<M, causal> || std::is_same_v<M, unskipped<causal>>;

/// The pairs that the mask allows, rank by rank.
class StepWork {
 public:
  /// \param alike  whether ranks at the same distance in the sequence have the same work under masks that look at
  ///               distances only: contiguous or striped shards of equal length
  StepWork(ShardTable table, std::int64_t chunk, bool alike)
      : table_(std::move(table)), chunk_(rondo::detail::piece_tokens(table_, chunk)), alike_(alike) {}

  const ShardTable& table() const { return table_; }

  /// Calls f(first rank, last rank, pairs) for ranks with the same number of pairs in step `hop`, in which rank 0 has
  /// `keys` as its visitor.
  template <Mask M, class F>
  void for_ranks(const M& mask, int hop, const Run& keys, const F& f) const {
    const std::int64_t piece = piece_of(owner(0, hop), keys);
    const int ranks = table_.ranks();
    if (by_distance<M> && alike_) {
      // Visitors from behind in the sequence are all as far away, and so are those from ahead.
      if (hop > 0) f(0, hop, pairs(mask, 0, hop, piece));
      f(hop, ranks, pairs(mask, ranks - 1, hop, piece));
    } else {
      for (int rank = 0; rank < ranks; ++rank) f(rank, rank + 1, pairs(mask, rank, hop, piece));
    }
  }

 private:
  int owner(int rank, int hop) const { return (rank + table_.ranks() - hop) % table_.ranks(); }

  /// Which of its owner's pieces that is.
  std::int64_t piece_of(int owner, const Run& keys) const {
    const std::int64_t pieces = table_.pieces(owner, chunk_);
    std::int64_t piece = 0;
    while (piece < pieces && !(table_.piece(owner, piece, chunk_).tokens == keys)) ++piece;
    return piece;
  }

  template <class M>
  double pairs(const M& mask, int rank, int hop, std::int64_t piece) const {
    const Run keys = table_.piece(owner(rank, hop), piece, chunk_).tokens;
    std::int64_t pairs = 0;
    for (const Run& queries : table_.runs(rank)) pairs += mask.work(0, 0, queries, keys);
    return static_cast<double>(pairs);
  }

  ShardTable table_;
  std::int64_t chunk_;
  bool alike_;
};

}  // namespace rondo::plan
