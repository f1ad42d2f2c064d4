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

/// For every piece, how far it travels each way round the ring: up, to the owner's next ranks, and down, as far as queries see
/// some of it. One rank's: which pieces it needs, and who needs its own. Ten bytes for every (owner, piece), nothing for pairs
/// of ranks; worked out again only when the mask changes.
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
    if (comparable && ranks_ > 0 && rank_ == rank && code_ == M::code && parameters_ == parameters) return false;
    code_ = M::code;
    parameters_ = parameters;
    rank_ = rank;
    ranks_ = keys.ranks();
    pieces_ = keys.most_pieces(chunk);
    const auto count = static_cast<std::size_t>(ranks_) * static_cast<std::size_t>(pieces_);
    needed_.assign(count, 1);
    needed_by_.assign(count, 1);
    reach_.assign(count, {});
    most_.assign(static_cast<std::size_t>(pieces_), {});
    all_ = true;
    std::vector<std::uint8_t> needed(static_cast<std::size_t>(ranks_));  // [hop], of one piece
    for (int owner = 0; owner < ranks_; ++owner) {
      for (std::int64_t piece = 0; piece < pieces_; ++piece) {
        const Run tokens = keys.piece(owner, piece, chunk).tokens;
        for (int hop = 1; hop < ranks_; ++hop) {
          const int visited = (owner + hop) % ranks_;
          const auto sees = [&](const Run& run) { return sees_some(mask, batch, heads, run, tokens); };
          const bool needs = std::ranges::any_of(queries.runs(visited), sees);
          needed[static_cast<std::size_t>(hop)] = needs;
          if (visited == rank_) needed_[at(owner, piece)] = needs;
          if (owner == rank_) needed_by_[at(visited, piece)] = needs;
          // Nobody is told of an empty message, and an idle rank takes part in every step all the same.
          all_ = all_ && (needs || tokens.count == 0 || queries.tokens(visited) == 0);
        }
        const Reach reach = shortest_ways(needed);
        reach_[at(owner, piece)] = reach;
        Reach& most = most_[static_cast<std::size_t>(piece)];
        most = {std::max(most.up, reach.up), std::max(most.down, reach.down)};
      }
    }
    return true;
  }

  /// Whether every rank needs every piece.
  bool all() const { return all_; }
  int ranks() const { return ranks_; }
  std::int64_t pieces() const { return pieces_; }

  /// Whether this rank needs a piece, and whether another one needs a piece of this one's. One's own: always.
  bool needed(int owner, std::int64_t piece) const { return needed_[at(owner, piece)] != 0; }
  bool needed_by(int visited, std::int64_t piece) const { return needed_by_[at(visited, piece)] != 0; }
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

  std::size_t at(int owner, std::int64_t piece) const {
    return static_cast<std::size_t>(owner) * static_cast<std::size_t>(pieces_) + static_cast<std::size_t>(piece);
  }

  /// Up to some rank and down to the next one that needs it: the fewest hops in all.
  Reach shortest_ways(const std::vector<std::uint8_t>& needed) const {
    const auto needs = [&](int hop) { return needed[static_cast<std::size_t>(hop)] != 0; };
    Reach best{0, 0};
    bool found = false;
    for (int up = 0; up < ranks_; ++up) {
      if (up > 0 && !needs(up)) continue;
      int after = up + 1;
      while (after < ranks_ && !needs(after)) ++after;
      const Reach reach{up, ranks_ - after};
      const int hops = reach.up + reach.down, fewest = best.up + best.down;
      if (!found || hops < fewest || (hops == fewest && reach.down == 0)) best = reach;
      found = true;
    }
    return best;
  }

  int rank_ = 0;
  int ranks_ = 0;
  std::int64_t pieces_ = 0;
  int code_ = 0;
  std::int64_t parameters_ = 0;
  bool all_ = true;
  std::vector<std::uint8_t> needed_;
  std::vector<std::uint8_t> needed_by_;
  std::vector<Reach> reach_;
  std::vector<Reach> most_;
};

}  // namespace rondo::schedule
