/// \file
/// What simulated warps of all makes share: a count of their products, and who reads shared memory when.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>

namespace rondo::test {

/// Multiplications made by matrix instructions so far: that they were, and by nobody else.
inline std::atomic<std::int64_t> simulated_multiplications = 0;

/// Whether a warp of the team that this thread plays has read shared memory since the last barrier.
inline thread_local bool simulated_reads = false;

/// Either half of a register, as a number.
template <class T>
float half_of(std::uint32_t pair, int half) {
  const auto bits = static_cast<std::uint16_t>(half == 0 ? pair & 0xffffu : pair >> 16);
  T x;
  std::memcpy(static_cast<void*>(&x), &bits, sizeof(x));
  return static_cast<float>(x);
}

}  // namespace rondo::test
