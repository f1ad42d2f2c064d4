/// \file
/// The time on every rank of a simulated ring in which stretches of neighbours do the same: a few loops over numbers that
/// lie side by side.
#pragma once

#include <rondo/plan/machine.hpp>
#include <rondo/plan/simulator/stretches.hpp>

#include <Kokkos_Macros.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>
#include <vector>

namespace rondo::plan::simulated {

/// What each rank of a stretch does in a step. Other ranks, and links, are given as numbers to add to the rank's own.
struct StretchStep {
  Ranks ranks;
  double piece_bytes = 0;     ///< sent, 0: none
  double gradient_bytes = 0;  ///< sent after that, 0: none
  double seconds = 0;         ///< of computing, at full speed
  int link = 0;               ///< of the piece: that of which rank to the next one
  int home = 0;               ///< of the gradient: from which rank up its way home is counted
  int to = 0, from = 0, gradient_to = 0, gradient_from = 0;
  bool sends = false, receives = false, sends_gradient = false, receives_gradient = false;  ///< and waits for it
};

/// A rank's messages leave one after the other by its own link, a gradient at the pace of the slowest link on its way home;
/// a message ends no sooner than its receiver has asked for it. In a step all stretches send, then all finish.
class StretchClocks {
 public:
  /// \param slowness  what each rank takes of a full-speed rank's time
  StretchClocks(const std::vector<Link>& links, std::vector<double> slowness) : slowness_(std::move(slowness)) {
    for (const Link& link : links) {
      rate_.push_back(link.bytes_per_second);
      latency_.push_back(link.latency);
    }
    slowest_rate_ = *std::ranges::min_element(rate_);
    passage_.resize(links.size());
    for_blocks({0, static_cast<int>(links.size())}, [&](int first, int last) {
      full_speed_.push_back(
          std::all_of(slowness_.begin() + first, slowness_.begin() + last, [](double x) { return x == 1; }));
    });
    for (auto* times : {&now_, &computed_, &asked_, &piece_due_, &due_}) times->assign(links.size(), 0.0);
    ones_.fill(1);
    zeros_.fill(0);
    shorten_way_home();
  }

  const std::vector<double>& now() const { return now_; }
  /// What each rank has computed; the rest of its time it has waited.
  const std::vector<double>& computed() {
    sum_up_computing();
    return computed_;
  }

  void send(const StretchStep& step) {
    if (step.piece_bytes > 0 && step.ranks.last - step.ranks.first >= 16) set_passage(step.piece_bytes);
    for_blocks(step.ranks, [&](int first, int last) {
      const int count = last - first;
      const double* const now = now_.data() + first;
      double* const KOKKOS_RESTRICT piece_due = piece_due_.data() + first;
      double* const KOKKOS_RESTRICT due = due_.data() + first;
      std::copy(now, now + count, asked_.begin() + first);
      if (step.piece_bytes > 0) {
        const int link = first + step.link;
        const double *const latency = latency_.data() + link, *const rate = rate_.data() + link;
        const double* const passage = passage_.data() + link;
        if (step.piece_bytes == passage_bytes_) {
          for (int i = 0; i < count; ++i) piece_due[i] = std::max(now[i], due[i]) + latency[i] + passage[i];
        } else {
          for (int i = 0; i < count; ++i) {
            piece_due[i] = std::max(now[i], due[i]) + latency[i] + step.piece_bytes / rate[i];
          }
        }
      } else if (step.gradient_bytes > 0) {
        const double* const latency = home_latency_.data() + first + step.home;
        for (int i = 0; i < count; ++i) piece_due[i] = std::max(now[i], due[i]) + latency[i];
      } else {
        return;
      }
      if (step.gradient_bytes == 0) {
        std::copy(piece_due, piece_due + count, due);
      } else if (home_is_slowest_) {
        const double seconds = step.gradient_bytes / slowest_rate_;
        for (int i = 0; i < count; ++i) due[i] = piece_due[i] + seconds;
      } else {
        const double* const rate = home_rate_.data() + first + step.home;
        for (int i = 0; i < count; ++i) due[i] = piece_due[i] + step.gradient_bytes / rate[i];
      }
    });
  }

