/// \file
/// What a rank has sent and how long it has waited.
#pragma once

#include <chrono>
#include <cstdint>

namespace rondo {

/// Totals of one RingAttention on one rank, since it was made.
struct Statistics {
  std::int64_t calls = 0;          ///< of forward and backward
  std::int64_t messages_sent = 0;  ///< by this rank
  std::int64_t bytes_sent = 0;     ///< by this rank
  double seconds = 0;              ///< inside forward and backward
  double wait_seconds = 0;         ///< of them, with nothing to do but wait for blocks
};

namespace detail {

/// Adds the seconds of its own life to a total.
class Stopwatch {
 public:
  explicit Stopwatch(double& total) : total_(total), start_(std::chrono::steady_clock::now()) {}
  ~Stopwatch() { total_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double& total_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace detail
}  // namespace rondo
