/// \file
/// How many query-key pairs each rank of a ring has in a step.
#pragma once

#include <rondo/engine/workspace_bytes.hpp>
#include <rondo/mask/causal.hpp>
#include <rondo/mask/concept.hpp>
#include <rondo/mask/full.hpp>
#include <rondo/mask/window.hpp>
#include <rondo/sharding/shard_table.hpp>

#include <cstddef>
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

  /// Calls f(first rank, last rank, pairs, share) for ranks with the same number of pairs in step `hop` with that part
  /// of their visitors which is `keys` of rank 0's: one of several, a share of the step.
  template <Mask M, class F>
  void for_ranks(const M& mask, int hop, const Run& keys, const F& f) const {
    const Place place = place_of(owner(0, hop), keys);
    const double share = 1.0 / static_cast<double>(table_.piece(owner(0, hop), place.piece, chunk_).parts().size());
    const int ranks = table_.ranks();
    if (by_distance<M> && alike_) {
      // Visitors from behind in the sequence are all as far away, and so are those from ahead.
      if (hop > 0) f(0, hop, pairs(mask, 0, hop, place), share);
      f(hop, ranks, pairs(mask, ranks - 1, hop, place), share);
    } else {
      for (int rank = 0; rank < ranks; ++rank) f(rank, rank + 1, pairs(mask, rank, hop, place), share);
    }
  }

 private:
  int owner(int rank, int hop) const { return (rank + table_.ranks() - hop) % table_.ranks(); }

  struct Place {
    std::int64_t piece;
    std::size_t part;
  };

  /// Which part of which of its owner's pieces that is.
  Place place_of(int owner, const Run& keys) const {
    const std::int64_t pieces = table_.pieces(owner, chunk_);
    for (std::int64_t index = 0; index < pieces; ++index) {
      const Piece piece = table_.piece(owner, index, chunk_);
      for (std::size_t part = 0; part < piece.parts().size(); ++part) {
        if (piece.parts()[part].tokens == keys) return {index, part};
      }
    }
    return {pieces, 0};
  }

  template <class M>
  double pairs(const M& mask, int rank, int hop, const Place& place) const {
    const Piece piece = table_.piece(owner(rank, hop), place.piece, chunk_);
    if (place.part >= piece.parts().size()) return 0;
    std::int64_t pairs = 0;
    for (const Run& queries : table_.runs(rank)) {
      pairs += mask.work(0, 0, queries, piece.parts()[place.part].tokens);
    }
    return static_cast<double>(pairs);
  }

  ShardTable table_;
  std::int64_t chunk_;
  bool alike_;
};

}  // namespace rondo::plan
