// Starts Kokkos round Google Benchmark and says what was measured on.
#include <rondo/kernel/host/vec.hpp>

#include <benchmark/benchmark.h>
#include <Kokkos_Core.hpp>

#include <cstddef>
#include <string>

int main(int argc, char** argv) {
  Kokkos::ScopeGuard kokkos(argc, argv);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("vector_bytes", std::to_string(rondo::host::vector_bytes));
  benchmark::AddCustomContext("execution_space", Kokkos::DefaultExecutionSpace::name());
  const std::size_t ran = benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return ran == 0 ? 1 : 0;  // a filter that matches nothing is a mistake
}
