/// \file
/// The table of every rank's runs, and its cut into pieces: what a sharding looks like once the ranks are known.
#pragma once

#include <rondo/error.hpp>
#include <rondo/fingerprint.hpp>
#include <rondo/sharding/concept.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace rondo {

/// Where a piece of a shard lies: its tokens in the sequence, and its rows in the rank's tensors.
struct Piece {
  Run tokens;
  std::int64_t row = 0;
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

  /// Number of pieces of at most `chunk` tokens in the shard of `rank`. A piece never crosses a run.
  std::int64_t pieces(int rank, std::int64_t chunk) const {
    std::int64_t count = 0;
    for (const Run& run : runs(rank)) count += (run.count + chunk - 1) / chunk;
    return count;
  }

  /// Number of pieces of the rank that has most.
  std::int64_t most_pieces(std::int64_t chunk) const {
    std::int64_t most = 0;
    for (int rank = 0; rank < ranks(); ++rank) most = std::max(most, pieces(rank, chunk));
    return most;
  }

  /// The index-th piece of a rank's shard, in the order of its rows; an empty one when there is none.
  Piece piece(int rank, std::int64_t index, std::int64_t chunk) const {
    std::int64_t row = 0;
    for (const Run& run : runs(rank)) {
      const std::int64_t here = (run.count + chunk - 1) / chunk;
      if (index < here) {
        const std::int64_t begin = index * chunk;
        return {run.part(begin, std::min<std::int64_t>(chunk, run.count - begin)), row + begin};
      }
      index -= here;
      row += run.count;
    }
    return {};
  }

  /// A number over who holds what, which ranks compare.
  std::int64_t fingerprint() const {
    std::int64_t number = detail::mixed(total_, ranks());
    for (const Run& run : runs_) number = detail::mixed(number, run.first, run.stride, run.count);
    for (const std::int64_t tokens : tokens_) number = detail::mixed(number, tokens);
    return number;
  }

  /// Length of the longest run of any rank.
  std::int64_t longest_run() const {
    std::int64_t longest = 0;
    for (const Run& run : runs_) longest = std::max<std::int64_t>(longest, run.count);
    return longest;
  }

 private:
  void check_inside(const Run& run, int rank) const {
    if (run.count >= 0 && run.stride >= 1 && run.first >= 0 && (run.count == 0 || run.last() < total_)) return;
    throw argument_error(detail::message("rank ", rank, " holds a run of ", run.count, " tokens from ", run.first, " by ",
                                         run.stride, ": it leaves the sequence of ", total_, " tokens"));
  }

  std::int64_t total_ = 0;
  std::vector<Run> runs_;
  std::vector<std::size_t> first_run_;
  std::vector<std::int64_t> tokens_;
};

}  // namespace rondo
