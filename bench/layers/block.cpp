// A whole transformer block: norm, attention, norm, feed-forward, with the projections round them, over a ring of ranks of
// one thread each. Striped, causal, 8 heads of 64, hidden width 1408. Arguments: tokens in all, ranks.
//
// Useful work is 2 operations a token and weight forward and 4 backward, and attention's. `attention` is the part of the
// work that is attention's.
#include <layers/block.hpp>
#include <support/report.hpp>
#include <support/timed.hpp>

namespace {

constexpr bench::BlockShape shape{.heads = 8, .head_dim = 64, .hidden = 1408};

void block(benchmark::State& state, bool backward) {
  const std::int64_t total = state.range(0);
  const int ranks = static_cast<int>(state.range(1)), calls = 2;
  for (auto _ : state) {
    double seconds = 0;
    rondo::in_process_group(ranks).run([&](auto& comm) {
      bench::Block one(comm, shape, total);
      one.forward();
      if (backward) one.backward();
      const double mine = bench::timed(comm, [&] {
        for (int call = 0; call < calls; ++call) backward ? one.backward() : one.forward();
      });
      if (comm.rank() == 0) seconds = mine / calls;
    });
    state.SetIterationTime(seconds);
  }
  const auto tokens = static_cast<double>(total);
  const double attention = (backward ? 2.5 : 1) * bench::attention_flops(true, tokens, shape.heads, shape.head_dim);
  const double flops = (backward ? 4 : 2) * tokens * shape.weights() + attention;
  // The weights of every rank and x and out; backward also the gradients of all of them, those of weights read and written.
  const double activations = tokens * static_cast<double>(shape.dim());
  const double numbers =
      backward ? 3 * shape.weights() * ranks + 3 * activations : shape.weights() * ranks + 2 * activations;
  bench::report<float>(state, {.flops = flops, .bytes = numbers * sizeof(float), .cores = ranks});
  state.counters["attention"] = attention / flops;
}

void forward(benchmark::State& state) { block(state, false); }
void backward(benchmark::State& state) { block(state, true); }

void shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"tokens", "ranks"})->UseManualTime()->Unit(benchmark::kMillisecond);
  for (const std::int64_t tokens : {1024, 4096, 8192}) benchmark->Args({tokens, 1})->Args({tokens, 2});
}

}  // namespace

BENCHMARK(forward)->Apply(shapes);
BENCHMARK(backward)->Apply(shapes);
