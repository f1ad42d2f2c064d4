// Causal attention in bfloat16 where Kokkos computes by default: a GPU in a build for CUDA or HIP, else the processor. The
// same source; every Tensor below lies in that space's memory, and the kernel is the one for it.
#include <rondo/rondo.hpp>

#include <cstdint>
#include <cstdio>

namespace {

using Space = Kokkos::DefaultExecutionSpace;
template <class T>
using Tensor = Kokkos::View<T****, Kokkos::LayoutRight, Space>;

/// Numbers between -1 and 1 that follow from the token's position: the same for every number of ranks.
void fill(const Space& exec, const Tensor<rondo::bfloat16>& x, std::int64_t first, std::int64_t stride, int salt) {
  const std::int64_t tokens = x.extent(1), heads = x.extent(2), dim = x.extent(3);
  Kokkos::parallel_for(
      "fill", Kokkos::RangePolicy<Space, Kokkos::IndexType<std::int64_t>>(exec, 0, tokens * heads * dim),
      KOKKOS_LAMBDA(std::int64_t n) {
        const std::int64_t row = n / (heads * dim), rest = n % (heads * dim);
        const auto phase = static_cast<float>((first + stride * row) * 7 + rest * 13 + salt);
        x(0, row, rest / dim, rest % dim) = rondo::bfloat16(Kokkos::sin(phase));
      });
}

}  // namespace

int main(int argc, char** argv) {
  Kokkos::ScopeGuard kokkos(argc, argv);
  std::fputs(rondo::build_info().text().c_str(), stdout);
  const std::int64_t total = 1000;
  const int heads = 4, kv_heads = 2, dim = 64;

  rondo::in_process_group(2).run([&](auto& comm) {
    rondo::RingAttention attention{comm, rondo::Shape{.heads = heads, .kv_heads = kv_heads, .head_dim = dim},
                                   rondo::striped{total}, rondo::default_kernel<rondo::bfloat16>{}};
    const Space exec = comm.execution_instance();
    const auto tokens = attention.tokens();
    const auto made = [&](int count, int salt) {
      const Tensor<rondo::bfloat16> x("x", 1, tokens, count, dim);
      fill(exec, x, comm.rank(), comm.size(), salt);  // the tokens that striped deals to this rank
      return x;
    };
    const auto q = made(heads, 1), k = made(kv_heads, 2), v = made(kv_heads, 3), grad_out = made(heads, 4);
    const Tensor<rondo::bfloat16> out("out", 1, tokens, heads, dim), grad_q("grad_q", 1, tokens, heads, dim);
    const Tensor<rondo::bfloat16> grad_k("grad_k", 1, tokens, kv_heads, dim),
        grad_v("grad_v", 1, tokens, kv_heads, dim);
    const Kokkos::View<float***, Kokkos::LayoutRight, Space> lse("lse", 1, heads, tokens);

    const rondo::Problem problem{rondo::causal{}};
    attention.forward(exec, q, k, v, out, lse, problem);
    attention.backward(exec, q, k, v, out, lse, grad_out, grad_q, grad_k, grad_v, problem);

    const auto results = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, out);
    const auto gradients = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, grad_v);
    std::printf("rank %d: %lld tokens, out %.4f, grad_v %.4f\n", comm.rank(), static_cast<long long>(tokens),
                static_cast<double>(static_cast<float>(results(0, tokens - 1, 0, 0))),
                static_cast<double>(static_cast<float>(gradients(0, 0, 0, 0))));
  });
}
