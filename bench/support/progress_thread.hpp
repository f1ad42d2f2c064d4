/// \file
/// A communicator whose transfers a thread of its own keeps moving, as the alternative that asking between tiles is
/// measured against. Needs MPI_THREAD_SERIALIZED: a mutex keeps calls apart.
#pragma once

#include <rondo/comm/concept.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

namespace bench {

template <rondo::Communicator Comm>
class progress_thread {
 public:
  using execution_space = typename Comm::execution_space;
  using memory_space = typename Comm::memory_space;
  using Segment = rondo::Segment<memory_space>;
  static constexpr bool stream_ordered = false;
  using Inner = decltype(std::declval<Comm&>().exchange(std::declval<const execution_space&>(),
                                                        std::span<const Segment>{}, rondo::Where{}));

 private:
  struct Ongoing {
    explicit Ongoing(Inner started) : transfer(std::move(started)) {}
    Inner transfer;
    std::atomic<bool> done = false;
  };

  struct State {
    State(Comm given, std::chrono::microseconds pause)
        : comm(std::move(given)), asking([this, pause](const std::stop_token& stop) {
            while (!stop.stop_requested()) {
              {
                const std::lock_guard lock(mutex);
                std::erase_if(ongoing, [](const auto& one) { return one->done = one->transfer.test(); });
              }
              std::this_thread::sleep_for(pause);
            }
          }) {}

    Comm comm;
    std::mutex mutex;
    std::vector<std::shared_ptr<Ongoing>> ongoing;
    std::jthread asking;
  };

 public:
  class Started {
   public:
    Started(State& state, std::shared_ptr<Ongoing> ongoing) : state_(&state), ongoing_(std::move(ongoing)) {}
    bool test() { return ongoing_->done; }
    void wait() { order({}); }
    void order(const execution_space& exec) {
      const std::lock_guard lock(state_->mutex);
      std::erase(state_->ongoing, ongoing_);
      ongoing_->transfer.order(exec);
    }

   private:
    State* state_;
    std::shared_ptr<Ongoing> ongoing_;
  };

  /// \param pause  how long the thread sleeps after it has asked
  progress_thread(Comm comm, std::chrono::microseconds pause)
      : state_(std::make_unique<State>(std::move(comm), pause)) {}

  int rank() const { return state_->comm.rank(); }
  int size() const { return state_->comm.size(); }
  execution_space execution_instance() const { return state_->comm.execution_instance(); }
  rondo::Deadline deadline() const { return state_->comm.deadline(); }
  Started exchange(const execution_space& after, std::span<const Segment> segments, rondo::Where where = {}) {
    const std::lock_guard lock(state_->mutex);
    auto ongoing = std::make_shared<Ongoing>(state_->comm.exchange(after, segments, where));
    state_->ongoing.push_back(ongoing);
    return {*state_, std::move(ongoing)};
  }
  void all_reduce(std::span<float> values, rondo::Reduction reduction) { reduce(values, reduction); }
  void all_reduce(std::span<double> values, rondo::Reduction reduction) { reduce(values, reduction); }
  void all_reduce(std::span<std::int64_t> values, rondo::Reduction reduction) { reduce(values, reduction); }
  void broadcast(std::span<std::byte> bytes, int root) {
    const std::lock_guard lock(state_->mutex);
    state_->comm.broadcast(bytes, root);
  }
  void barrier() {
    const std::lock_guard lock(state_->mutex);
    state_->comm.barrier();
  }
  progress_thread split(int color, int key) {
    const std::lock_guard lock(state_->mutex);
    return {state_->comm.split(color, key), std::chrono::microseconds(100)};
  }
  bool agree(bool ok) {
    const std::lock_guard lock(state_->mutex);
    return state_->comm.agree(ok);
  }

 private:
  template <class T>
  void reduce(std::span<T> values, rondo::Reduction reduction) {
    const std::lock_guard lock(state_->mutex);
    state_->comm.all_reduce(values, reduction);
  }

  std::unique_ptr<State> state_;
};

}  // namespace bench
