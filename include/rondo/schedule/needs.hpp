/// \file
/// Which rank needs which piece under a mask: known on every rank without talking, from the shardings and the mask alone.
#pragma once

#include <rondo/fingerprint.hpp>
#include <rondo/mask/concept.hpp>
#include <rondo/sharding/shard_table.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace rondo::schedule {

/// Whether any of a rank's queries see some of a piece.
template <Mask M>
bool rank_sees(const M& mask, int batch, int heads, const ShardTable& queries, int rank, const Piece& keys) {
  return std::ranges::any_of(keys.parts(), [&](const Part& part) {
    return std::ranges::any_of(queries.runs(rank),
                               [&](const Run& run) { return sees_some(mask, batch, heads, run, part.tokens); });
  });
}

/// Some of a piece's hops up the ring, from the first to the last.
struct HopRange {
  int first = 0;
  int last = 0;
};

/// Adds a hop later than all that are there.
inline void append_hop(std::vector<HopRange>& hops, int hop) {
  if (!hops.empty() && hops.back().last + 1 == hop) {
    hops.back().last = hop;
  } else {
    hops.push_back({hop, hop});
  }
}

/// For every piece, how far it travels each way round the ring: up, to the owner's next ranks, and down, as far as queries see
/// some of it. The same on all ranks; eight bytes for every (owner, piece).
class Travels {
 public:
  /// \param piece_of  (owner, piece): the piece
  /// \param sees      (visited rank, owner, piece, the same): whether that rank's queries see some of it
  template <class PieceOf, class F>
  void update(int ranks, std::int64_t pieces, const PieceOf& piece_of, const F& sees) {
    update(ranks, pieces, [&](int owner, std::int64_t piece, std::vector<HopRange>& needed) {
      const Piece keys = piece_of(owner, piece);
      for (int hop = 1; hop < ranks; ++hop) {
        if (sees((owner + hop) % ranks, owner, piece, keys)) append_hop(needed, hop);
      }
    });
  }
  /// \param hops_of  (owner, piece, ranges): appends the hops to ranks that need the piece, in ascending order
  template <class F>
  void update(int ranks, std::int64_t pieces, const F& hops_of) {
    ranks_ = ranks;
    pieces_ = pieces;
    reach_.assign(static_cast<std::size_t>(ranks) * static_cast<std::size_t>(pieces), {});
    most_.assign(static_cast<std::size_t>(pieces), {});
    std::vector<HopRange> needed;
    for (int owner = 0; owner < ranks; ++owner) {
      for (std::int64_t piece = 0; piece < pieces; ++piece) {
        needed.clear();
        hops_of(owner, piece, needed);
        const Reach reach = shortest_ways(needed);
        reach_[at(owner, piece)] = reach;
        Reach& most = most_[static_cast<std::size_t>(piece)];
        most = {std::max(most.up, reach.up), std::max(most.down, reach.down)};
      }
    }
  }

  int ranks() const { return ranks_; }
  std::int64_t pieces() const { return pieces_; }
  std::size_t at(int owner, std::int64_t piece) const {
    return static_cast<std::size_t>(owner) * static_cast<std::size_t>(pieces_) + static_cast<std::size_t>(piece);
  }
  /// How many hops a piece of `owner` travels. \param way  1 up, -1 down
  int reach(int owner, std::int64_t piece, int way) const { return of(reach_[at(owner, piece)], way); }
  /// The most of any owner.
  int most(std::int64_t piece, int way) const { return of(most_[static_cast<std::size_t>(piece)], way); }

 private:
  struct Reach {
    int up = 0;
    int down = 0;
  };
  static int of(const Reach& reach, int way) { return way > 0 ? reach.up : reach.down; }

  /// Up to some rank and down to the next one that needs it: the fewest hops in all. Inside a range nothing is left out.
  Reach shortest_ways(const std::vector<HopRange>& needed) const {
    Reach best{0, needed.empty() ? 0 : ranks_ - needed.front().first};
    for (std::size_t range = 0; range < needed.size(); ++range) {
      const int after = range + 1 < needed.size() ? needed[range + 1].first : ranks_;
      const Reach reach{needed[range].last, ranks_ - after};
      const int hops = reach.up + reach.down, fewest = best.up + best.down;
      if (hops < fewest || (hops == fewest && reach.down == 0)) best = reach;
    }
    return best;
  }

  int ranks_ = 0;
  std::int64_t pieces_ = 0;
  std::vector<Reach> reach_;
  std::vector<Reach> most_;
};

/// What one rank knows: how far all pieces travel, which of them it needs, and who needs its own. Ten bytes for every
/// (owner, piece), nothing for pairs of ranks; worked out again only when the mask changes.
class Needs {
 public:
  /// \param rank           whose
  /// \param queries, keys  which of them every rank holds
  /// \param chunk          tokens of a piece
  /// \return whether anything was worked out
  template <Mask M>
  bool update(int rank, const ShardTable& queries, const ShardTable& keys, const M& mask, int batch, int heads,
              std::int64_t chunk) {
    // A mask without a fingerprint, a user's, may have changed in any way.
    constexpr bool comparable = requires { mask.fingerprint(); }
    || std::is_empty_v<M>;
    const std::int64_t parameters = detail::fingerprint(mask);
    if (comparable && ranks() > 0 && rank_ == rank && code_ == M::code && parameters_ == parameters) return false;
    code_ = M::code;
    parameters_ = parameters;
    rank_ = rank;
    const std::int64_t pieces = keys.most_pieces(chunk);
    const auto count = static_cast<std::size_t>(keys.ranks()) * static_cast<std::size_t>(pieces);
    needed_.assign(count, 1);
    needed_by_.assign(count, 1);
    all_ = true;
    const auto piece_of = [&](int owner, std::int64_t piece) { return keys.piece(owner, piece, chunk); };
    travels_.update(keys.ranks(), pieces, piece_of, [&](int visited, int owner, std::int64_t piece, const Piece& held) {
      const bool needs = rank_sees(mask, batch, heads, queries, visited, held);
      if (visited == rank_) needed_[travels_.at(owner, piece)] = needs;
      if (owner == rank_) needed_by_[travels_.at(visited, piece)] = needs;
      // Nobody is told of an empty message, and an idle rank takes part in every step all the same.
      all_ = all_ && (needs || held.tokens() == 0 || queries.tokens(visited) == 0);
      return needs;
    });
    return true;
  }

  /// Whether every rank needs every piece.
  bool all() const { return all_; }
  const Travels& travels() const { return travels_; }
  int ranks() const { return travels_.ranks(); }
  std::int64_t pieces() const { return travels_.pieces(); }

  /// Whether this rank needs a piece, and whether another one needs a piece of this one's. One's own: always.
  bool needed(int owner, std::int64_t piece) const { return needed_[travels_.at(owner, piece)] != 0; }
  bool needed_by(int visited, std::int64_t piece) const { return needed_by_[travels_.at(visited, piece)] != 0; }

 private:
  int rank_ = 0;
  int code_ = 0;
  std::int64_t parameters_ = 0;
  bool all_ = true;
  Travels travels_;
  std::vector<std::uint8_t> needed_;
  std::vector<std::uint8_t> needed_by_;
};

}  // namespace rondo::schedule
