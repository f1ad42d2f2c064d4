/// \file
/// What every benchmark reports: GFLOP/s of useful work, its share of the FMA peak measured in the same run, and bytes.
#pragma once

#include <support/peak.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <thread>

namespace bench {

/// What one call does.
struct Work {
  double flops;   ///< useful floating-point operations; what is computed again or masked does not count
  double bytes;   ///< of all inputs and outputs, each once: the least that any implementation moves
  int cores = 1;  ///< that it asks for; the peak is of no more than the machine has
};

/// Counters of a benchmark that made one call per iteration. The peak is that of one core times the cores.
/// \tparam A  number type of the arithmetic
template <class A>
void report(benchmark::State& state, const Work& work) {
  const auto calls = static_cast<double>(state.iterations());
  const double gflop = work.flops * calls * 1e-9;
  const int cores = std::min(work.cores, std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
  const double peak = peak_gflops<A>() * cores;
  state.counters["GFLOP/s"] = benchmark::Counter(gflop, benchmark::Counter::kIsRate);
  state.counters["of_peak"] = benchmark::Counter(gflop / peak, benchmark::Counter::kIsRate);
  state.counters["peak"] = peak;
  state.counters["MiB"] = work.bytes / (1 << 20);
  state.SetBytesProcessed(static_cast<std::int64_t>(work.bytes * calls));
}

}  // namespace bench
