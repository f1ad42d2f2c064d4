#include <rondo/rondo.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <algorithm>
#include <string>
#include <type_traits>

namespace rondo::test {

BuildInfo baseline_info();    // compiled for the oldest processor
BuildInfo components_info();  // told that layers and nccl are linked

}  // namespace rondo::test

namespace {

using Catch::Matchers::ContainsSubstring;
using rondo::build_info;
using rondo::BuildInfo;

TEST_CASE("build_info() names the versions and spaces that the program runs with") {
  const BuildInfo info = build_info();
  CHECK(info.version == std::to_string(RONDO_VERSION_MAJOR) + "." + std::to_string(RONDO_VERSION_MINOR) + "." +
                            std::to_string(RONDO_VERSION_PATCH));
  const std::string& kokkos = info.kokkos_version;
  REQUIRE(std::count(kokkos.begin(), kokkos.end(), '.') == 2);
  CHECK(std::stoi(kokkos) == KOKKOS_VERSION_MAJOR);
  CHECK(std::stoi(kokkos.substr(kokkos.find('.') + 1)) == KOKKOS_VERSION_MINOR);
  CHECK(std::stoi(kokkos.substr(kokkos.rfind('.') + 1)) == KOKKOS_VERSION_PATCH);
  CHECK(info.execution_space == Kokkos::DefaultExecutionSpace{}.name());
  CHECK(info.host_execution_space == Kokkos::DefaultHostExecutionSpace{}.name());
}

TEST_CASE("build_info() names the kernel that RingAttention takes when it is told none") {
  constexpr bool host = std::is_same_v<Kokkos::DefaultExecutionSpace::memory_space, Kokkos::HostSpace>;
  CHECK(build_info().kernel == (host ? "host" : "portable"));
}

TEST_CASE("build_info() names the vectors that this file's flags name, and that the processor has") {
  const BuildInfo info = build_info();
  CHECK(info.vector_bytes == rondo::host::width<float> * 4);
  CHECK(info.cache_kib >= 256);
  CHECK(info.cache_kib <= 1024);
#if defined(__x86_64__)
  // What the flags name must run here, for this program does.
  if (info.instructions == "AVX-512") {
    CHECK(__builtin_cpu_supports("avx512f"));
    CHECK(info.vector_bytes == 64);
  } else if (info.instructions == "AVX2" || info.instructions == "AVX") {
    CHECK(__builtin_cpu_supports("avx"));
    CHECK(info.vector_bytes == 32);
  } else {
    CHECK(info.instructions == "SSE2");
    CHECK(info.vector_bytes == 16);
  }
  if (info.fused_multiply_add) CHECK(__builtin_cpu_supports("fma"));
  if (info.bfloat16_pairs) CHECK(__builtin_cpu_supports("avx512bf16"));
#endif
}

#ifdef HAS_BASELINE
TEST_CASE("Each part of a program hears of its own flags") {
  const BuildInfo baseline = rondo::test::baseline_info();
  CHECK(baseline.vector_bytes == 16);
  CHECK(baseline.instructions == "SSE2");
  CHECK_FALSE(baseline.fused_multiply_add);
  CHECK_FALSE(baseline.bfloat16_pairs);
  // The answer of the other part has not taken this one's place.
  CHECK(build_info().vector_bytes == rondo::host::vector_bytes);
}
#endif

TEST_CASE("build_info() names the components that were linked") {
  CHECK_FALSE(build_info().layers);
  CHECK_FALSE(build_info().mpi);
  CHECK_FALSE(build_info().nccl);
  CHECK_THAT(build_info().text(), ContainsSubstring("components: none\n"));
  const BuildInfo linked = rondo::test::components_info();
  CHECK(linked.layers);
  CHECK_FALSE(linked.mpi);
  CHECK(linked.nccl);
  CHECK_THAT(linked.text(), ContainsSubstring("components: layers nccl\n"));
}

TEST_CASE("The text says all of it, a line for each part") {
  BuildInfo info;
  info.version = "1.2.3";
  info.kokkos_version = "5.0.1";
  info.execution_space = "Cuda";
  info.host_execution_space = "OpenMP";
  info.kernel = "portable";
  info.vector_bytes = 32;
  info.cache_kib = 512;
  info.instructions = "AVX2";
  info.fused_multiply_add = true;
  info.mpi = true;
  CHECK(info.text() ==
        "rondo 1.2.3, Kokkos 5.0.1\n"
        "execution space: Cuda, on the host OpenMP\n"
        "default kernel: portable\n"
        "host vectors: 32 bytes, instructions AVX2, fused multiply-add yes, bfloat16 pairs no, blocks for 512 KiB of "
        "cache\n"
        "components: mpi\n");
}

}  // namespace
