/// \file
/// The time on every rank of a simulated ring, and the messages under way between neighbours.
#pragma once

#include <rondo/plan/machine.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace rondo::plan {

/// Ranks compute, start an exchange with their neighbours, and wait for it: all ranks in step, each by its own clock.
/// A message leaves when its link is free, takes the link's latency and its bytes' time, and ends no sooner than the
/// receiver has asked for it. As behind rondo::paced.
class Clocks {
 public:
  /// \param links     of rank r to rank r + 1
  /// \param slowness  what each rank takes of a full-speed rank's time
  Clocks(std::vector<Link> links, std::vector<double> slowness)
      : links_(std::move(links)),
        slowness_(std::move(slowness)),
        now_(links_.size()),
        waited_(links_.size()),
        posted_(links_.size()),
        due_(links_.size()),
        passage_(links_.size()) {}

  int ranks() const { return static_cast<int>(now_.size()); }

  /// Ranks [first, last) compute for so many seconds of a full-speed rank.
  void compute(int first, int last, double seconds) {
    for (auto r = static_cast<std::size_t>(first); r < static_cast<std::size_t>(last); ++r) {
      now_[r] += slowness_[r] * seconds;
    }
  }

  /// Each rank starts to send so many bytes to the next, and to receive as many from the previous.
  void start(double bytes) {
    under_way_ = bytes > 0;
    if (!under_way_) return;
    if (bytes != passage_bytes_) {
      passage_bytes_ = bytes;
      for (std::size_t r = 0; r < links_.size(); ++r) passage_[r] = links_[r].seconds(bytes);
    }
    for (std::size_t r = 0; r < now_.size(); ++r) {
      posted_[r] = now_[r];
      due_[r] = std::max(now_[r], due_[r]) + passage_[r];
    }
  }

  /// Each rank waits until what it started has left and arrived.
  void wait() {
    if (!under_way_) return;
    under_way_ = false;
    const std::size_t last = now_.size() - 1;
    const auto wait_for = [this](std::size_t previous, std::size_t r, std::size_t next) {
      const double end = std::max(std::max(due_[previous], due_[r]), std::max(posted_[next], now_[r]));
      waited_[r] += end - now_[r];
      now_[r] = end;
    };
    wait_for(last, 0, last == 0 ? 0 : 1);
    for (std::size_t r = 1; r < last; ++r) wait_for(r - 1, r, r + 1);
    if (last > 0) wait_for(last - 1, last, 0);
  }

  void barrier() {
    const double end = latest();
    for (std::size_t r = 0; r < now_.size(); ++r) {
      waited_[r] += end - now_[r];
      now_[r] = end;
    }
  }
  /// All clocks at 0, nothing under way.
  void reset() {
    for (auto* times : {&now_, &waited_, &posted_, &due_}) std::fill(times->begin(), times->end(), 0.0);
    under_way_ = false;
  }

  double latest() const { return *std::max_element(now_.begin(), now_.end()); }
  double waited(int rank) const { return waited_[static_cast<std::size_t>(rank)]; }
  /// What is not waiting is computing.
  double computed(int rank) const { return now_[static_cast<std::size_t>(rank)] - waited(rank); }

  /// Where the engine is, as it says with each exchange.
  bool backward = false;
  int hop = 0;

 private:
  std::vector<Link> links_;
  std::vector<double> slowness_;
  std::vector<double> now_, waited_, posted_, due_;
  std::vector<double> passage_;  // of the bytes of the last exchange
  double passage_bytes_ = -1;
  bool under_way_ = false;
};

}  // namespace rondo::plan
