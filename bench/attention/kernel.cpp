// One kernel on one piece: forward and backward, pack included, as useful GFLOP/s and as a share of the FMA peak.
// Arguments: tokens, head_dim, threads.
#include <support/peak.hpp>
#include <support/tensors.hpp>

#include <rondo/kernel/host/host.hpp>
#include <rondo/kernel/portable/portable.hpp>

#include <benchmark/benchmark.h>

namespace {

using Exec = Kokkos::DefaultHostExecutionSpace;

Exec instance([[maybe_unused]] int threads) {
#ifdef KOKKOS_ENABLE_OPENMP
  if constexpr (std::is_same_v<Exec, Kokkos::OpenMP>) return Kokkos::OpenMP(threads);
#endif
  return Exec{};
}

template <class Kernel, class Mask>
struct Case {
  using T = typename Kernel::value_type;
  using A = typename Kernel::accumulate_type;
  static constexpr int heads = 2;

  explicit Case(const benchmark::State& state)
      : tokens(state.range(0)),
        shape{1, heads, heads, static_cast<int>(state.range(1))},
        exec(instance(static_cast<int>(state.range(2)))),
        q(bench::random_tensor<T>(tokens, heads, shape.head_dim, 1)),
        k(bench::random_tensor<T>(tokens, heads, shape.head_dim, 2)),
        v(bench::random_tensor<T>(tokens, heads, shape.head_dim, 3)),
        grad_out(bench::random_tensor<T>(tokens, heads, shape.head_dim, 4)),
        out("out", 1, tokens, heads, shape.head_dim),
        acc("acc", 1, tokens, heads, shape.head_dim),
        grad_q("grad_q", 1, tokens, heads, shape.head_dim),
        grad_k("grad_k", 1, tokens, heads, shape.head_dim),
        grad_v("grad_v", 1, tokens, heads, shape.head_dim),
        m("m", 1, heads, tokens),
        l("l", 1, heads, tokens),
        lse("lse", 1, heads, tokens),
        delta("delta", 1, heads, tokens),
        wire("wire", kernel.wire_bytes(rondo::Pass::backward, shape, tokens)),
        all{0, 1, static_cast<std::int32_t>(tokens)},
        problem(rondo::Problem{Mask{}}.resolved(shape)) {}

  void forward() {
    kernel.pack(exec, rondo::Pass::forward, shape, k, v, wire);
    const rondo::SoftmaxState<A, Kokkos::HostSpace> state{m, l, acc};
    kernel.fold(exec, problem, shape, q, all, wire, all, state, {true, true});
    kernel.finish(exec, state, out, lse);
  }
  void backward() {
    kernel.delta(exec, out, grad_out, delta);
    kernel.pack(exec, rondo::Pass::backward, shape, k, v, wire);
    kernel.fold_gradient(exec, problem, shape, q, grad_out, lse, delta, all, wire, all, grad_q, grad_k, grad_v);
  }

  /// \param passes  1 for forward, 2.5 for backward
  void report(benchmark::State& state, double passes) const {
    const double flops = passes * bench::attention_flops(std::is_same_v<Mask, rondo::causal>,
                                                         static_cast<double>(tokens), heads, shape.head_dim);
    const double peak = bench::peak_gflops<A>() * static_cast<double>(state.range(2));
    const double done = flops * static_cast<double>(state.iterations()) * 1e-9;
    state.counters["GFLOP/s"] = benchmark::Counter(done, benchmark::Counter::kIsRate);
    state.counters["of_peak"] = benchmark::Counter(done / peak, benchmark::Counter::kIsRate);
    state.counters["peak"] = peak;
  }

  std::int64_t tokens;
  rondo::Shape shape;
  Exec exec;
  Kernel kernel;
  bench::Tensor4<T> q, k, v, grad_out, out;
  bench::Tensor4<A> acc, grad_q, grad_k, grad_v;
  bench::Tensor3<A> m, l, lse, delta;
  Kokkos::View<std::byte*, Kokkos::HostSpace> wire;
  rondo::Run all;
  rondo::Problem<Mask> problem;
};

template <class Kernel, class Mask>
void forward(benchmark::State& state) {
  Case<Kernel, Mask> one(state);
  one.forward();
  for (auto _ : state) one.forward();
  one.report(state, 1);
}

template <class Kernel, class Mask>
void backward(benchmark::State& state) {
  Case<Kernel, Mask> one(state);
  one.forward();
  one.backward();
  for (auto _ : state) one.backward();
  one.report(state, 2.5);
}

void shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"tokens", "dim", "threads"})->UseRealTime()->Unit(benchmark::kMillisecond);
  for (const std::int64_t tokens : {1024, 4096, 8192}) {
    for (const std::int64_t dim : {64, 128}) benchmark->Args({tokens, dim, 1});
  }
  benchmark->Args({4096, 64, 2});
}

template <class T>
using Host = rondo::host_kernel<T, Exec>;
template <class T>
using Portable = rondo::portable_kernel<T, Exec>;

}  // namespace

BENCHMARK(forward<Host<float>, rondo::full>)->Apply(shapes);
BENCHMARK(forward<Host<float>, rondo::causal>)->Apply(shapes);
BENCHMARK(backward<Host<float>, rondo::full>)->Apply(shapes);
BENCHMARK(backward<Host<float>, rondo::causal>)->Apply(shapes);
BENCHMARK(forward<Host<rondo::bfloat16>, rondo::full>)->Apply(shapes);
BENCHMARK(backward<Host<rondo::bfloat16>, rondo::full>)->Apply(shapes);
BENCHMARK(forward<Host<double>, rondo::full>)->Apply(shapes);
BENCHMARK(forward<Portable<float>, rondo::causal>)->Apply(shapes);
BENCHMARK(backward<Portable<float>, rondo::causal>)->Apply(shapes);
