/// \file
/// A thread's scratch memory, in a part of the program that is built for a smaller cache than others may be.
#undef RONDO_HOST_CACHE_KIB
#define RONDO_HOST_CACHE_KIB 512
#include "scratch.hpp"

TEST_CASE("a thread's scratch memory fits 512 KiB of cache for every head_dim up to 256") {
  check_scratch<float>();
  check_scratch<double>();
  check_scratch<rondo::bfloat16>();
}
