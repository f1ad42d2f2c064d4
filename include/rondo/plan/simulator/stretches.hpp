/// \file
/// Which ranks of a ring have anything to do in a step, and between which of them the step can change.
#pragma once

#include <rondo/schedule/needs.hpp>
#include <rondo/schedule/skipping_ring.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace rondo::plan::simulated {

/// Ranks [first, last).
struct Ranks {
  int first = 0;
  int last = 0;
};

/// Step after step, the stretches of ranks with the same part in it: their pieces travel as far, and they lie on the same
/// side of the ring's end. Who has no part is left out, so that a step costs no more than those who have one.
class Stretches {
 public:
  /// Both have to outlive it. \param first  of first_steps
  Stretches(const schedule::Travels& travels, const std::vector<std::int64_t>& first)
      : travels_(travels), first_(first), ranks_(travels.ranks()) {}

  /// In ascending order. To be called for every step, from the first on; a backward pass has one more at the end.
  const std::vector<Ranks>& next() {
    const std::int64_t index = index_++;
    const bool trailing = index == first_.back();
    before_ = at_;
    at_ = trailing ? schedule::Place{travels_.pieces() - 1, 1, 0} : schedule::place_of(index, travels_, first_);
    holders_before_.swap(holders_);
    if (at_.hop == 0) {
      holders_.assign(1, {0, ranks_});
      sort_by_reach();
    } else {
      holders_.swap(receivers_);
    }
    keep_those_beyond(at_.hop + 1);
    cut(index > 0);
    return stretches_;
  }

 private:
  int reach(int owner) const { return travels_.reach(owner, at_.piece, at_.way); }
  int rank(int number) const { return (number % ranks_ + ranks_) % ranks_; }

  /// Owners in the order of how far their pieces travel.
  void sort_by_reach() {
    begins_.assign(static_cast<std::size_t>(travels_.most(at_.piece, at_.way)) + 2, 0);
    for (int owner = 0; owner < ranks_; ++owner) ++begins_[static_cast<std::size_t>(reach(owner)) + 1];
    for (std::size_t hop = 1; hop < begins_.size(); ++hop) begins_[hop] += begins_[hop - 1];
    by_reach_.resize(static_cast<std::size_t>(ranks_));
    std::vector<std::size_t> place(begins_.begin(), begins_.end() - 1);
    for (int owner = 0; owner < ranks_; ++owner) by_reach_[place[static_cast<std::size_t>(reach(owner))]++] = owner;
  }

  /// Receivers: those of the holders whose pieces travel so many hops, one more than the step's.
  void keep_those_beyond(int hops) {
    const auto last = static_cast<std::size_t>(hops);
    std::size_t ends = begins_[last - 1];
    receivers_.clear();
    for (Ranks range : holders_) {
      for (; ends < begins_[last] && by_reach_[ends] < range.last; ++ends) {
        if (range.first < by_reach_[ends]) receivers_.push_back({range.first, by_reach_[ends]});
        range.first = by_reach_[ends] + 1;
      }
      if (range.first < range.last) receivers_.push_back(range);
    }
  }

  void cut(bool anything_before) {
    cuts_.assign({0, rank(1), rank(-1)});
    const auto add = [&](const std::vector<Ranks>& owners, int shift) {
      for (const Ranks& range : owners)
        cuts_.insert(cuts_.end(), {rank(range.first + shift), rank(range.last + shift)});
      cuts_.push_back(rank(shift));
    };
    const int here = at_.way * at_.hop, back = before_.way * before_.hop;
    add(holders_, here);
    add(receivers_, here);
    add(receivers_, here + at_.way);
    if (anything_before) {
      add(holders_before_, back);
      add(holders_before_, 0);
      cuts_.push_back(rank(-back));
    }
    std::ranges::sort(cuts_);
    cuts_.erase(std::unique(cuts_.begin(), cuts_.end()), cuts_.end());
    cuts_.push_back(ranks_);
    stretches_.clear();
    for (std::size_t i = 0; i + 1 < cuts_.size(); ++i) {
      if (takes_part(cuts_[i], anything_before)) stretches_.push_back({cuts_[i], cuts_[i + 1]});
    }
  }

  bool takes_part(int number, bool anything_before) const {
    const int owner = rank(number - at_.way * at_.hop);
    if (at_.hop <= reach(owner) || at_.hop + 1 <= reach(rank(owner - at_.way))) return true;
    const auto travelled = [&](int of) { return before_.hop <= travels_.reach(of, before_.piece, before_.way); };
    return anything_before && (travelled(rank(number - before_.way * before_.hop)) || travelled(number));
  }

  const schedule::Travels& travels_;
  const std::vector<std::int64_t>& first_;
  int ranks_;
  std::int64_t index_ = 0;
  schedule::Place at_{}, before_{};
  std::vector<std::size_t> begins_;  ///< [hops]: where in by_reach_ pieces begin that travel so far
  std::vector<int> by_reach_;
  std::vector<Ranks> holders_, receivers_, holders_before_, stretches_;
  std::vector<int> cuts_;
};

}  // namespace rondo::plan::simulated
