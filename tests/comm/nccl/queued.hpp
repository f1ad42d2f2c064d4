/// \file
/// An execution space that queues, as a device's does: an instance is a stream, whose thread does the work.
#pragma once

#include "stand_in/streams.hpp"

#include <Kokkos_Core.hpp>

#include <functional>
#include <memory>
#include <utility>

namespace stand_in {

class QueuedExec {
 public:
  using execution_space = QueuedExec;
  using memory_space = Kokkos::HostSpace;

  QueuedExec() : stream_(std::make_shared<CUstream_st>()) {}

  Stream stream() const { return stream_.get(); }
  void queue(std::function<void()> work) const { stream_->push(std::move(work)); }
  /// Returns when all is done that was queued before.
  void fence() const {
    EventState done;
    const std::int64_t number = done.record();
    queue([&] { done.reach(number); });
    done.wait(number);
  }

 private:
  std::shared_ptr<CUstream_st> stream_;
};

struct QueuedStreams : StreamsBase {
  using execution_space = QueuedExec;
  static constexpr bool queues = true;
  static void select(const QueuedExec&) {}
  static stream stream_of(const QueuedExec& exec) { return exec.stream(); }
};

}  // namespace stand_in
