// The feed-forward layer on one core, with and without a gate. Arguments: tokens, dim, hidden.
//
// Useful work is three (gated) or two products of tokens x dim x hidden forward and twice that backward; the backward pass
// computes the hidden products again, which does not count.
#include <support/report.hpp>
#include <support/tensors.hpp>

#include <rondo/layers.hpp>

namespace {

template <class Activation>
struct Case {
  using Matrix = bench::Matrix<float>;

  explicit Case(const benchmark::State& state)
      : tokens(state.range(0)),
        dim(state.range(1)),
        hidden(state.range(2)),
        layer(dim, hidden),
        x(bench::random_matrix<float>(tokens, dim, 1)),
        grad_out(bench::random_matrix<float>(tokens, dim, 2)),
        up(bench::random_matrix<float>(dim, hidden, 3, 0.03f)),
        gate(bench::random_matrix<float>(dim, Activation::gated ? hidden : 0, 4, 0.03f)),
        down(bench::random_matrix<float>(hidden, dim, 5, 0.03f)),
        out("out", tokens, dim),
        grad_x("grad_x", tokens, dim),
        grad_up("grad_up", dim, hidden),
        grad_gate("grad_gate", dim, gate.extent(1)),
        grad_down("grad_down", hidden, dim) {}

  void forward() { layer.forward(x, {up, gate, down}, out); }
  void backward() { layer.backward(x, {up, gate, down}, grad_out, grad_x, {grad_up, grad_gate, grad_down}); }

  bench::Work work(bool backward) const {
    const double products = Activation::gated ? 3 : 2;
    const double weights = products * static_cast<double>(dim * hidden);
    const double activations = static_cast<double>(tokens * dim);
    // Forward reads x and the weights and writes out; backward also adds to the gradients of the weights.
    const double numbers = backward ? 3 * weights + 3 * activations : weights + 2 * activations;
    return {.flops = (backward ? 4 : 2) * weights * static_cast<double>(tokens), .bytes = numbers * sizeof(float)};
  }

  std::int64_t tokens, dim, hidden;
  rondo::feed_forward<float, Activation> layer;
  Matrix x, grad_out, up, gate, down, out, grad_x, grad_up, grad_gate, grad_down;
};

template <class Activation>
void forward(benchmark::State& state) {
  Case<Activation> one(state);
  one.forward();
  for (auto _ : state) one.forward();
  bench::report<float>(state, one.work(false));
}

template <class Activation>
void backward(benchmark::State& state) {
  Case<Activation> one(state);
  one.backward();
  for (auto _ : state) one.backward();
  bench::report<float>(state, one.work(true));
}

void shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"tokens", "dim", "hidden"})->UseRealTime()->Unit(benchmark::kMillisecond);
  benchmark->Args({512, 256, 704})->Args({4096, 512, 1408})->Args({4096, 1024, 2816});
}

}  // namespace

BENCHMARK(forward<rondo::swiglu>)->Apply(shapes);
BENCHMARK(backward<rondo::swiglu>)->Apply(shapes);
BENCHMARK(forward<rondo::gelu>)->Apply(shapes);
BENCHMARK(backward<rondo::gelu>)->Apply(shapes);
