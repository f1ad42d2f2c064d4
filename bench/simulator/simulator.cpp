// Simulated rings beside real ones: RingAttention in this process, behind links (rondo::paced), with a kernel that sleeps
// its time, on 2, 4 and 8 ranks; and with the host's kernel on 2 ranks, whose speed is taken from a rank alone.
//   OMP_PROC_BIND=false build/release/bin/bench_simulator
// Prints seconds measured and predicted. The last line says how far apart they are at most.
#include "sleeping_kernel.hpp"

#include <support/tensors.hpp>

#include <rondo/comm/paced.hpp>
#include <rondo/plan/simulator.hpp>
#include <rondo/rondo.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace {

constexpr int heads = 2, dim = 16;
double farthest = 0;

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// The least of a few times of forward and of backward on this communicator's ranks.
template <class Comm, class Sharding, class Kernel, class P>
std::array<double, 2> seconds_of(Comm& comm, const Sharding& sharding, const Kernel& kernel, std::int64_t chunk,
                                 int head_count, int head_dim, int times, const P& problem) {
  rondo::RingAttention attention{comm, rondo::Shape{.heads = head_count, .head_dim = head_dim}, sharding, kernel,
                                 rondo::Options{.chunk = chunk, .check_agreement = false}};
  const auto random = [&](int seed) {
    return bench::random_tensor<float>(attention.tokens(), head_count, head_dim, static_cast<std::uint32_t>(seed));
  };
  const auto q = random(1), k = random(2), v = random(3), grad = random(4), out = random(5);
  const auto grad_q = random(6), grad_k = random(7), grad_v = random(8);
  const bench::Tensor3<float> lse("lse", 1, head_count, attention.tokens());
  std::array<double, 2> best{1e9, 1e9};
  for (int i = 0; i < times; ++i) {
    comm.barrier();
    auto begin = std::chrono::steady_clock::now();
    attention.forward(q, k, v, out, lse, problem);
    comm.barrier();
    best[0] = std::min(best[0], seconds_since(begin));
    begin = std::chrono::steady_clock::now();
    attention.backward(q, k, v, out, lse, grad, grad_q, grad_k, grad_v, problem);
    comm.barrier();
    best[1] = std::min(best[1], seconds_since(begin));
  }
  return best;
}

void compare(const std::string& what, const std::array<double, 2>& real, const rondo::plan::Simulation& simulated) {
  for (const int pass : {0, 1}) {
    const double measured = real[static_cast<std::size_t>(pass)];
    const double predicted = pass == 0 ? simulated.forward.seconds : simulated.backward.seconds;
    farthest = std::max(farthest, std::abs(predicted / measured - 1));
    std::printf("%-52s %-8s measured %8.4f s  predicted %8.4f s  %+5.1f %%\n", what.c_str(),
                pass == 0 ? "forward" : "backward", measured, predicted, 100 * (predicted / measured - 1));
    std::fflush(stdout);
  }
}

/// `balance`: how many times a step's mean computation the passage of its message takes.
template <class Sharding, class Mask>
void sleeping(const std::string& name, int ranks, std::int64_t tokens, std::int64_t chunk, double balance,
              double slowest, const Sharding& sharding, const Mask& mask) {
  const double forward = 0.02 / (static_cast<double>(tokens) * static_cast<double>(chunk));  // a full step takes 20 ms
  const double backward = 2.5 * forward;
  const double hop_bytes = 2.0 * sizeof(float) * heads * dim * static_cast<double>(chunk);
  const rondo::Link link{.latency = 0.001, .bytes_per_second = hop_bytes / (0.02 * balance), .slice_bytes = 2048};
  std::array<double, 2> real{};
  rondo::in_process_group<Kokkos::DefaultHostExecutionSpace>(ranks).run([&](auto& comm) {
    rondo::paced paced(comm, link);
    const double factor = comm.rank() == ranks / 2 ? slowest : 1;
    const auto mine = seconds_of(paced, sharding, bench::sleeping_kernel(forward * factor, backward * factor), chunk,
                                 heads, dim, 2, rondo::Problem{mask});
    if (comm.rank() == 0) real = mine;
  });
  rondo::plan::RingModel model;
  model.attention = {1, heads, heads, dim, rondo::plan::precision("float"), 2};
  model.chunk = chunk;
  model.forward_flops = model.attention.pair_flops(false) / forward;
  model.backward_flops = model.attention.pair_flops(true) / backward;
  model.links.assign(static_cast<std::size_t>(ranks), {link.bytes_per_second, link.latency});
  model.slowness.assign(static_cast<std::size_t>(ranks), 1.0);
  model.slowness[static_cast<std::size_t>(ranks / 2)] = slowest;
  compare(std::to_string(ranks) + " ranks that sleep, " + name, real, rondo::plan::simulate(model, sharding, mask));
}

