/// \file
/// The time on every rank of a simulated ring, and the messages under way between neighbours.
#pragma once

#include <rondo/plan/machine.hpp>

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

namespace rondo::plan {

/// Ranks compute, start an exchange with their neighbours, and wait for it: all ranks in step, each by its own clock.
/// A message leaves when its link is free, takes the link's latency and its bytes' time, and ends no sooner than the
/// receiver has asked for it. As behind rondo::paced.
///
/// Steps are noted down and done some dozens at a time, block by block of ranks, so that a block stays in the cache: in so
/// many steps news travels no further than so many ranks, which are computed with on both sides of the block.
class Clocks {
 public:
  /// \param links     of rank r to rank r + 1
  /// \param slowness  what each rank takes of a full-speed rank's time
  Clocks(std::vector<Link> links, std::vector<double> slowness)
      : links_(std::move(links)),
        slowness_(std::move(slowness)),
        now_(links_.size()),
        due_(links_.size()),
        now_after_(links_.size()),
        due_after_(links_.size()),
        computed_changes_(links_.size() + 1) {}

  int ranks() const { return static_cast<int>(now_.size()); }

  /// Ranks [first, last) compute for so many seconds of a full-speed rank.
  void compute(int first, int last, double seconds) {
    if (steps_.empty()) steps_.emplace_back();
    parts_.push_back({first, last, seconds});
    steps_.back().parts_end = parts_.size();
    computed_changes_[static_cast<std::size_t>(first)] += seconds;
    computed_changes_[static_cast<std::size_t>(last)] -= seconds;
  }

  /// Each rank starts to send so many bytes to the next, and to receive as many from the previous. What was computed since
  /// the last exchange comes before that.
  void start(double bytes) {
    sent_ += bytes * ranks();
    if (steps_.size() >= most_steps || parts_.size() >= most_parts) run();
    steps_.push_back({.bytes = bytes, .parts_end = parts_.size()});
  }

  /// Each rank waits until what it started has left and arrived, when it has computed.
  void wait() {}

  void barrier() {
    const double end = latest();
    std::fill(now_.begin(), now_.end(), end);
  }
  /// All clocks at 0, nothing under way.
  void reset() {
    for (auto* times : {&now_, &due_, &computed_changes_}) std::fill(times->begin(), times->end(), 0.0);
    steps_.clear();
    parts_.clear();
    sent_ = 0;
  }

  /// Bytes, by all ranks.
  double sent() const { return sent_; }
  double latest() {
    run();
    return *std::max_element(now_.begin(), now_.end());
  }
  /// What each rank has computed; the rest of its time it has waited.
  std::vector<double> computed() const {
    std::vector<double> seconds(now_.size());
    std::partial_sum(computed_changes_.begin(), computed_changes_.end() - 1, seconds.begin());
    for (std::size_t r = 0; r < seconds.size(); ++r) seconds[r] *= slowness_[r];
    return seconds;
  }
  const std::vector<double>& now() {
    run();
    return now_;
  }

  /// Where the engine is, as it says with each exchange.
  bool backward = false;
  int hop = 0;

 private:
  static constexpr std::size_t most_steps = 32;
  static constexpr std::size_t most_parts = 1 << 20;
  static constexpr std::size_t block = 1024;

  /// Ranks [first, last) compute.
  struct Part {
    int first = 0;
    int last = 0;
    double seconds = 0;
  };
  /// An exchange, if it has bytes, and what is computed meanwhile: parts up to the end, from the end of the step before.
  struct Step {
    double bytes = 0;
    std::size_t parts_end = 0;
  };
  /// A block of ranks with as many on both sides as there are steps: at is the rank of index 0, modulo the ring.
  struct Stretch {
    std::ptrdiff_t at = 0;
    std::vector<double> now, due, asked, slowness, passage;
    double passage_bytes = -1;
  };

  /// Calls f(index, rank) for every place of the stretch.
  template <class F>
  void for_places(const F& f) const {
    const auto ranks = static_cast<std::ptrdiff_t>(now_.size());
    auto rank = static_cast<std::size_t>((stretch_.at % ranks + ranks) % ranks);
    for (std::size_t index = 0; index < stretch_.now.size(); ++index) {
      f(index, rank);
      if (++rank == now_.size()) rank = 0;
    }
  }

