/// \file
/// The machine's limit, measured in the same run as what is compared with it: fused multiply-adds of one core.
#pragma once

#include <rondo/kernel/host/vec.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

namespace bench {

/// GFLOP/s of as many independent chains of multiply-adds as the register tile has, for about `seconds`. The chains start
/// from different numbers that the compiler does not know, so none can be merged or left out. To be believed, the loop must
/// hold `chains` multiply-adds, each on a register of its own; in what g++ 12.2 -O3 makes of it for 512-bit vectors it
/// does: 24 vfmadd on 24 registers, a decrement and a jump (peak_test.py counts them in the program that was built).
template <class A>
double peak_gflops_once(double seconds = 0.02) {
  using namespace rondo::host;
  constexpr int chains = vector_bytes == 64 ? 24 : 12;
  volatile A start = A{1};
  Vec<A> sums[chains];
  for (int i = 0; i < chains; ++i) sums[i] = splat<A>(start + static_cast<A>(i));
  const Vec<A> factor = splat<A>(start * static_cast<A>(0.999));
  const Vec<A> term = splat<A>(start * static_cast<A>(0.001));
  std::int64_t rounds = 0;
  const auto begin = std::chrono::steady_clock::now();
  double elapsed = 0;
  do {
    for (int i = 0; i < 4096; ++i) {
      unrolled<chains>([&](auto c) RONDO_INLINE_LAMBDA { sums[c] = sums[c] * factor + term; });
    }
    rounds += 4096;
    elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  } while (elapsed < seconds);
  Vec<A> all{};
  for (const Vec<A>& sum : sums) all += sum;
  volatile A sink = total<A>(all);
  static_cast<void>(sink);
  return 2.0 * chains * width<A> * static_cast<double>(rounds) / elapsed * 1e-9;
}

/// The median of several measurements.
template <class A>
double peak_gflops() {
  std::vector<double> runs;
  for (int i = 0; i < 9; ++i) runs.push_back(peak_gflops_once<A>());
  std::nth_element(runs.begin(), runs.begin() + 4, runs.end());
  return runs[4];
}

}  // namespace bench
