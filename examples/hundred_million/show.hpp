/// \file
/// A progress bar with the time left, and what the process holds in memory.
#pragma once

#include <rondo/rondo.hpp>

#include <Kokkos_Core.hpp>

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <span>
#include <string>

namespace hundred_million {

using Exec = Kokkos::DefaultHostExecutionSpace;

inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// On a terminal a bar, redrawn a few times a second; elsewhere a line every tenth of the way.
class Progress {
 public:
  Progress(std::string what, std::int64_t steps, std::int64_t done = 0)
      : what_(std::move(what)), steps_(steps), done_(done), from_(done), terminal_(isatty(STDOUT_FILENO) != 0) {}
  ~Progress() {
    if (terminal_ && shown_) std::printf("\n");
  }

  void step() {
    ++done_;
    const double seconds = now() - begin_;
    const bool due = terminal_ ? seconds > next_ : done_ * 10 / steps_ > (done_ - 1) * 10 / steps_;
    if (!due && done_ != steps_) return;
    next_ = seconds + 0.2;
    shown_ = true;
    const auto left =
        static_cast<long long>(seconds / static_cast<double>(done_ - from_) * static_cast<double>(steps_ - done_));
    const auto full = static_cast<int>(done_ * 20 / steps_);
    std::printf("%s%-9s [%.*s%.*s] %3lld %%  %lld:%02lld left%s", terminal_ ? "\r\x1b[K" : "", what_.c_str(), full,
                "####################", 20 - full, "....................", static_cast<long long>(done_ * 100 / steps_),
                left / 60, left % 60, terminal_ ? "" : "\n");
    std::fflush(stdout);
  }

 private:
  std::string what_;
  std::int64_t steps_, done_, from_;
  bool terminal_, shown_ = false;
  double begin_ = now();
  double next_ = 0;
};

/// A communicator that takes a step of a progress bar with every exchange.
class watched : public rondo::in_process_communicator<Exec> {
 public:
  using Base = rondo::in_process_communicator<Exec>;
  watched(Base base, Progress* progress) : Base(std::move(base)), progress_(progress) {}

  auto exchange(const Exec& after, std::span<const rondo::Segment<memory_space>> segments, rondo::Where where = {}) {
    if (progress_ != nullptr) progress_->step();
    return Base::exchange(after, segments, where);
  }
  watched split(int color, int key) { return {Base::split(color, key), progress_}; }

 private:
  Progress* progress_;
};

static_assert(rondo::Communicator<watched>);

/// Bytes in Kokkos Views of this process, and the most there have been.
class MemoryCount {
 public:
  MemoryCount() {
    Kokkos::Tools::Experimental::set_allocate_data_callback(
        [](Kokkos_Profiling_SpaceHandle, const char*, const void*, std::uint64_t size) {
          const std::int64_t held = bytes() += static_cast<std::int64_t>(size);
          std::int64_t most = peak();
          while (most < held && !peak().compare_exchange_weak(most, held)) {
          }
        });
    Kokkos::Tools::Experimental::set_deallocate_data_callback(
        [](Kokkos_Profiling_SpaceHandle, const char*, const void*, std::uint64_t size) {
          bytes() -= static_cast<std::int64_t>(size);
        });
  }
  static std::atomic<std::int64_t>& peak() {
    static std::atomic<std::int64_t> value{0};
    return value;
  }

 private:
  static std::atomic<std::int64_t>& bytes() {
    static std::atomic<std::int64_t> value{0};
    return value;
  }
};

namespace detail {

/// A number of bytes that Linux gives in KiB; 0 elsewhere.
inline std::int64_t status_bytes(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(name + ":", 0) == 0) return std::stoll(line.substr(name.size() + 1)) * 1024;
  }
  return 0;
}

}  // namespace detail

/// What the process holds in memory, and the most that it has held.
inline std::int64_t resident_bytes() { return detail::status_bytes("VmRSS"); }
inline std::int64_t peak_resident_bytes() { return detail::status_bytes("VmHWM"); }

}  // namespace hundred_million
