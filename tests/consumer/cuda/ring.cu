// A ring over NCCL on Kokkos' default execution space, which is CUDA here.
#include <rondo/comm/nccl.hpp>
#include <rondo/rondo.hpp>

#include <type_traits>

using Exec = Kokkos::DefaultExecutionSpace;
using Host = Kokkos::DefaultHostExecutionSpace;
using Comm = rondo::nccl_communicator<rondo::in_process_communicator<Host>>;
static_assert(std::is_same_v<Exec, Kokkos::Cuda> && std::is_same_v<Comm::memory_space, Kokkos::CudaSpace>);
static_assert(rondo::Communicator<Comm> && Comm::stream_ordered);
static_assert(rondo::Communicator<rondo::in_process_communicator<Host>>, "for what starts NCCL");
#ifndef RONDO_HAS_NCCL
#error "Rondo::nccl says that it is there"
#endif

template class rondo::nccl_communicator<rondo::in_process_communicator<Host>>;

template <class T>
using Tensor = Kokkos::View<T****, Kokkos::LayoutRight, Exec>;

/// A rank for each device, on a thread.
void ring(int devices) {
  rondo::in_process_group<Host>(devices).run([](auto& host) {
    cudaSetDevice(host.rank());
    cudaStream_t stream = nullptr;
    cudaStreamCreate(&stream);
    {
      const Kokkos::Cuda exec(stream);
      Comm comm(host.split(0, host.rank()), exec);
      rondo::RingAttention attention{comm, rondo::Shape{.heads = 8, .head_dim = 64}, rondo::striped{4096},
                                     rondo::portable_kernel<float>{}};
      const Tensor<float> q("q", 1, attention.tokens(), 8, 64), out("out", 1, attention.tokens(), 8, 64);
      const Kokkos::View<float***, Kokkos::LayoutRight, Exec> lse("lse", 1, 8, attention.tokens());
      attention.forward(q, q, q, out, lse, rondo::Problem{rondo::causal{}});
    }
    cudaStreamDestroy(stream);
  });
}