/// The host's kernel: what a rank alone takes for a pair predicts two ranks.
template <class Mask>
void computing(const std::string& name, const Mask& mask) {
  constexpr std::int64_t tokens = 4096, chunk = 1024;
  using Kernel = rondo::default_kernel<float, Kokkos::DefaultHostExecutionSpace>;
  const Kernel kernel;
  const rondo::Problem problem{mask};
  std::array<double, 2> alone{}, two{};
  using Group = rondo::in_process_group<Kokkos::DefaultHostExecutionSpace>;
  Group(1).run([&](auto& comm) { alone = seconds_of(comm, rondo::striped{tokens}, kernel, chunk, 4, 64, 5, problem); });
  Group(2).run([&](auto& comm) {
    const auto mine = seconds_of(comm, rondo::striped{2 * tokens}, kernel, chunk, 4, 64, 5, problem);
    if (comm.rank() == 0) two = mine;
  });
  const rondo::Run all{0, 1, tokens};
  const auto pairs = static_cast<double>(mask.work(0, 0, all, all));
  rondo::plan::RingModel model;
  model.attention = {1, 4, 4, 64, rondo::plan::precision("float"), 3};
  model.chunk = chunk;
  model.forward_flops = model.attention.pair_flops(false) * pairs / alone[0];
  model.backward_flops = model.attention.pair_flops(true) * pairs / alone[1];
  model.links.assign(2, {5e9, 5e-6});
  compare("2 ranks that compute, " + name, two, rondo::plan::simulate(model, rondo::striped{2 * tokens}, mask));
}

}  // namespace

int main(int argc, char** argv) {
  const Kokkos::ScopeGuard kokkos(argc, argv);
  for (const int ranks : {2, 4, 8}) {
    const std::int64_t c = 1536, total = c * ranks;
    sleeping("full, messages hidden", ranks, c, c / 2, 0.5, 1, rondo::contiguous{total}, rondo::full{});
    sleeping("full, messages longer than steps", ranks, c, c / 2, 1.6, 1, rondo::contiguous{total}, rondo::full{});
    sleeping("causal, striped", ranks, c, c / 2, 0.3, 1, rondo::striped{total}, rondo::causal{});
    sleeping("causal, contiguous", ranks, c, c / 2, 0.3, 1, rondo::contiguous{total}, rondo::causal{});
    sleeping("window of a shard, messages longer", ranks, c, c / 2, 1.6, 1, rondo::contiguous{total},
             rondo::window{c - 1, 0});
    sleeping("window both ways, contiguous", ranks, c, c / 2, 0.5, 1, rondo::contiguous{total},
             rondo::window{c / 2, c / 2});
    sleeping("full, one rank 1.5 times as slow", ranks, c, c / 2, 0.5, 1.5, rondo::contiguous{total}, rondo::full{});
  }
  computing("full", rondo::full{});
  computing("causal", rondo::causal{});
  std::printf("farthest apart: %.1f %%\n", 100 * farthest);
}
