/// Mistakes that sanitizers have to report, made where the other tests could make them: between ranks, between the threads
/// of a rank, in and around the memory of Views.
#include <rondo/comm/in_process.hpp>

#include <Kokkos_Core.hpp>

#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <cstddef>
#include <limits>
#include <thread>

namespace {

using Bytes = Kokkos::View<std::byte*, Kokkos::HostSpace>;

TEST_CASE("race_between_ranks") {
  int shared = 0;
  std::atomic<int> here = 0;  // both are, and nothing orders them: a barrier's lock might
  rondo::in_process_group<>(2).run([&](auto& comm) {
    here.fetch_add(1, std::memory_order_relaxed);
    while (here.load(std::memory_order_relaxed) < 2) std::this_thread::yield();
    shared += 1 + comm.rank();
  });
  CHECK(shared <= 3);
}

TEST_CASE("race_in_region") {
  using Exec = Kokkos::DefaultHostExecutionSpace;
  int shared = 0;
  int* const target = &shared;
  Kokkos::parallel_for(
      Kokkos::RangePolicy<Exec>(0, 100'000), KOKKOS_LAMBDA(int i) { *target += i % 2; });
  Kokkos::fence();
  CHECK(shared >= 0);
}

TEST_CASE("behind_a_view") {
  const Bytes bytes("bytes", 104);  // Kokkos rounds up to a multiple of 8
  std::byte* const end = bytes.data() + bytes.size();
  *end = std::byte{1};
  CHECK(*end == std::byte{1});
}

TEST_CASE("after_its_end") {
  std::byte* gone = nullptr;
  {
    const Bytes bytes("bytes", 100);
    gone = bytes.data();
  }
  CHECK(*gone == std::byte{0});
}

TEST_CASE("lost") {
  auto* volatile lost = new int[100];
  lost[0] = 1;
  lost = nullptr;
  CHECK(lost == nullptr);
}

TEST_CASE("overflow") {
  volatile int largest = std::numeric_limits<int>::max();
  const int more = largest + 1;
  CHECK(more != 0);
}

}  // namespace
