/// \file
/// The table of every rank's runs, and its cut into pieces: what a sharding looks like once the ranks are known.
#pragma once

#include <rondo/error.hpp>
#include <rondo/fingerprint.hpp>
#include <rondo/sharding/concept.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

namespace rondo {

/// Part of one run of a shard: its tokens in the sequence, and the row of the first in the rank's tensors.
struct Part {
  Run tokens;
  std::int64_t row = 0;
};

/// What circulates at a time. Of a shard of two runs a piece takes its share of each, so that all pieces are alike:
/// under a causal mask every rank has work with zigzag's early run, and few with its late one. Otherwise a piece lies in
/// one run.
class Piece {
 public:
  Piece() = default;
  explicit Piece(const Part& part) : parts_{part, {}} {}
  Piece(const Part& first, const Part& second) : parts_{first, second}, count_(2) {}

  /// In the order of their rows. At least one; it is empty where the piece is.
  std::span<const Part> parts() const { return {parts_.data(), count_}; }
  /// Number of tokens.
  std::int64_t tokens() const { return std::int64_t{parts_[0].tokens.count} + parts_[1].tokens.count; }

 private:
  std::array<Part, 2> parts_{};
  std::size_t count_ = 1;
};

/// Which tokens every rank holds. Built once from a Sharding and a number of ranks; the only thing in Rondo whose
/// size grows with the number of ranks.
class ShardTable {
 public:
  ShardTable() = default;

  /// \throws argument_error when a length or a rank count makes no sense, or when the sharding's runs leave the
  ///         sequence or do not hold `total_tokens()` tokens in all.
  template <Sharding S>
  ShardTable(const S& sharding, int ranks) : total_(sharding.total_tokens()) {
    if (ranks < 1) throw argument_error(detail::message("a sharding needs at least 1 rank, given ", ranks));
    if (total_ < 0) throw argument_error(detail::message("a sequence of ", total_, " tokens: must not be negative"));
    if (total_ / ranks >= std::numeric_limits<std::int32_t>::max()) {
      throw argument_error(detail::message(total_, " tokens over ", ranks, " ranks: a run holds at most 2^31 - 2"));
    }
    std::int64_t held = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      first_run_.push_back(runs_.size());
      std::int64_t tokens = 0;
      for (const Run& run : sharding.runs(rank, ranks)) {
        check_inside(run, rank);
        runs_.push_back(run);
        tokens += run.count;
      }
      tokens_.push_back(tokens);
      held += tokens;
    }
    first_run_.push_back(runs_.size());
    if (held != total_) {
      throw argument_error(detail::message("the sharding's runs hold ", held, " tokens, the sequence has ", total_));
    }
  }

  int ranks() const { return static_cast<int>(tokens_.size()); }
  std::int64_t total_tokens() const { return total_; }
  /// Number of tokens that `rank` holds.
  std::int64_t tokens(int rank) const { return tokens_.at(static_cast<std::size_t>(rank)); }
  std::span<const Run> runs(int rank) const {
    const auto index = static_cast<std::size_t>(rank);
    return std::span{runs_}.subspan(first_run_.at(index), first_run_.at(index + 1) - first_run_.at(index));
  }

  /// Calls f(position, row) for every token of `rank`, in the order in which the rank stores them.
  template <class F>
  void for_each_token(int rank, F&& f) const {
    std::int64_t row = 0;
    for (const Run& run : runs(rank)) {
      for (std::int32_t index = 0; index < run.count; ++index) f(run.at(index), row++);
    }
  }

  /// Number of pieces of at most `chunk` tokens in the shard of `rank`.
  std::int64_t pieces(int rank, std::int64_t chunk) const {
    const auto shares = shares_of_two_runs(rank, chunk);
    std::int64_t count = 0;
    for (std::size_t run = 0; run < runs(rank).size(); ++run) {
      const std::int64_t here = cut_into(runs(rank)[run].count, shares ? (*shares)[run] : chunk);
      count = shares ? std::max(count, here) : count + here;
    }
    return count;
  }

