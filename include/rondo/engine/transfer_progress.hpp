/// \file
/// Lets a transfer move while a kernel computes.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/engine/recorder.hpp>
#include <rondo/kernel/concept.hpp>

#include <chrono>
#include <exception>

namespace rondo::detail {

/// What a kernel calls between its tiles: asks the transfer, at most every `interval`. Kernels let no exception through;
/// it is kept, and the kernel told that its result is not wanted.
template <class Started>
  requires requires(Started& transfer) { static_cast<bool>(transfer.test()); }
class TransferProgress {
 public:
  /// Asking takes MPI about a microsecond while there is nothing to move.
  static constexpr std::chrono::microseconds interval{100};

  TransferProgress(Started& transfer, StepMarks& marks) : transfer_(&transfer), marks_(&marks) {}

  bool operator()() {
    const auto now = std::chrono::steady_clock::now();
    if (done_ || now < next_) return !failure_;
    next_ = now + interval;
    try {
      done_ = transfer_->test();
      if (done_) marks_->moved();
    } catch (...) {
      failure_ = std::current_exception();
      done_ = true;
    }
    return !failure_;
  }

  void rethrow() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  Started* transfer_;
  StepMarks* marks_;
  std::chrono::steady_clock::time_point next_{};
  bool done_ = false;
  std::exception_ptr failure_;
};

/// A kernel's progress callback, taken away again at the end.
template <ReportsProgress Kernel>
class ProgressScope {
 public:
  template <class F>
  ProgressScope(Kernel& kernel, F& f) : kernel_(&kernel) {
    kernel.set_progress(ProgressCallback(f));
  }
  ProgressScope(const ProgressScope&) = delete;
  ProgressScope& operator=(const ProgressScope&) = delete;
  ~ProgressScope() { kernel_->set_progress({}); }

 private:
  Kernel* kernel_;
};

}  // namespace rondo::detail
