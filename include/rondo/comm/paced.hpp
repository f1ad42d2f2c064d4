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
#include <deque>
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

using Clock = std::chrono::steady_clock;

/// What has been started of one exchange. Receives are started at once, a send when its time has come.
template <Communicator Comm>
struct Exchange {
  using SegmentType = Segment<typename Comm::memory_space>;
  using Inner = decltype(std::declval<Comm&>().exchange(std::declval<const typename Comm::execution_space&>(),
                                                        std::span<const SegmentType>{}, Where{}));
  struct Started {
    Inner transfer;
    std::size_t bytes;
  };

  Exchange(std::shared_ptr<Comm> on, const typename Comm::execution_space& after, Where place)
      : comm(std::move(on)), exec(after), where(place) {}

  void start(const SegmentType& slice) {
    started.push_back({comm->exchange(exec, std::span{&slice, 1}, where), slice.bytes.size()});
  }

  std::shared_ptr<Comm> comm;
  typename Comm::execution_space exec;
  Where where;
  std::vector<Started> started;
  std::size_t unsent = 0;
  std::size_t arrived = 0;
  std::size_t moved = 0;
};

/// A rank's link, shared by its communicator, what is split off it, and all their transfers.
template <Communicator Comm>
struct State {
  /// A slice that the link has not brought over yet.
  struct Waiting {
    Segment<typename Comm::memory_space> slice;
    Clock::time_point due;
    std::shared_ptr<Exchange<Comm>> exchange;
  };

  /// In the order in which exchanges were started, whichever of them is asked: none overtakes another.
  void send_what_is_due() {
    while (!waiting.empty() && waiting.front().due <= Clock::now()) {
      const Waiting next = std::move(waiting.front());
      waiting.pop_front();
      --next.exchange->unsent;
      next.exchange->start(next.slice);
    }
  }

  Link link;
  PacedTraffic traffic;
  Clock::time_point free_at{};  ///< when the link has sent what it was given
  std::deque<Waiting> waiting;
};

/// Sends a slice when the link would have brought it over: not before, and not unless the rank asks, as a network card
/// without a driver's attention.
template <Communicator Comm>
class Transfer {
 public:
  using Exec = typename Comm::execution_space;
  using SegmentType = Segment<typename Comm::memory_space>;

  Transfer(std::shared_ptr<Comm> comm, std::shared_ptr<State<Comm>> state, const Exec& exec,
           std::span<const SegmentType> segments, Where where)
      : state_(std::move(state)), exchange_(std::make_shared<Exchange<Comm>>(std::move(comm), exec, where)) {
    const auto begin = std::max(Clock::now(), state_->free_at);
    double seconds = state_->link.latency;
    for (const SegmentType& segment : segments) {
      const std::size_t bytes = segment.bytes.size();
      for (std::size_t at = 0; at < std::max<std::size_t>(1, bytes); at += state_->link.slice_bytes) {
        const std::size_t end = std::min(bytes, at + state_->link.slice_bytes);
        const SegmentType slice{segment.direction, segment.peer, Kokkos::subview(segment.bytes, std::pair{at, end})};
        state_->traffic.bytes += static_cast<std::int64_t>(end - at);
        if (segment.direction == Direction::receive) {
          exchange_->start(slice);
          continue;
        }
        seconds += static_cast<double>(end - at) / state_->link.bytes_per_second;
        const auto due = begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
        ++exchange_->unsent;
        state_->waiting.push_back({slice, due, exchange_});
        state_->free_at = due;
      }
    }
  }
  Transfer(Transfer&&) noexcept = default;
  Transfer& operator=(Transfer&& other) noexcept {
    const Transfer given_up = std::move(*this);
    state_ = std::move(other.state_);
    exchange_ = std::move(other.exchange_);
    return *this;
  }
  /// Given up before it is done, it sends no more.
  ~Transfer() {
    if (exchange_ && exchange_->unsent > 0) {
      std::erase_if(state_->waiting, [this](const auto& waiting) { return waiting.exchange == exchange_; });
    }
  }

  bool test() {
    if (!exchange_) return true;
    state_->send_what_is_due();
    // In order, so that a long transfer does not ask about all its slices each time.
    auto& [comm, exec, where, started, unsent, arrived, moved] = *exchange_;
    while (arrived < started.size() && started[arrived].transfer.test()) moved += started[arrived++].bytes;
    return unsent == 0 && arrived == started.size();
  }

  void wait() {
    if (!exchange_) return;
    send_all();
    for (auto& started : exchange_->started) started.transfer.wait();
    exchange_.reset();
  }

  void order(const Exec& exec) {
    if (!exchange_) return;
    send_all();
    for (auto& started : exchange_->started) started.transfer.order(exec);
    exchange_.reset();
  }

 private:
  void send_all() {
    bool done = test();
    state_->traffic.bytes_before_wait += static_cast<std::int64_t>(exchange_->moved);
    // While the link has something to bring over, here or elsewhere: another rank may need it to answer.
    for (; !done && !state_->waiting.empty(); done = test()) {
      std::this_thread::sleep_until(
          std::min(state_->waiting.front().due, Clock::now() + std::chrono::microseconds(200)));
    }
  }

  std::shared_ptr<State<Comm>> state_;
  std::shared_ptr<Exchange<Comm>> exchange_;
};

}  // namespace paced_link

/// A communicator behind a link. What is split off it shares the link. Collectives are not paced.
template <Communicator Comm>
class paced {
 public:
  using execution_space = typename Comm::execution_space;
  using memory_space = typename Comm::memory_space;
  static constexpr bool stream_ordered = false;
  static constexpr bool moves_when_asked = true;

  /// \throws argument_error for a link that cannot be
  paced(Comm comm, const Link& link) : paced(std::move(comm), std::make_shared<paced_link::State<Comm>>()) {
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
    fence_queue(after, "rondo::send");
    return {comm_, state_, after, segments, where};
  }
  void all_reduce(std::span<float> values, Reduction reduction) { comm_->all_reduce(values, reduction); }
  void all_reduce(std::span<double> values, Reduction reduction) { comm_->all_reduce(values, reduction); }
  void all_reduce(std::span<std::int64_t> values, Reduction reduction) { comm_->all_reduce(values, reduction); }
  void broadcast(std::span<std::byte> bytes, int root) { comm_->broadcast(bytes, root); }
  void barrier() { comm_->barrier(); }
  paced split(int color, int key) { return {comm_->split(color, key), state_}; }
  bool agree(bool ok) { return comm_->agree(ok); }

 private:
  paced(Comm comm, std::shared_ptr<paced_link::State<Comm>> state)
      : comm_(std::make_shared<Comm>(std::move(comm))), state_(std::move(state)) {}

  std::shared_ptr<Comm> comm_;
  std::shared_ptr<paced_link::State<Comm>> state_;
};

}  // namespace rondo
