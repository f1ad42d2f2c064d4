/// \file
/// A kernel of the host's whose calls are queued, as those of a device's kernels are, and worked off at an uneven pace.
#pragma once

#include "queued.hpp"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>

namespace stand_in {

/// Each rank needs one of its own: the inner kernel runs on the given instance, from the thread of the rank's stream.
template <class Inner>
class queued_kernel {
 public:
  using value_type = typename Inner::value_type;
  using accumulate_type = typename Inner::accumulate_type;
  using execution_space = QueuedExec;
  using Host = typename Inner::execution_space;
  static constexpr std::uint32_t wire_format = Inner::wire_format;

  explicit queued_kernel(Host host, int salt = 0) : host_(std::move(host)), salt_(salt) {}

  template <class... Arguments>
  std::size_t wire_bytes(const Arguments&... arguments) const {
    return inner_.wire_bytes(arguments...);
  }
  template <class... Arguments>
  void pack(const QueuedExec& exec, const Arguments&... arguments) const {
    queue(exec, [=](const Inner& inner, const Host& host) { inner.pack(host, arguments...); });
  }
  template <class... Arguments>
  void fold(const QueuedExec& exec, const Arguments&... arguments) const {
    queue(exec, [=](const Inner& inner, const Host& host) { inner.fold(host, arguments...); });
  }
  template <class... Arguments>
  void finish(const QueuedExec& exec, const Arguments&... arguments) const {
    queue(exec, [=](const Inner& inner, const Host& host) { inner.finish(host, arguments...); });
  }
  template <class... Arguments>
  void delta(const QueuedExec& exec, const Arguments&... arguments) const {
    queue(exec, [=](const Inner& inner, const Host& host) { inner.delta(host, arguments...); });
  }
  template <class... Arguments>
  void fold_gradient(const QueuedExec& exec, const Arguments&... arguments) const {
    queue(exec, [=](const Inner& inner, const Host& host) { inner.fold_gradient(host, arguments...); });
  }

 private:
  template <class Work>
  void queue(const QueuedExec& exec, const Work& work) const {
    const unsigned number = static_cast<unsigned>(++*calls_) * 2654435761u + static_cast<unsigned>(salt_) * 40503u;
    exec.queue([work, inner = inner_, host = host_, number] {
      std::this_thread::sleep_for(std::chrono::microseconds((number >> 20) % 4 * 50));
      work(inner, host);
    });
  }

  Inner inner_;
  Host host_;
  int salt_;
  std::shared_ptr<std::atomic<int>> calls_ = std::make_shared<std::atomic<int>>(0);
};

}  // namespace stand_in
