/// \file
/// What a rank did when: its computing, its waiting and its messages, hop by hop. Without a recorder the engine asks once
/// a step whether there is one.
#pragma once

#include <rondo/error.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace rondo {

/// One stretch of time. Messages last from the start of the exchange until the rank knows that all of it has moved.
struct Event {
  enum class Kind { compute, wait, send, receive } kind = Kind::compute;
  const char* pass = "";  ///< "forward" or "backward"
  std::int64_t hop = 0;
  double begin = 0;  ///< seconds on a clock that the processes of one machine share
  double end = 0;
  std::int64_t bytes = 0;  ///< of messages
};

/// Keeps a rank's events. Give it to Options::recorder; it must outlive the RingAttention.
class Recorder {
 public:
  /// Room for so many events is taken at once; what comes after them is only counted.
  explicit Recorder(std::size_t capacity = 100'000) : capacity_(capacity) { events_.reserve(capacity); }

  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }

  void add(const Event& event) {
    if (event.kind == Event::Kind::compute) compute_ += event.end - event.begin;
    if (event.kind == Event::Kind::wait) wait_ += event.end - event.begin;
    if (events_.size() < capacity_) {
      events_.push_back(event);
    } else {
      ++dropped_;
    }
  }

  /// Forgets everything, and keeps the room.
  void clear() {
    events_.clear();
    dropped_ = 0;
    compute_ = wait_ = 0;
  }

  const std::vector<Event>& events() const { return events_; }
  std::size_t dropped() const { return dropped_; }
  double compute_seconds() const { return compute_; }
  double wait_seconds() const { return wait_; }
  /// Waiting as a share of computing and waiting: communication that nothing was done behind.
  double exposed_share() const { return wait_ == 0 ? 0 : wait_ / (compute_ + wait_); }

  /// This rank's events as lines of a Chrome trace (https://ui.perfetto.dev shows it), separated by commas.
  /// \param zero  the moment that is 0 in the trace
  std::string trace(int rank, double zero) const {
    static constexpr const char* names[] = {"compute", "wait", "send", "receive"};
    std::string text;
    for (const Event& event : events_) {
      const auto kind = static_cast<std::size_t>(event.kind);
      // Computing and waiting share a row: they never overlap. Messages have rows of their own.
      text += detail::message(text.empty() ? "" : ",\n", R"({"name":")", names[kind], " ", event.hop, R"(","cat":")",
                              event.pass, R"(","ph":"X","pid":)", rank, R"(,"tid":)", kind < 2 ? 0 : kind, R"(,"ts":)",
                              std::to_string((event.begin - zero) * 1e6), R"(,"dur":)",
                              std::to_string((event.end - event.begin) * 1e6), R"(,"args":{"pass":")", event.pass,
                              R"(","hop":)", event.hop, R"(,"bytes":)", event.bytes, "}}");
    }
    return text;
  }

 private:
  std::size_t capacity_;
  std::vector<Event> events_;
  std::size_t dropped_ = 0;
  double compute_ = 0;
  double wait_ = 0;
};

namespace detail {

/// The moments of one step, noted if there is a recorder.
class StepMarks {
 public:
  StepMarks(Recorder* recorder, const char* pass, std::int64_t hop) : recorder_(recorder), pass_(pass), hop_(hop) {
    if (recorder_ != nullptr) begin_ = Recorder::now();
  }
  void sends(std::int64_t bytes) { sent_ += bytes; }
  void receives(std::int64_t bytes) { received_ += bytes; }
  void moved() {
    if (recorder_ != nullptr && moved_ == 0) moved_ = Recorder::now();
  }
  void computed() {
    if (recorder_ != nullptr) computed_ = Recorder::now();
  }
  void ended() {
    if (recorder_ == nullptr) return;
    const double end = Recorder::now();
    moved();
    recorder_->add({Event::Kind::compute, pass_, hop_, begin_, computed_, 0});
    if (sent_ + received_ > 0) recorder_->add({Event::Kind::wait, pass_, hop_, computed_, end, 0});
    if (sent_ > 0) recorder_->add({Event::Kind::send, pass_, hop_, begin_, moved_, sent_});
    if (received_ > 0) recorder_->add({Event::Kind::receive, pass_, hop_, begin_, moved_, received_});
  }

 private:
  Recorder* recorder_;
  const char* pass_;
  std::int64_t hop_;
  double begin_ = 0;
  double computed_ = 0;
  double moved_ = 0;
  std::int64_t sent_ = 0;
  std::int64_t received_ = 0;
};

}  // namespace detail
}  // namespace rondo
