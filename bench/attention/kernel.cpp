// One kernel on one piece: forward and backward, pack included, as useful GFLOP/s and as a share of the FMA peak.
// Arguments: tokens, head_dim, threads.
#include <support/report.hpp>
#include <support/tensors.hpp>

#include <rondo/kernel/host/host.hpp>
#include <rondo/kernel/portable/portable.hpp>

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
        shape(rondo::Shape{1, heads, heads, static_cast<int>(state.range(1))}.checked()),
        threads(static_cast<int>(state.range(2))),
        exec(instance(threads)),
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
    if constexpr (rondo::FinishesRows<Kernel>) {
      kernel.fold_last(exec, problem, shape, q, all, wire, all, state, {true, true}, out, lse);
    } else {
      kernel.fold(exec, problem, shape, q, all, wire, all, state, {true, true});
      kernel.finish(exec, problem, state, out, lse);
    }
  }
  void backward() {
    kernel.delta(exec, out, grad_out, delta);
    kernel.pack(exec, rondo::Pass::backward, shape, k, v, wire);
    kernel.fold_gradient(exec, problem, shape, q, grad_out, lse, delta, all, wire, all, grad_q, grad_k, grad_v);
  }

  bench::Work work(bool backward) const {
    const double forward_flops =
        bench::attention_flops(std::is_same_v<Mask, rondo::causal>, static_cast<double>(tokens), heads, shape.head_dim);
    // Forward: q, k, v, out and lse. Backward: those, grad_out, and three gradients in the accumulate type.
    const double given = (backward ? 5.0 : 4.0) * static_cast<double>(q.size() * sizeof(T));
    const double accumulated = static_cast<double>((lse.size() + (backward ? 3 * q.size() : 0)) * sizeof(A));
    return {.flops = (backward ? 2.5 : 1) * forward_flops, .bytes = given + accumulated, .cores = threads};
  }

  std::int64_t tokens;
  rondo::Shape shape;
  int threads;
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
  bench::report<typename Kernel::accumulate_type>(state, one.work(false));
}

template <class Kernel, class Mask>
void backward(benchmark::State& state) {
  Case<Kernel, Mask> one(state);
  one.forward();
  one.backward();
  for (auto _ : state) one.backward();
  bench::report<typename Kernel::accumulate_type>(state, one.work(true));
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
BENCHMARK(forward<Host<rondo::float16>, rondo::full>)->Apply(shapes);
BENCHMARK(backward<Host<rondo::float16>, rondo::full>)->Apply(shapes);
BENCHMARK(forward<Host<double>, rondo::full>)->Apply(shapes);
BENCHMARK(forward<Portable<float>, rondo::causal>)->Apply(shapes);
BENCHMARK(backward<Portable<float>, rondo::causal>)->Apply(shapes);
