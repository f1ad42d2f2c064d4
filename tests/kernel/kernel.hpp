/// \file
/// The kernel that a program of this folder tests: one source for the portable kernel, for every vector width of the
/// host kernel (RONDO_HOST_VECTOR_BYTES is given when it is compiled), and for the kernels on tensor cores, whose warps
/// and warp groups are simulated, or, with RONDO_TEST_DEVICE, a device's own.
#pragma once

#include <kernel/kernel_case.hpp>
#include <kernel/problems.hpp>
#include <support/exactness.hpp>

#include <rondo/kernel/host/host.hpp>
#include <rondo/kernel/portable/portable.hpp>

#if defined(RONDO_TEST_DEVICE)
#include <rondo/kernel/default.hpp>
#include <rondo/kernel/hopper/hopper.hpp>
#elif defined(RONDO_TEST_MMA)
#include <kernel/mma/simulated.hpp>
#include <rondo/kernel/mma/mma.hpp>
#elif defined(RONDO_TEST_HOPPER)
#include <kernel/hopper/simulated.hpp>
#include <rondo/kernel/hopper/hopper.hpp>
#elif defined(RONDO_TEST_MFMA)
#include <kernel/mfma/simulated.hpp>
#include <rondo/kernel/mfma/mfma.hpp>
#endif

#include <catch2/catch_test_macros.hpp>

#include <string>
#include <vector>

namespace rondo::test {

#if defined(RONDO_TEST_DEVICE)
#if defined(RONDO_TEST_HOPPER)
template <class T>
using TestedKernel = hopper_kernel<T>;
inline std::string kernel_name() { return "hopper"; }
#elif defined(RONDO_TEST_MMA)
template <class T>
using TestedKernel = mma_kernel<T>;
inline std::string kernel_name() { return "mma"; }
#elif defined(RONDO_TEST_MFMA)
template <class T>
using TestedKernel = mfma_kernel<T>;
inline std::string kernel_name() { return "mfma"; }
#else
template <class T>
using TestedKernel = portable_kernel<T>;
inline std::string kernel_name() { return "portable"; }
#endif
#elif defined(RONDO_TEST_MMA)
template <class T>
using TestedKernel = mma_kernel<T, Kokkos::DefaultHostExecutionSpace, simulated>;
inline std::string kernel_name() { return "mma, simulated"; }
#elif defined(RONDO_TEST_HOPPER)
/// What it does not do itself is the portable kernel's here.
template <class T>
using TestedKernel = hopper_kernel<T, Kokkos::DefaultHostExecutionSpace, simulated_hopper,
                                   portable_kernel<T, Kokkos::DefaultHostExecutionSpace>>;
inline std::string kernel_name() { return "hopper, simulated"; }
#elif defined(RONDO_TEST_MFMA)
template <class T>
using TestedKernel = mfma_kernel<T, Kokkos::DefaultHostExecutionSpace, simulated_mfma, RONDO_TEST_MFMA>;
inline std::string kernel_name() { return "mfma, simulated, size " + std::to_string(RONDO_TEST_MFMA); }
#elif defined(RONDO_TEST_PORTABLE)
template <class T>
using TestedKernel = portable_kernel<T>;
inline std::string kernel_name() { return "portable"; }
#else
template <class T>
using TestedKernel = host_kernel<T>;
inline std::string kernel_name() { return "host, vectors of " + std::to_string(host::vector_bytes) + " bytes"; }
#endif

/// Whole; ragged blocks of strided runs, which are first and last pieces to each other; an empty state instead of a
/// first call, and memory the other way round; the outputs as state.
inline const std::vector<Cut>& cuts() {
  static const std::vector<Cut> all{
      {},
      {.query_stride = 3, .key_stride = 2, .queries = 37, .keys = 29, .threads = 2},
      {.queries = 50, .keys = 64, .threads = 3, .says_first = false, .order = Order::columns},
      {.query_stride = 2, .key_stride = 5, .keys = 17, .in_place = true},
      {.query_stride = 4, .queries = 1, .keys = 100, .threads = 2, .says_first = false, .in_place = true},
  };
  return all;
}

template <class T, class P>
void check_cuts(const Exactness<T, P>& exactness, const std::string& kind, const std::vector<Cut>& cuts) {
  const Extents& e = exactness.inputs().extents;
  for (const Cut& cut : cuts) {
    const ErrorRatios ratios =
        exactness.ratios(kernel_attention<TestedKernel<T>>(exactness.inputs(), cut, exactness.problem()));
    const std::string from = std::to_string(e.tokens) + " tokens, head_dim " + std::to_string(e.head_dim) +
                             (e.value_dim == 0 ? "" : ", of values " + std::to_string(e.value_dim)) + ", " + text(cut);
    if (e.tokens > exactness.few_tokens) note(std::string(precision_traits<T>::name) + ", " + kind, ratios, from);
    INFO(kernel_name() << ", " << kind << ", " << from << "\n" << ratios.text());
    CHECK(ratios.of_promise() <= 1);
  }
}

}  // namespace rondo::test
