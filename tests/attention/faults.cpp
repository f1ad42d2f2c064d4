/// \file
/// The check of exactness can fail: each planted fault breaks it, and without the fault it holds.
#include <support/exactness.hpp>
#include <support/faults.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace rondo::test {
namespace {

/// Faults are planted in host memory, whatever Kokkos' default is.
template <class T>
using Kernel = default_kernel<T, Kokkos::DefaultHostExecutionSpace>;

constexpr Extents sequence{.batch = 1, .heads = 4, .kv_heads = 2, .head_dim = 16, .tokens = 211};

template <class T>
const Exactness<T, Problem<causal>>& causal_case() {
  static const Exactness<T, Problem<causal>> exactness(sequence, Problem{causal{}});
  return exactness;
}

/// The check, with the fault and without it, where a fault has something to spoil.
template <class Fault, class T = float>
void check_kernel_fault(const std::string& name, const std::vector<Ring>& rings) {
  const auto& exactness = causal_case<T>();
  for (const Ring& ring : rings) {
    INFO(name << ", " << text(ring));
    const ErrorRatios right = exactness.of_ring(ring, faulty_kernel<Kernel<T>, no_fault>{});
    const ErrorRatios wrong = exactness.of_ring(ring, faulty_kernel<Kernel<T>, Fault>{});
    Measurements::instance().note("allowed error / error of " + name, 1 / wrong.of_promise(), text(ring));
    CHECK(right.of_promise() <= 1);
    CHECK_FALSE(wrong.of_promise() <= 1);
  }
}

template <class Fault, class T = float>
void check_communicator_fault(const std::string& name, const std::vector<Ring>& rings) {
  const auto& exactness = causal_case<T>();
  const auto wrap = [](auto& comm) {
    return faulty_communicator<std::remove_reference_t<decltype(comm)>, Fault>(comm);
  };
  for (const Ring& ring : rings) {
    INFO(name << ", " << text(ring));
    const ErrorRatios right = exactness.of_ring(ring, Kernel<T>{});
    const ErrorRatios wrong = exactness.of_ring(ring, Kernel<T>{}, wrap);
    Measurements::instance().note("allowed error / error of " + name, 1 / wrong.of_promise(), text(ring));
    CHECK(right.of_promise() <= 1);
    CHECK_FALSE(wrong.of_promise() <= 1);
  }
}

std::vector<Ring> every_ring() {
  std::vector<Ring> rings;
  for (const int ranks : {2, 4, 7}) {
    for (const Layout layout : all_layouts) {
      for (const std::int64_t chunk : {9, 4096}) rings.push_back({ranks, layout, chunk, 2});
    }
  }
  return rings;
}

std::vector<Ring> rings_of(Layout layout) { return {{2, layout, 4096}, {4, layout, 4096}, {4, layout, 9}}; }

}  // namespace

TEST_CASE("a skipped hop breaks the promise") { check_kernel_fault<skipped_hop>("a skipped hop", every_ring()); }

TEST_CASE("a lost gradient breaks the promise") { check_kernel_fault<lost_gradient>("a lost gradient", every_ring()); }

TEST_CASE("a stale block breaks the promise") { check_communicator_fault<stale_block>("a stale block", every_ring()); }

TEST_CASE("positions off by one break the promise") {
  for (const Layout layout : all_layouts)
    check_kernel_fault<shifted_positions>("positions off by one", rings_of(layout));
}

TEST_CASE("positions that are local break the promise") {
  for (const Layout layout : all_layouts) check_kernel_fault<local_positions>("local positions", rings_of(layout));
}

TEST_CASE("a missing rescale breaks the promise") {
  check_kernel_fault<missing_rescale>("a missing rescale", every_ring());
}

TEST_CASE("a state rounded at every hop breaks the promise") {
  check_kernel_fault<rounded_state>("a rounded state, float", every_ring());
  check_kernel_fault<rounded_state, bfloat16>("a rounded state, bfloat16", {{7, Layout::striped, 9}});
}

TEST_CASE("gradients rounded at every hop break the promise") {
  check_communicator_fault<rounded_gradients>("rounded gradients, float", every_ring());
  check_communicator_fault<rounded_gradients, bfloat16>("rounded gradients, bfloat16", {{16, Layout::striped, 4096}});
}

}  // namespace rondo::test
