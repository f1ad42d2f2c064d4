/// \file
/// Balanced sharding: pieces of the sequence dealt out so that all ranks have equally much to do in every hop, under a given
/// mask.
#pragma once

#include <rondo/error.hpp>
#include <rondo/fingerprint.hpp>
#include <rondo/mask/concept.hpp>
#include <rondo/sharding/concept.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <utility>
#include <vector>

namespace rondo {

/// For masks whose work is spread unevenly: packed documents, above all. The sequence is cut into pieces of equal length,
/// which are dealt out in turns; then pairs of pieces change places as long as that lowers the sum over the hops of the
/// slowest rank's work. Every rank holds equally many tokens, up to the rest. The same arguments give the same result
/// everywhere, so every rank makes its own.
class balanced {
 public:
  static constexpr int code = 4;

  /// \param ranks            the sharding is for this number of ranks only
  /// \param tolerance        by how much the sum over the hops of the slowest rank's work may exceed the mean; as few pieces as
  ///                         reach it are made, since more of them mean more and smaller messages
  /// \param most_pieces      for each rank
  /// \param batch            entries whose work counts, where the mask depends on it
  /// \throws argument_error for lengths or numbers that make no sense
  template <Mask M>
  balanced(std::int64_t tokens, int ranks, const M& mask, double tolerance = 0.03, int most_pieces = 128, int batch = 1)
      : tokens_(tokens), ranks_(ranks) {
    if (tokens < 0) throw argument_error(detail::message("balanced: ", tokens, " tokens, there must be at least 0"));
    if (ranks < 1) throw argument_error(detail::message("balanced: ", ranks, " ranks, there must be at least 1"));
    if (most_pieces < 1) {
      throw argument_error(
          detail::message("balanced: at most ", most_pieces, " pieces for each rank, it must be at least 1"));
    }
    detail::check_policy(mask, batch, tokens, tokens);
    for (int pieces = std::min(8, most_pieces); deal(mask, pieces, batch) > 1 + tolerance && pieces < most_pieces;) {
      pieces = std::min(2 * pieces, most_pieces);
    }
  }

  std::int64_t total_tokens() const { return tokens_; }
  /// What ranks compare: who holds what.
  std::int64_t fingerprint() const { return identity_; }

  /// \throws argument_error for another number of ranks than it was made for
  std::vector<Run> runs(int rank, int ranks) const {
    if (ranks != ranks_) {
      throw argument_error(detail::message("balanced: made for ", ranks_, " ranks, the communicator has ", ranks));
    }
    return (*runs_)[static_cast<std::size_t>(rank)];
  }

 private:
  /// Work of pairs of pieces, who holds which, and what that gives between ranks.
  struct Deal {
    int ranks;
    std::int64_t pieces;
    std::vector<std::int64_t> work;     ///< [piece of queries][piece of keys]
    std::vector<int> owner;             ///< [piece]
    std::vector<std::int64_t> between;  ///< [rank of queries][rank of keys]

    std::int64_t& at(int queries, int keys) {
      return between[static_cast<std::size_t>(queries) * static_cast<std::size_t>(ranks) +
                     static_cast<std::size_t>(keys)];
    }
    std::int64_t work_of(std::int64_t queries, std::int64_t keys) const {
      return work[static_cast<std::size_t>(queries * pieces + keys)];
    }
    int& owner_of(std::int64_t piece) { return owner[static_cast<std::size_t>(piece)]; }

    void move(std::int64_t piece, int to) {
      const int from = owner_of(piece);
      for (std::int64_t other = 0; other < pieces; ++other) {
        if (other == piece) continue;
        const int rank = owner_of(other);
        const std::int64_t as_queries = work_of(piece, other), as_keys = work_of(other, piece);
        at(from, rank) -= as_queries;
        at(to, rank) += as_queries;
        at(rank, from) -= as_keys;
        at(rank, to) += as_keys;
      }
      at(from, from) -= work_of(piece, piece);
      at(to, to) += work_of(piece, piece);
      owner_of(piece) = to;
    }

    /// The slowest rank of a hop.
    int slowest(int hop) {
      int slowest = 0;
      for (int rank = 1; rank < ranks; ++rank) {
        if (at(rank, (rank + ranks - hop) % ranks) > at(slowest, (slowest + ranks - hop) % ranks)) slowest = rank;
      }
      return slowest;
    }
    /// Σ over the hops of the slowest rank's work.
    std::int64_t cost() {
      std::int64_t sum = 0;
      for (int hop = 0; hop < ranks; ++hop) {
        const int rank = slowest(hop);
        sum += at(rank, (rank + ranks - hop) % ranks);
      }
      return sum;
    }
  };

