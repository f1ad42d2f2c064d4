/// \file
/// Any communicator behind a link of a given latency and bandwidth: what a ring would do on another network, with real
/// messages.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/error.hpp>

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <utility>
#include <vector>

namespace rondo {

/// The link that every rank sends through.
struct Link {
  double latency = 0;  ///< seconds before an exchange's first byte leaves
  double bytes_per_second = INFINITY;
  std::size_t slice_bytes = std::size_t{1} << 18;  ///< messages travel in slices of that size, the same on every rank
};

/// How much had moved when the host came to wait, over all exchanges of a paced communicator.
struct PacedTraffic {
  std::int64_t bytes = 0;
  std::int64_t bytes_before_wait = 0;
};

namespace paced_link {

/// The state that a communicator and its transfers share.
struct State {
  Link link;
  PacedTraffic traffic;
  std::chrono::steady_clock::time_point free_at{};  ///< when the link has sent what it was given
};

/// Sends a slice when the link would have brought it over: not before, and not unless it is asked, as a network card
/// without a driver's attention.
template <Communicator Comm>
class Transfer {
 public:
  using Exec = typename Comm::execution_space;
  using SegmentType = Segment<typename Comm::memory_space>;
  using Inner =
      decltype(std::declval<Comm&>().exchange(std::declval<const Exec&>(), std::span<const SegmentType>{}, Where{}));
  using Clock = std::chrono::steady_clock;

  Transfer(Comm& comm, std::shared_ptr<State> state, const Exec& exec, std::span<const SegmentType> segments,
           Where where)
      : comm_(&comm), state_(std::move(state)), exec_(exec), where_(where) {
    const auto begin = std::max(Clock::now(), state_->free_at);
    double seconds = state_->link.latency;
    for (const SegmentType& segment : segments) {
      const std::size_t bytes = segment.bytes.size();
      for (std::size_t at = 0; at < std::max<std::size_t>(1, bytes); at += state_->link.slice_bytes) {
        const std::size_t end = std::min(bytes, at + state_->link.slice_bytes);
        const SegmentType slice{segment.direction, segment.peer, Kokkos::subview(segment.bytes, std::pair{at, end})};
        state_->traffic.bytes += static_cast<std::int64_t>(end - at);
        if (segment.direction == Direction::receive) {
          started_.push_back({start(slice), end - at});
          continue;
        }
        seconds += static_cast<double>(end - at) / state_->link.bytes_per_second;
        waiting_.push_back(
            {slice, begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds))});
      }
    }
    if (!waiting_.empty()) state_->free_at = waiting_.back().due;
  }

  bool test() {
    send_what_is_due();
    // In order, so that a long transfer does not ask about all its slices each time.
    while (arrived_ < started_.size() && started_[arrived_].transfer.test()) moved_ += started_[arrived_++].bytes;
    return sent_ == waiting_.size() && arrived_ == started_.size();
  }

  void wait() { order(exec_); }

  void order(const Exec& exec) {
    if (finished_) return;
    finished_ = true;
    test();
    state_->traffic.bytes_before_wait += static_cast<std::int64_t>(moved_);
    while (sent_ < waiting_.size()) {
      std::this_thread::sleep_until(std::min(waiting_[sent_].due, Clock::now() + std::chrono::microseconds(200)));
      test();
    }
    for (std::size_t i = 0; i < started_.size(); ++i) started_[i].transfer.order(exec);
  }

 private:
  struct Waiting {
    SegmentType slice;
    Clock::time_point due;
  };
  struct Started {
    Inner transfer;
    std::size_t bytes;
  };

  Inner start(const SegmentType& slice) { return comm_->exchange(exec_, std::span{&slice, 1}, where_); }

  void send_what_is_due() {
    while (sent_ < waiting_.size() && waiting_[sent_].due <= Clock::now()) {
      const SegmentType& slice = waiting_[sent_++].slice;
      started_.push_back({start(slice), slice.bytes.size()});
    }
  }

  Comm* comm_;
  std::shared_ptr<State> state_;
  Exec exec_;
  Where where_;
  std::vector<Waiting> waiting_;
  std::vector<Started> started_;
  std::size_t sent_ = 0;
  std::size_t arrived_ = 0;
  std::size_t moved_ = 0;
  bool finished_ = false;
};

}  // namespace paced_link

/// A communicator behind a link. Collectives are not paced. Of several exchanges between two ranks, the
/// one that was started first has to be asked first, as the engine does: a later one would overtake it.
template <Communicator Comm>
class paced {
 public:
  using execution_space = typename Comm::execution_space;
  using memory_space = typename Comm::memory_space;
  static constexpr bool stream_ordered = false;
  static constexpr bool moves_when_asked = true;

  /// \throws argument_error for a link that cannot be
  paced(Comm comm, const Link& link)
      : comm_(std::make_unique<Comm>(std::move(comm))), state_(std::make_shared<paced_link::State>()) {
    if (!(link.latency >= 0) || !(link.bytes_per_second > 0) || link.slice_bytes < 1) {
      throw argument_error(detail::message("paced: a link of ", link.latency, " s, ", link.bytes_per_second,
                                           " bytes/s and slices of ", link.slice_bytes, " bytes"));
    }
    state_->link = link;
  }

  const PacedTraffic& traffic() const { return state_->traffic; }
  void reset() { state_->traffic = {}; }

  int rank() const { return comm_->rank(); }
  int size() const { return comm_->size(); }
  decltype(auto) execution_instance() const { return std::as_const(*comm_).execution_instance(); }
  Deadline deadline() const { return comm_->deadline(); }

  paced_link::Transfer<Comm> exchange(const execution_space& after, std::span<const Segment<memory_space>> segments,
                                      Where where = {}) {
    after.fence("rondo::send");
    return {*comm_, state_, after, segments, where};
  }
  void all_reduce(std::span<float> values, Reduction reduction) { comm_->all_reduce(values, reduction); }
  void all_reduce(std::span<double> values, Reduction reduction) { comm_->all_reduce(values, reduction); }
  void all_reduce(std::span<std::int64_t> values, Reduction reduction) { comm_->all_reduce(values, reduction); }
  void broadcast(std::span<std::byte> bytes, int root) { comm_->broadcast(bytes, root); }
  void barrier() { comm_->barrier(); }
  paced split(int color, int key) { return {comm_->split(color, key), state_->link}; }
  bool agree(bool ok) { return comm_->agree(ok); }

 private:
  std::unique_ptr<Comm> comm_;
  std::shared_ptr<paced_link::State> state_;
};

}  // namespace rondo
