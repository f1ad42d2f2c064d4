/// \file
/// A stand-in of a device runtime's streams and events: a stream is a thread that works off what was queued, so that work
/// which nobody ordered runs at any time.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

/// The runtime's opaque type, which NCCL's interface names.
struct CUstream_st {
 public:
  CUstream_st() : worker_([this] { work(); }) {}
  /// As a runtime does it: what is queued is still done.
  ~CUstream_st() {
    push(nullptr);
    worker_.join();
  }
  CUstream_st(const CUstream_st&) = delete;
  CUstream_st& operator=(const CUstream_st&) = delete;

  void push(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    wake_.notify_one();
  }

 private:
  void work() {
    for (;;) {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return !tasks_.empty(); });
      const auto task = std::move(tasks_.front());
      tasks_.pop_front();
      if (!task) return;
      lock.unlock();
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  std::thread worker_;
};

namespace stand_in {

using Stream = CUstream_st*;

/// How often it has been recorded, and up to which of these times the streams have come.
class EventState {
 public:
  std::int64_t record() {
    const std::lock_guard lock(mutex_);
    return ++recorded_;
  }
  void reach(std::int64_t number) {
    const std::lock_guard lock(mutex_);
    if (number > reached_) reached_ = number;
    wake_.notify_all();
  }
  std::int64_t recorded() {
    const std::lock_guard lock(mutex_);
    return recorded_;
  }
  bool is_reached() {
    const std::lock_guard lock(mutex_);
    return reached_ >= recorded_;
  }
  void wait(std::int64_t number) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return reached_ >= number; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::int64_t recorded_ = 0;
  std::int64_t reached_ = 0;
};

/// A handle that the streams that still have to do with it keep alive.
using Event = std::shared_ptr<EventState>*;

/// What is the same for every execution space.
struct StreamsBase {
  using stream = Stream;
  using event = Event;

  static stream make_stream() { return new CUstream_st; }
  static void drop_stream(stream given) { delete given; }
  static event make_event() { return new std::shared_ptr<EventState>(std::make_shared<EventState>()); }
  static void drop_event(event given) { delete given; }
  static bool reached(event given) { return (*given)->is_reached(); }

  /// On no stream: everything is done already.
  static void record(event given, stream on) {
    const std::int64_t number = (*given)->record();
    if (on == nullptr) return (*given)->reach(number);
    on->push([state = *given, number] { state->reach(number); });
  }
  static void copy(stream on, void* target, const void* source, std::size_t bytes) {
    on->push([=] { std::memcpy(target, source, bytes); });
  }
  static void wait(stream later, event given) {
    later->push([state = *given, number = (*given)->recorded()] { state->wait(number); });
  }
};

/// For Kokkos' spaces on the host, which queue nothing.
template <class Exec>
struct HostStreams : StreamsBase {
  using execution_space = Exec;
  static constexpr bool queues = false;
  static void select(const Exec&) {}
  static stream stream_of(const Exec&) { return nullptr; }
};

}  // namespace stand_in