  /// Number of pieces of the rank that has most.
  std::int64_t most_pieces(std::int64_t chunk) const {
    std::int64_t most = 0;
    for (int rank = 0; rank < ranks(); ++rank) most = std::max(most, pieces(rank, chunk));
    return most;
  }

  /// The index-th piece of a rank's shard, in the order of its rows (of each run); an empty one when there is none.
  Piece piece(int rank, std::int64_t index, std::int64_t chunk) const {
    if (const auto shares = shares_of_two_runs(rank, chunk)) {
      const Run &early = runs(rank)[0], &late = runs(rank)[1];
      const Part first = part(early, 0, index, (*shares)[0]), second = part(late, early.count, index, (*shares)[1]);
      if (second.tokens.count == 0) return Piece(first);
      return first.tokens.count == 0 ? Piece(second) : Piece(first, second);
    }
    std::int64_t row = 0;
    for (const Run& run : runs(rank)) {
      const std::int64_t here = cut_into(run.count, chunk);
      if (index < here) return Piece(part(run, row, index, chunk));
      index -= here;
      row += run.count;
    }
    return {};
  }

  /// Tokens that a piece takes of each run of a shard of two, in proportion to their lengths; nothing of other shards.
  std::optional<std::array<std::int64_t, 2>> shares_of_two_runs(int rank, std::int64_t chunk) const {
    const std::span<const Run> both = runs(rank);
    if (chunk < 2 || both.size() != 2 || both[0].count == 0 || both[1].count == 0) return std::nullopt;
    const std::int64_t early = both[0].count, all = early + both[1].count;
    if (chunk >= all) return std::array{early, all - early};
    const auto share = static_cast<std::int64_t>(
        std::llround(static_cast<double>(chunk) * static_cast<double>(early) / static_cast<double>(all)));
    const std::int64_t first = std::clamp<std::int64_t>(share, 1, chunk - 1);
    return std::array{first, chunk - first};
  }

  /// A number over who holds what, which ranks compare.
  std::int64_t fingerprint() const {
    std::int64_t number = detail::mixed(total_, ranks());
    for (const Run& run : runs_) number = detail::mixed(number, run.first, run.stride, run.count);
    for (const std::int64_t tokens : tokens_) number = detail::mixed(number, tokens);
    return number;
  }

  /// Tokens of the largest piece of any rank, however large pieces may be.
  std::int64_t longest_piece() const {
    std::int64_t longest = 0;
    for (int rank = 0; rank < ranks(); ++rank) {
      const bool together = runs(rank).size() == 2;
      std::int64_t tokens_of_piece = together ? tokens(rank) : 0;
      for (const Run& run : runs(rank)) tokens_of_piece = std::max<std::int64_t>(tokens_of_piece, run.count);
      longest = std::max(longest, tokens_of_piece);
    }
    return longest;
  }

 private:
  static std::int64_t cut_into(std::int64_t tokens, std::int64_t length) { return (tokens + length - 1) / length; }

  /// The index-th of a run's parts of `length` tokens, which is empty beyond the last one.
  static Part part(const Run& run, std::int64_t row, std::int64_t index, std::int64_t length) {
    const std::int64_t begin = index * length;
    if (begin >= run.count) return {};
    return {run.part(begin, std::min(length, run.count - begin)), row + begin};
  }

  void check_inside(const Run& run, int rank) const {
    if (run.count >= 0 && run.stride >= 1 && run.first >= 0 && (run.count == 0 || run.last() < total_)) return;
    throw argument_error(detail::message("rank ", rank, " holds a run of ", run.count, " tokens from ", run.first,
                                         " by ", run.stride, ": it leaves the sequence of ", total_, " tokens"));
  }

  std::int64_t total_ = 0;
  std::vector<Run> runs_;
  std::vector<std::size_t> first_run_;
  std::vector<std::int64_t> tokens_;
};

}  // namespace rondo
