/// \file
/// The kernel for Hopper, named by a program: compiled for the host and for sm_90a, so that how it is launched is
/// looked at too.
#include <rondo/kernel/hopper/hopper.hpp>
#include <rondo/rondo.hpp>

#include <type_traits>

namespace rondo::test {

using Kernel = hopper_kernel<bfloat16>;
using Space = Kernel::memory_space;

// It is taken where it is named, and nowhere else.
static_assert(!std::is_same_v<default_kernel<bfloat16>, Kernel>);

void construct() {
  in_process_group<Kokkos::Cuda>(1).run([](auto& comm) {
    RingAttention attention{comm, Shape{.heads = 1, .head_dim = 64}, striped{1}, Kernel{}};
  });
}

void fold(const Kernel& kernel, const Kokkos::Cuda& exec, const Tensor<const bfloat16, 4, Space>& q,
          const WireView<Space>& wire, const SoftmaxState<float, Space>& state) {
  kernel.fold(exec, Problem{full{}}, Shape{}, q, Run{}, wire, Run{}, state, Phase{});
}

}  // namespace rondo::test
