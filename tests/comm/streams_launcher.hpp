/// \file
/// Ranks of an in-process group whose execution space queues: streams that are threads in the place of a device's.
#pragma once

#include "launcher.hpp"
#include "stand_in/queued.hpp"

#include <rondo/comm/in_process.hpp>

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

namespace comm_test {

using stand_in::QueuedExec;
using stand_in::QueuedStreams;
template <class S>
using QueuedComm = rondo::in_process_communicator<QueuedExec, S>;
template <class S = QueuedStreams>
using QueuedGroup = rondo::in_process_group<QueuedExec, S>;

static_assert(rondo::Streams<QueuedStreams> && rondo::Communicator<QueuedComm<QueuedStreams>>);
static_assert(QueuedComm<QueuedStreams>::stream_ordered);
static_assert(!rondo::in_process_communicator<Kokkos::DefaultHostExecutionSpace>::stream_ordered);

template <class S = QueuedStreams>
struct Queued {
  using communicator = QueuedComm<S>;
  static std::vector<int> sizes() { return {1, 2, 3, 4, 7}; }

  template <class Work>
  static Report run(int ranks, const Work& work) {
    std::vector<Findings> findings(static_cast<std::size_t>(ranks));
    QueuedGroup<S>(ranks, {.deadline = rondo::Deadline(60)}).run([&](communicator& comm) {
      work(comm, findings[static_cast<std::size_t>(comm.rank())]);
    });
    return report(findings);
  }
};

/// What a queue can be held back with: work that goes on when somebody opens it. After twenty seconds it opens by itself, and
/// says so.
class Gate {
 public:
  void open() {
    const std::lock_guard lock(mutex_);
    is_open_ = true;
    wake_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    if (!wake_.wait_for(lock, std::chrono::seconds(20), [this] { return is_open_; })) opened_by_itself_ = true;
  }
  bool opened_by_itself() {
    const std::lock_guard lock(mutex_);
    return opened_by_itself_;
  }

  /// Holds back what is queued on `exec` from now on.
  static std::shared_ptr<Gate> hold(const QueuedExec& exec) {
    auto gate = std::make_shared<Gate>();
    exec.queue([gate] { gate->wait(); });
    return gate;
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool is_open_ = false;
  bool opened_by_itself_ = false;
};

}  // namespace comm_test