  /// Cuts, deals and improves. \return the sum over the hops of the slowest rank's work, over the mean
  template <Mask M>
  double deal(const M& mask, int pieces_per_rank, int batch) {
    const std::int64_t pieces = std::min<std::int64_t>(tokens_, std::int64_t{ranks_} * pieces_per_rank);
    std::vector<Run> cut;
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
      const std::int64_t first = detail::even_cut(tokens_, pieces, piece);
      cut.push_back({first, 1, static_cast<std::int32_t>(detail::even_cut(tokens_, pieces, piece + 1) - first)});
    }
    Deal deal{ranks_, pieces, {}, {}, std::vector<std::int64_t>(static_cast<std::size_t>(ranks_ * ranks_), 0)};
    std::int64_t total = 0;
    for (std::int64_t piece = 0; piece < pieces; ++piece) {  // there and back again, so that no rank is always the last
      const auto turn = static_cast<int>(piece % (2 * ranks_));
      deal.owner.push_back(turn < ranks_ ? turn : 2 * ranks_ - 1 - turn);
    }
    for (std::int64_t i = 0; i < pieces; ++i) {
      for (std::int64_t j = 0; j < pieces; ++j) {
        std::int64_t pairs = 0;
        for (int b = 0; b < batch; ++b) {
          pairs += mask.work(b, 0, cut[static_cast<std::size_t>(i)], cut[static_cast<std::size_t>(j)]);
        }
        deal.work.push_back(pairs);
        deal.at(deal.owner_of(i), deal.owner_of(j)) += pairs;
        total += pairs;
      }
    }
    improve(cut, deal);
    take(cut, deal);
    return total == 0 ? 1 : static_cast<double>(deal.cost()) * ranks_ / static_cast<double>(total);
  }

  /// Lets pairs of pieces of equal length change places as long as that makes the sum less: one of them from the slowest rank of
  /// a hop, of its queries or of the keys that it meets there.
  void improve(const std::vector<Run>& cut, Deal& deal) const {
    if (deal.pieces < 2 || ranks_ < 2) return;
    std::mt19937_64 random(20231003);
    const auto below = [&](std::int64_t end) {
      return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(end));
    };
    std::int64_t best = deal.cost();
    for (std::int64_t attempt = 0, idle = 0; attempt < 60 * deal.pieces && idle < 15 * deal.pieces; ++attempt, ++idle) {
      const auto hop = static_cast<int>(below(ranks_));
      const int slow = deal.slowest(hop);
      const int rank = below(2) == 0 ? slow : (slow + ranks_ - hop) % ranks_;
      std::int64_t a = below(deal.pieces);
      while (deal.owner_of(a) != rank) a = (a + 1) % deal.pieces;
      const std::int64_t b = below(deal.pieces);
      const int of_b = deal.owner_of(b);
      if (rank == of_b || cut[static_cast<std::size_t>(a)].count != cut[static_cast<std::size_t>(b)].count) continue;
      deal.move(a, of_b);
      deal.move(b, rank);
      const std::int64_t now = deal.cost();
      if (now <= best) {
        if (now < best) idle = 0;
        best = now;
      } else {
        deal.move(b, of_b);
        deal.move(a, rank);
      }
    }
  }

  /// Who holds what, neighbouring pieces as one run.
  void take(const std::vector<Run>& cut, Deal& deal) {
    auto runs = std::make_shared<std::vector<std::vector<Run>>>(static_cast<std::size_t>(ranks_));
    identity_ = 0;
    for (std::int64_t piece = 0; piece < deal.pieces; ++piece) {
      const Run& tokens = cut[static_cast<std::size_t>(piece)];
      auto& held = (*runs)[static_cast<std::size_t>(deal.owner_of(piece))];
      if (!held.empty() && held.back().last() + 1 == tokens.first) {
        held.back().count += tokens.count;
      } else {
        held.push_back(tokens);
      }
      identity_ = detail::mixed(identity_, deal.owner_of(piece));
    }
    runs_ = std::move(runs);
  }

  std::int64_t tokens_;
  int ranks_;
  std::int64_t identity_ = 0;
  std::shared_ptr<const std::vector<std::vector<Run>>> runs_;  ///< [rank]
};

static_assert(Sharding<balanced>);

}  // namespace rondo
