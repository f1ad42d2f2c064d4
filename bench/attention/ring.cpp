// What the ring costs: N ranks of one thread each against one rank with N threads, on the same work; and what a sharding
// costs against another. Causal. Arguments: tokens in all, ranks, threads per rank, sharding (0 contiguous, 1 striped,
// 2 zigzag).
#include <support/report.hpp>
#include <support/tensors.hpp>
#include <support/timed.hpp>

#include <rondo/rondo.hpp>

#include <cstdint>

namespace {

void ring(benchmark::State& state, bool backward) {
  const std::int64_t total = state.range(0);
  const int heads = 4, dim = 64;
  const int calls = total < 8192 ? 20 : 3;
  const int ranks = static_cast<int>(state.range(1)), threads = static_cast<int>(state.range(2));
  constexpr const char* shardings[] = {"contiguous", "striped", "zigzag"};
  const auto sharding = rondo::any_sharding::named(shardings[state.range(3)], total);
  double wait_share = 0, mebibytes = 0;
  for (auto _ : state) {
    double seconds = 0;
    rondo::in_process_group(ranks, {.threads_per_rank = threads}).run([&](auto& comm) {
      rondo::RingAttention attention{comm, rondo::Shape{.heads = heads, .head_dim = dim}, sharding};
      const std::int64_t tokens = attention.tokens();
      const auto seed = static_cast<std::uint32_t>(10 * comm.rank());
      const auto q = bench::random_tensor<float>(tokens, heads, dim, seed);
      const auto k = bench::random_tensor<float>(tokens, heads, dim, seed + 1);
      const auto v = bench::random_tensor<float>(tokens, heads, dim, seed + 2);
      const auto grad_out = bench::random_tensor<float>(tokens, heads, dim, seed + 3);
      const bench::Tensor4<float> out("out", 1, tokens, heads, dim), grad_q("grad_q", 1, tokens, heads, dim),
          grad_k("grad_k", 1, tokens, heads, dim), grad_v("grad_v", 1, tokens, heads, dim);
      const bench::Tensor3<float> lse("lse", 1, heads, tokens);
      const rondo::Problem problem{rondo::causal{}};
      attention.forward(q, k, v, out, lse, problem);
      const rondo::Statistics before = attention.statistics();
      const double mine = bench::timed(comm, [&] {
        for (int call = 0; call < calls; ++call) {
          if (backward) {
            attention.backward(q, k, v, out, lse, grad_out, grad_q, grad_k, grad_v, problem);
          } else {
            attention.forward(q, k, v, out, lse, problem);
          }
        }
      });
      if (comm.rank() != 0) return;
      const rondo::Statistics& after = attention.statistics();
      seconds = mine / calls;
      wait_share = (after.wait_seconds - before.wait_seconds) / mine;
      mebibytes = static_cast<double>(after.bytes_sent - before.bytes_sent) / calls / (1 << 20);
    });
    state.SetIterationTime(seconds);
  }
  const double flops = (backward ? 2.5 : 1) * bench::attention_flops(true, static_cast<double>(total), heads, dim);
  // Forward: q, k, v, out. Backward: those, grad_out and three gradients.
  const double bytes = (backward ? 8.0 : 4.0) * static_cast<double>(total) * heads * dim * sizeof(float);
  bench::report<float>(state, {.flops = flops, .bytes = bytes, .cores = ranks * threads});
  state.counters["wait_share"] = wait_share;
  state.counters["MiB_sent"] = mebibytes;
}

void forward(benchmark::State& state) { ring(state, false); }
void backward(benchmark::State& state) { ring(state, true); }

void shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"tokens", "ranks", "threads", "sharding"})->UseManualTime()->Unit(benchmark::kMillisecond);
  for (const std::int64_t tokens : {8192, 16384}) {
    benchmark->Args({tokens, 1, 1, 1})->Args({tokens, 1, 2, 1})->Args({tokens, 2, 1, 1})->Args({tokens, 4, 1, 1});
  }
  for (const std::int64_t tokens : {1024, 2048, 4096, 16384}) {
    for (const std::int64_t sharding : {0, 1, 2}) {
      if (tokens < 8192 || sharding != 1) benchmark->Args({tokens, 2, 1, sharding});
    }
  }
}

}  // namespace

BENCHMARK(forward)->Apply(shapes);
BENCHMARK(backward)->Apply(shapes);
