/// \file
/// The exchanges that one rank has given to NCCL and that are not done yet, in their order on one stream.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/comm/nccl/connection.hpp>
#include <rondo/comm/nccl/library.hpp>
#include <rondo/comm/patience.hpp>
#include <rondo/comm/streams.hpp>
#include <rondo/error.hpp>

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace rondo::nccl {

/// Nothing here waits inside NCCL or the runtime: events are asked, so that the host can leave at the deadline. Then the
/// communicator is aborted, which ends what the device was waiting for.
template <Control ControlT, Streams S>
class Traffic {
 public:
  using Exec = typename S::execution_space;
  using SegmentType = Segment<typename Exec::memory_space>;
  using Stream = typename S::stream;
  using Event = typename S::event;

  /// With a communicator and a stream of its own.
  Traffic(ControlT control, int most)
      : control_(std::move(control)), connection_(control_), stream_(S::make_stream()), is_own_(true), most_(most) {}
  /// With a user's.
  Traffic(ControlT control, ncclComm_t comm, Stream stream, int most)
      : control_(std::move(control)), connection_(control_, comm), stream_(stream), most_(most) {}
  Traffic(const Traffic&) = delete;
  Traffic& operator=(const Traffic&) = delete;

  /// Ends quietly when nothing has failed. What the device might still touch after a failure stays.
  ~Traffic() {
    try {
      if (!failure_) wait_until([this] { return under_way_.empty(); });
      if (!failure_) connection_.close(deadline());
      settle();
    } catch (const std::exception&) {
      settle();
    }
    for (Event event : idle_) S::drop_event(event);
    if (is_own_ && under_way_.empty()) S::drop_stream(stream_);
  }

  ControlT& control() { return control_; }
  const ControlT& control() const { return control_; }
  Deadline deadline() const { return control_.deadline(); }
  ncclComm_t handle() const { return connection_.handle(); }
  Stream stream() const { return stream_; }

  /// Queues the segments as one group after the work on `after`. \return its number; 0 for a group without bytes
  std::int64_t start(const Exec& after, std::span<const SegmentType> segments, Where where) {
    throw_if_failed();
    const auto with_bytes = [](const SegmentType& segment) { return segment.bytes.size() > 0; };
    if (std::none_of(segments.begin(), segments.end(), with_bytes)) return 0;
    wait_until([this] { return is_handed_on() && under_way_.size() < static_cast<std::size_t>(most_); });

    Exchange& exchange = under_way_.emplace_back();
    std::copy_if(segments.begin(), segments.end(), std::back_inserter(exchange.segments), with_bytes);
    exchange.where = where;
    exchange.before = take_event();
    exchange.after = take_event();
    S::record(exchange.before, S::stream_of(after));
    S::wait(stream_, exchange.before);
    guarded([&] {
      check(ncclGroupStart(), "ncclGroupStart");
      ncclResult_t code = ncclSuccess;
      for (const auto& segment : exchange.segments) {
        const ncclResult_t one = call(segment);
        if (code == ncclSuccess && one != ncclInProgress) code = one;
      }
      const ncclResult_t end = ncclGroupEnd();
      check(code, "ncclSend or ncclRecv");
      if (end != ncclInProgress) check(end, "ncclGroupEnd");
      if (end == ncclSuccess) mark_handed_on(exchange);
    });
    return first_ + static_cast<std::int64_t>(under_way_.size()) - 1;
  }

  /// Sees what has arrived and what has gone wrong. Never waits. \throws timeout_error, peer_failed, error
  void look() {
    throw_if_failed();
    guarded([this] {
      const bool is_ready = connection_.is_ready("an exchange over NCCL");
      if (!under_way_.empty() && is_ready) mark_handed_on(under_way_.back());
      control_.listen();
      while (!under_way_.empty() && under_way_.front().is_handed_on && S::reached(under_way_.front().after)) retire();
      if (!under_way_.empty()) watch_clock(under_way_.front());
    });
  }

  bool is_done(std::int64_t number) const { return number < first_; }
  void wait(std::int64_t number) {
    throw_if_failed_before(number);
    wait_until([this, number] { return is_done(number); });
  }

  /// Work queued later on `exec` runs after the exchange.
  void order(const Exec& exec, std::int64_t number) {
    throw_if_failed_before(number);
    if (is_done(number)) return;
    if constexpr (!S::queues) return wait(number);
    wait_until([this, number] { return is_done(number) || at(number).is_handed_on; });
    if (!is_done(number)) S::wait(S::stream_of(exec), at(number).after);
  }

  /// Returns when the work queued on `exec` is done, which may wait for exchanges.
  void fence(const Exec& exec) {
    throw_if_failed();
    if constexpr (S::queues) {
      const Event event = take_event();
      S::record(event, S::stream_of(exec));
      idle_.push_back(event);  // nothing is started meanwhile
      wait_until([event] { return S::reached(event); });
    }
    guarded([this] { static_cast<void>(connection_.is_ready("an exchange over NCCL")); });
  }

  void throw_if_failed() const {
    if (!failure_) return;
    throw peer_failed(failure_->rank, detail::message("this communicator has failed: ", failure_->what));
  }

  /// This rank goes without having ended its exchanges.
  void abort() {
    if (!failure_) failure_ = Failure{control_.rank(), "its rank left with an exception"};
    connection_.abort();
  }

 private:
  struct Exchange {
    std::vector<SegmentType> segments;
    Where where;
    Event before{};
    Event after{};
    bool is_handed_on = false;                 ///< NCCL has queued it on the stream, and `after` is recorded
    std::optional<Clock::time_point> began{};  ///< when nothing but peers could hold it up any more
  };
  struct Failure {
    int rank;
    std::string what;
  };

  ncclResult_t call(const SegmentType& segment) const {
    return segment.direction == Direction::send ? ncclSend(segment.bytes.data(), segment.bytes.size(), ncclInt8,
                                                           segment.peer, connection_.handle(), stream_)
                                                : ncclRecv(segment.bytes.data(), segment.bytes.size(), ncclInt8,
                                                           segment.peer, connection_.handle(), stream_);
  }

  bool is_handed_on() const { return under_way_.empty() || under_way_.back().is_handed_on; }
  void mark_handed_on(Exchange& exchange) {
    if (exchange.is_handed_on) return;
    S::record(exchange.after, stream_);
    exchange.is_handed_on = true;
  }
  Exchange& at(std::int64_t number) { return under_way_[static_cast<std::size_t>(number - first_)]; }

  /// The first exchange is done.
  void retire() {
    idle_.push_back(under_way_.front().before);
    idle_.push_back(under_way_.front().after);
    under_way_.pop_front();
    ++first_;
  }

  Event take_event() {
    if (idle_.empty()) return S::make_event();
    const Event event = idle_.back();
    idle_.pop_back();
    return event;
  }

  /// The deadline counts from when the exchange is at the head and this rank's own work before it is done.
  void watch_clock(Exchange& exchange) {
    if (!exchange.began) {
      if (S::reached(exchange.before)) exchange.began = Clock::now();
    } else if (Clock::now() - *exchange.began > deadline()) {
      throw timeout_error(exchange.segments.front().peer, text(exchange));
    }
  }

  /// "rank 2 waited 5 s for rank 1 at hop 3 of forward (receiving 4096 bytes)". NCCL does not say which message of a
  /// group is missing: all are named.
  std::string text(const Exchange& exchange) const {
    std::string messages;
    for (const auto& segment : exchange.segments) {
      const bool sends = segment.direction == Direction::send;
      messages += detail::message(messages.empty() ? "" : ", ", sends ? "sending " : "receiving ", segment.bytes.size(),
                                  sends ? " bytes to rank " : " bytes from rank ", segment.peer);
    }
    return detail::message("rank ", control_.rank(), " waited ", deadline().count(), " s at ",
                           exchange.where.hop < 0 ? "" : detail::message("hop ", exchange.where.hop, " of "),
                           exchange.where.what, " (", messages, ")");
  }

  template <class Condition>
  void wait_until(const Condition& condition) {
    for (detail::Patience patience; !condition(); patience.pause()) look();
  }

  /// What f throws breaks the communicator.
  template <class F>
  void guarded(const F& f) {
    try {
      f();
    } catch (const timeout_error& failure) {
      abandon(failure);
    } catch (const peer_failed& failure) {
      abandon(failure);
    } catch (const error& failure) {
      abandon(failure);
    }
  }

  /// Breaks the communicator, tells the others, and leaves.
  template <class Error>
  [[noreturn]] void abandon(const Error& failure) {
    int rank = control_.rank();
    if constexpr (std::is_same_v<Error, peer_failed>) rank = failure.rank();
    failure_ = Failure{rank, failure.what()};
    connection_.abort();
    control_.give_up(failure.what());
    throw failure;
  }

  void throw_if_failed_before(std::int64_t number) const {
    if (!is_done(number)) throw_if_failed();
  }

  /// After a failure: gives back what the device has let go of, and leaves the rest to the end of the process.
  void settle() {
    const auto end = Clock::now() + std::chrono::seconds(1);
    for (detail::Patience patience; failure_ && !under_way_.empty() && Clock::now() < end; patience.pause()) {
      const Exchange& exchange = under_way_.front();
      if (S::reached(exchange.before) && (!exchange.is_handed_on || S::reached(exchange.after))) retire();
    }
    if (!under_way_.empty()) new std::deque<Exchange>(std::move(under_way_));
  }

  ControlT control_;
  Connection connection_;
  Stream stream_;
  bool is_own_ = false;
  int most_;
  std::int64_t first_ = 1;  ///< the number of the first that is under way
  std::deque<Exchange> under_way_;
  std::vector<Event> idle_;
  std::optional<Failure> failure_;
};

}  // namespace rondo::nccl
