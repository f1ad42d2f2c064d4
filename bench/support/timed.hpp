/// \file
/// Timing of calls that all ranks of an in-process group make together.
#pragma once

#include <chrono>

namespace bench {

/// Seconds of one call, from the moment when all ranks are ready until all have finished.
template <class Call>
double timed(auto& comm, const Call& call) {
  comm.barrier();
  const auto begin = std::chrono::steady_clock::now();
  call();
  comm.barrier();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace bench