  /// Does the steps that were noted down.
  void run() {
    if (steps_.empty()) return;
    const std::size_t margin = steps_.size();
    for (std::size_t begin = 0; begin < now_.size(); begin += block) {
      const std::size_t count = std::min(block, now_.size() - begin);
      load(static_cast<std::ptrdiff_t>(begin) - static_cast<std::ptrdiff_t>(margin), count + 2 * margin);
      std::size_t part = 0;
      for (const Step& step : steps_) {
        advance(step, part);
        part = step.parts_end;
      }
      const auto from = static_cast<std::ptrdiff_t>(margin), to = static_cast<std::ptrdiff_t>(margin + count);
      const auto place = static_cast<std::ptrdiff_t>(begin);
      std::copy(stretch_.now.begin() + from, stretch_.now.begin() + to, now_after_.begin() + place);
      std::copy(stretch_.due.begin() + from, stretch_.due.begin() + to, due_after_.begin() + place);
    }
    now_.swap(now_after_);
    due_.swap(due_after_);
    steps_.clear();
    parts_.clear();
  }

  void load(std::ptrdiff_t at, std::size_t count) {
    stretch_.at = at;
    stretch_.passage_bytes = -1;
    for (auto* values : {&stretch_.now, &stretch_.due, &stretch_.asked, &stretch_.slowness, &stretch_.passage}) {
      values->resize(count);
    }
    for_places([&](std::size_t index, std::size_t rank) {
      stretch_.now[index] = now_[rank];
      stretch_.due[index] = due_[rank];
      stretch_.slowness[index] = slowness_[rank];
    });
  }

  /// One step of the stretch. At its ends the times come out wrong, one rank further in with every step.
  void advance(const Step& step, std::size_t part) {
    const std::size_t count = stretch_.now.size();
    if (step.bytes > 0) {
      set_passage(step.bytes);
      const double* const now = stretch_.now.data();
      const double* const passage = stretch_.passage.data();
      double* const due = stretch_.due.data();
      double* const asked = stretch_.asked.data();
      for (std::size_t i = 0; i < count; ++i) {
        asked[i] = now[i];
        due[i] = std::max(now[i], due[i]) + passage[i];
      }
    }
    for (; part < step.parts_end; ++part) compute_part(parts_[part]);
    if (step.bytes > 0) {
      double* const now = stretch_.now.data();
      const double* const due = stretch_.due.data();
      const double* const asked = stretch_.asked.data();
      for (std::size_t i = 1; i + 1 < count; ++i) {
        now[i] = std::max(std::max(due[i - 1], due[i]), std::max(asked[i + 1], now[i]));
      }
    }
  }

  void set_passage(double bytes) {
    if (bytes == stretch_.passage_bytes) return;
    stretch_.passage_bytes = bytes;
    for_places([&](std::size_t index, std::size_t rank) { stretch_.passage[index] = links_[rank].seconds(bytes); });
  }

  /// The stretch may pass the same ranks more than once: with few of them it goes round the ring.
  void compute_part(const Part& part) {
    const auto ranks = static_cast<std::ptrdiff_t>(now_.size());
    const auto count = static_cast<std::ptrdiff_t>(stretch_.now.size());
    std::ptrdiff_t turn = (stretch_.at - part.last + 1) / ranks * ranks - ranks;
    for (; part.first + turn < stretch_.at + count; turn += ranks) {
      const std::ptrdiff_t from = std::max<std::ptrdiff_t>(0, part.first + turn - stretch_.at);
      const std::ptrdiff_t to = std::min(count, part.last + turn - stretch_.at);
      for (std::ptrdiff_t i = from; i < to; ++i) {
        const auto index = static_cast<std::size_t>(i);
        stretch_.now[index] += stretch_.slowness[index] * part.seconds;
      }
    }
  }

  std::vector<Link> links_;
  std::vector<double> slowness_;
  std::vector<double> now_, due_;              ///< before the steps that are noted down
  std::vector<double> now_after_, due_after_;  ///< while they are done
  std::vector<double> computed_changes_;       ///< from rank to rank, of what was computed, at full speed
  std::vector<Step> steps_;
  std::vector<Part> parts_;
  double sent_ = 0;
  Stretch stretch_;
};

}  // namespace rondo::plan
