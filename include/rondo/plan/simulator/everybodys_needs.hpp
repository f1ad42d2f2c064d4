/// \file
/// Who needs which piece, of all ranks of a ring at once.
#pragma once

#include <rondo/mask/concept.hpp>
#include <rondo/schedule/needs.hpp>
#include <rondo/sharding/shard_table.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <ranges>
#include <vector>

namespace rondo::plan::simulated {

/// Where ranks at the same distance see the same of each other, one pair of each distance is asked, and what is known grows
/// with the ranks. Elsewhere every pair of ranks is asked, more than once.
template <Mask M>
class EverybodysNeeds {
 public:
  EverybodysNeeds(const ShardTable& table, std::int64_t chunk, const M& mask, bool alike)
      : table_(table), chunk_(chunk), mask_(mask), pieces_(table.most_pieces(chunk)), alike_(alike) {
    if (alike) {
      update_by_distance();
      return;
    }
    travels_.update(
        table.ranks(), pieces_, [&](int owner, std::int64_t piece) { return piece_of(owner, piece); },
        [&](int visited, int /*owner*/, std::int64_t /*piece*/, const Piece& keys) {
          const bool needs = asked(visited, keys);
          all_ = all_ && (needs || keys.tokens() == 0 || table_.tokens(visited) == 0);
          return needs;
        });
  }

  /// Whether ranks at the same distance see the same of each other.
  bool alike() const { return alike_; }
  /// Whether every rank needs every piece; then nothing else need be known.
  bool all() const { return all_; }
  const schedule::Travels& travels() const { return travels_; }
  Piece piece_of(int owner, std::int64_t piece) const { return table_.piece(owner, piece, chunk_); }

  /// One rank's, for its steps.
  struct Of {
    const EverybodysNeeds& all;
    int rank;
    bool needed(int owner, std::int64_t piece) const { return owner == rank || all.sees(rank, owner, piece); }
    bool needed_by(int visited, std::int64_t piece) const { return visited == rank || all.sees(visited, rank, piece); }
  };
  Of of(int rank) const { return {*this, rank}; }

 private:
  bool asked(int visited, const Piece& keys) const { return schedule::rank_sees(mask_, 1, 1, table_, visited, keys); }
  bool sees(int visited, int owner, std::int64_t piece) const {
    if (!alike_) return asked(visited, piece_of(owner, piece));
    const auto& distances = visited > owner ? later_ : earlier_;
    const auto& ranges = distances[static_cast<std::size_t>(piece)];
    const int distance = std::abs(visited - owner);
    const auto range = std::ranges::lower_bound(ranges, distance, {}, &schedule::HopRange::last);
    return range != ranges.end() && range->first <= distance;
  }

  void update_by_distance() {
    const int ranks = table_.ranks();
    later_.resize(static_cast<std::size_t>(pieces_));
    earlier_.resize(static_cast<std::size_t>(pieces_));
    for (std::int64_t piece = 0; piece < pieces_; ++piece) {
      auto& later = later_[static_cast<std::size_t>(piece)];
      auto& earlier = earlier_[static_cast<std::size_t>(piece)];
      for (int distance = 1; distance < ranks; ++distance) {
        if (asked(distance, piece_of(0, piece))) schedule::append_hop(later, distance);
        if (asked(0, piece_of(distance, piece))) schedule::append_hop(earlier, distance);
      }
      const auto everybody = [&](const auto& ranges) {
        return ranges.size() == 1 && ranges[0].last - ranges[0].first == ranks - 2;
      };
      all_ = all_ && (ranks == 1 || (everybody(later) && everybody(earlier)));
    }
    travels_.update(ranks, pieces_, [&](int owner, std::int64_t piece, std::vector<schedule::HopRange>& needed) {
      for (const auto& range : later_[static_cast<std::size_t>(piece)]) {
        const int last = std::min(range.last, ranks - 1 - owner);
        if (range.first <= last) needed.push_back({range.first, last});
      }
      for (const auto& range : earlier_[static_cast<std::size_t>(piece)] | std::views::reverse) {
        const int farthest = std::min(range.last, owner);
        if (range.first <= farthest) needed.push_back({ranks - farthest, ranks - range.first});
      }
    });
  }

  const ShardTable& table_;
  std::int64_t chunk_;
  M mask_;
  std::int64_t pieces_;
  bool alike_;
  bool all_ = true;
  /// [piece]: the distances of ranks later in the sequence that see some of it, and of earlier ones.
  std::vector<std::vector<schedule::HopRange>> later_, earlier_;
  schedule::Travels travels_;
};

}  // namespace rondo::plan::simulated