  /// What the step computes, and then waits for.
  void finish(const StretchStep& step) {
    if (step.seconds > 0) computing_.push_back(step);
    if (computing_.size() >= most_computing) sum_up_computing();
    for_blocks(step.ranks, [&](int first, int last) {
      // What is not waited for is over at time 0.
      const auto when = [&](bool waits, const std::vector<double>& times, int place) {
        return waits ? times.data() + first + place : zeros_.data();
      };
      double* const KOKKOS_RESTRICT now = now_.data() + first;
      const double* const slowness = full_speed_[at(first / block)] ? ones_.data() : slowness_.data() + first;
      const double* const left = when(step.sends, piece_due_, 0);
      const double* const asked = when(step.sends, asked_, step.to);
      const double* const arrived = when(step.receives, piece_due_, step.from);
      const double* const gradient_left = when(step.sends_gradient, due_, 0);
      const double* const gradient_asked = when(step.sends_gradient, asked_, step.gradient_to);
      const double* const gradient_arrived = when(step.receives_gradient, due_, step.gradient_from);
      for (int i = 0; i < last - first; ++i) {
        const double computed = now[i] + slowness[i] * step.seconds;
        const double piece = std::max(std::max(left[i], asked[i]), arrived[i]);
        const double gradient = std::max(std::max(gradient_left[i], gradient_asked[i]), gradient_arrived[i]);
        now[i] = std::max(computed, std::max(piece, gradient));
      }
    });
  }

  /// The way home: one link long, that from each rank up.
  void shorten_way_home() {
    home_rate_ = rate_;
    home_latency_ = latency_;
    look_at_way_home();
  }
  /// And one link longer, so many in all, of which the slowest counts.
  void lengthen_way_home(int links) {
    if (home_is_slowest_) return;
    std::size_t last = static_cast<std::size_t>(links - 1) % rate_.size();
    for (std::size_t rank = 0; rank < rate_.size(); ++rank) {
      const bool slower = rate_[last] < home_rate_[rank];
      home_rate_[rank] = slower ? rate_[last] : home_rate_[rank];
      home_latency_[rank] = slower ? latency_[last] : home_latency_[rank];
      if (++last == rate_.size()) last = 0;
    }
    look_at_way_home();
  }

 private:
  static constexpr int block = 1024;  // so many numbers of each kind stay in the cache
  static constexpr std::size_t most_computing = 256;

  /// Calls f(first, last) for the part of each block that lies in these ranks.
  template <class F>
  static void for_blocks(const Ranks& ranks, const F& f) {
    for (int first = ranks.first, last; first < ranks.last; first = last) {
      last = std::min((first / block + 1) * block, ranks.last);
      f(first, last);
    }
  }

  void set_passage(double bytes) {
    if (bytes == passage_bytes_) return;
    passage_bytes_ = bytes;
    for (std::size_t rank = 0; rank < rate_.size(); ++rank) passage_[rank] = bytes / rate_[rank];
  }

  /// Many steps at a time, block by block.
  void sum_up_computing() {
    for_blocks({0, static_cast<int>(now_.size())}, [&](int begin, int end) {
      for (const StretchStep& step : computing_) {
        const int first = std::max(begin, step.ranks.first), last = std::min(end, step.ranks.last);
        for (int r = first; r < last; ++r) computed_[at(r)] += slowness_[at(r)] * step.seconds;
      }
    });
    computing_.clear();
  }
  static std::size_t at(int rank) { return static_cast<std::size_t>(rank); }

  void look_at_way_home() {
    home_is_slowest_ = std::ranges::all_of(home_rate_, [&](double rate) { return rate == slowest_rate_; });
  }

  std::vector<double> slowness_, rate_, latency_, home_rate_, home_latency_;
  std::vector<double> passage_;  ///< of a piece of passage_bytes_ by each link, latency apart
  double passage_bytes_ = 0;
  double slowest_rate_ = 0;
  bool home_is_slowest_ = false;
  std::vector<bool> full_speed_;  ///< [block]
  std::array<double, block> ones_, zeros_;
  std::vector<double> now_, computed_, asked_;
  std::vector<double> piece_due_, due_;  ///< when what leaves last has arrived: the piece, and whatever comes after it
  std::vector<StretchStep> computing_;   ///< not yet in computed_
};

}  // namespace rondo::plan::simulated
