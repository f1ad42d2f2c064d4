// Causal attention over 10,001 tokens on a ring of four ranks: what an existing program adds to use Rondo.
#include <rondo/rondo.hpp>

#include <cmath>
#include <cstdio>

int main(int argc, char** argv) {
  Kokkos::ScopeGuard kokkos(argc, argv);
  const rondo::Shape shape{.batch = 1, .heads = 8, .kv_heads = 2, .head_dim = 64};

  rondo::in_process_group<Kokkos::DefaultHostExecutionSpace>(4).run([&](auto& comm) {
    // The plan: who holds which tokens, and the workspace. Made once, used for every call.
    rondo::RingAttention attention{comm, shape, rondo::striped{10'001}};
    const auto tokens = attention.tokens();

    // This rank's shard, [batch, sequence, heads, head_dim]; a real program computes it from its own tokens.
    using Tensor = Kokkos::View<float****, Kokkos::LayoutRight, Kokkos::HostSpace>;
    const Tensor q("q", 1, tokens, 8, 64), k("k", 1, tokens, 2, 64), v("v", 1, tokens, 2, 64);
    attention.shards().for_each_token(comm.rank(), [&](auto position, auto row) {
      for (int d = 0; d < 64; ++d) {
        for (int head = 0; head < 8; ++head) q(0, row, head, d) = std::sin(0.1f * position + head + d);
        for (int head = 0; head < 2; ++head) {
          k(0, row, head, d) = std::cos(0.1f * position + d);
          v(0, row, head, d) = std::cos(0.01f * position);
        }
      }
    });

    const Tensor out("out", 1, tokens, 8, 64);
    const Kokkos::View<float***, Kokkos::LayoutRight, Kokkos::HostSpace> lse("lse", 1, 8, tokens);
    attention.forward(q, k, v, out, lse, rondo::Problem{rondo::causal{}});

    const Tensor grad_out("grad_out", 1, tokens, 8, 64), grad_q("grad_q", 1, tokens, 8, 64);
    const Tensor grad_k("grad_k", 1, tokens, 2, 64), grad_v("grad_v", 1, tokens, 2, 64);
    Kokkos::deep_copy(comm.execution_instance(), grad_out, 1.0f);
    attention.backward(q, k, v, out, lse, grad_out, grad_q, grad_k, grad_v, rondo::Problem{rondo::causal{}});

    std::printf("rank %d of %d: %lld tokens, out %.4f, grad_v %.4f, workspace %.1f MiB, %.1f MiB sent\n", comm.rank(),
                comm.size(), static_cast<long long>(tokens), out(0, tokens - 1, 0, 0), grad_v(0, 0, 0, 0),
                static_cast<double>(attention.workspace_bytes()) / (1 << 20),
                static_cast<double>(attention.statistics().bytes_sent) / (1 << 20));
  });
}
