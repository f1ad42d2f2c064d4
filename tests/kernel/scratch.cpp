/// \file
/// A thread's scratch memory, in a program for this machine or for 1 MiB of cache.
#include "scratch.hpp"

TEST_CASE("a thread's scratch memory fits the second-level cache for every head_dim up to 256") {
  check_scratch<float>();
  check_scratch<double>();
  check_scratch<rondo::bfloat16>();
}
