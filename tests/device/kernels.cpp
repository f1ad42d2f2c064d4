/// \file
/// Kernels for a device, compiled and looked at but never run: what device.py compiles for one architecture after another.
#include <rondo/rondo.hpp>
#if defined(KOKKOS_ARCH_HOPPER90)
#include <rondo/kernel/hopper/hopper.hpp>
#endif

#include <type_traits>

namespace rondo::test {

#if defined(KOKKOS_ENABLE_CUDA)
using Exec = Kokkos::Cuda;
#elif defined(KOKKOS_ENABLE_HIP)
using Exec = Kokkos::HIP;
#endif
using Space = Exec::memory_space;

static_assert(std::is_same_v<Kokkos::DefaultExecutionSpace, Exec>, "a device is Kokkos' default where there is one");

// Ranks that share a device: it waits for messages, not the host.
static_assert(Communicator<in_process_communicator<Exec>> && in_process_communicator<Exec>::stream_ordered);
static_assert(std::is_same_v<in_process_group<>::communicator, in_process_communicator<Exec, streams_of<Exec>>>);
static_assert(!in_process_communicator<Kokkos::DefaultHostExecutionSpace>::stream_ordered);

/// Calls what a ring calls of a kernel, so that all of it is compiled for this kind of problem.
template <class Kernel, class P>
void use(const Kernel& kernel, const P& problem) {
  using T = typename Kernel::value_type;
  using A = typename Kernel::accumulate_type;
  const Exec exec;
  const Shape shape;
  const Tensor<const T, 4, Space> tensor;
  const Tensor<A, 4, Space> sums;
  const Tensor<A, 3, Space> rows;
  const WireView<Space> wire;
  const Run run;
  kernel.pack(exec, Pass::forward, shape, tensor, tensor, wire);
  kernel.fold(exec, problem, shape, tensor, run, wire, run, SoftmaxState<A, Space>{}, Phase{});
  kernel.finish(exec, problem, SoftmaxState<A, Space>{}, Tensor<T, 4, Space>{}, rows);
  kernel.delta(exec, tensor, tensor, rows);
  kernel.fold_gradient(exec, problem, shape, tensor, tensor, rows, rows, run, wire, run, sums, sums, sums, nullptr);
}

// Which kernel is taken where none is named.
static_assert(std::is_same_v<default_kernel<float, Exec>, portable_kernel<float, Exec>>);
static_assert(std::is_same_v<default_kernel<double, Exec>, portable_kernel<double, Exec>>);
using Host = Kokkos::DefaultHostExecutionSpace;
static_assert(std::is_same_v<default_kernel<bfloat16, Host>, host_kernel<bfloat16, Host>>);
#if defined(KOKKOS_ENABLE_CUDA)
static_assert(std::is_same_v<default_kernel<bfloat16>, mma_kernel<bfloat16, Exec>>);
static_assert(std::is_same_v<default_kernel<float16, Exec>, mma_kernel<float16, Exec>>);

void tensor_cores() { use(mma_kernel<bfloat16, Exec>{}, Problem{causal{}}); }
#if defined(KOKKOS_ARCH_HOPPER90)
void warp_groups() { use(hopper_kernel<bfloat16, Exec>{}, Problem{causal{}}); }
#endif
#else
static_assert(std::is_same_v<default_kernel<bfloat16>, mfma_kernel<bfloat16, Exec>>);
static_assert(std::is_same_v<default_kernel<float16, Exec>, mfma_kernel<float16, Exec>>);
static_assert(BlockKernel<mfma_kernel<bfloat16, Exec>> && BlockKernel<mfma_kernel<float16, Exec>>);

void matrix_cores() {
  use(mfma_kernel<bfloat16, Exec>{}, Problem{causal{}});
  use(mfma_kernel<float16, Exec>{}, Problem{causal{}});
}
#endif

void portable() {
  use(portable_kernel<float, Exec>{}, Problem{causal{}});
  use(portable_kernel<bfloat16, Exec>{}, Problem{causal{} & window{4096}, softcap{30}});
}

}  // namespace rondo::test

template class rondo::in_process_communicator<rondo::test::Exec>;
