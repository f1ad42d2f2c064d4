#include "measure.hpp"

#include <rondo/rondo.hpp>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

namespace planner {
namespace {

using Clock = std::chrono::steady_clock;
using Exec = Kokkos::DefaultHostExecutionSpace;

/// The least of some times of f().
template <class F>
double best_seconds(int times, const F& f) {
  double best = 1e9;
  for (int i = 0; i < times; ++i) {
    const auto begin = Clock::now();
    f();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

/// Useful operations per second of a rank alone: forward, full, 8 heads of 64.
template <class T>
double kernel_flops() {
  constexpr std::int64_t tokens = 2048;
  constexpr int heads = 8, dim = 64;
  double flops = 0;
  rondo::in_process_group<Exec>(1).run([&](auto& comm) {
    rondo::RingAttention attention{comm, rondo::Shape{.heads = heads, .head_dim = dim}, rondo::contiguous{tokens},
                                   rondo::default_kernel<T, Exec>{}};
    Kokkos::View<T****, Kokkos::LayoutRight, Kokkos::HostSpace> q("q", 1, tokens, heads, dim),
        out("out", 1, tokens, heads, dim);
    Kokkos::View<float***, Kokkos::LayoutRight, Kokkos::HostSpace> lse("lse", 1, heads, tokens);
    for (std::size_t i = 0; i < q.size(); ++i) q.data()[i] = T(static_cast<float>(i % 17) * 0.1f - 0.8f);
    const auto call = [&] { attention.forward(q, q, q, out, lse); };
    call();
    flops = 4.0 * tokens * tokens * heads * dim / best_seconds(5, call);
  });
  return flops;
}

/// Seconds of an exchange of so many bytes each way between two ranks, and of one of half as many.
rondo::plan::Link link_between_ranks() {
  constexpr std::size_t large = std::size_t{1} << 24;
  std::array<double, 2> seconds{};  // of 1 byte, of `large`
  rondo::in_process_group<Exec>(2).run([&](auto& comm) {
    using Bytes = typename rondo::Segment<Kokkos::HostSpace>::Bytes;
    const int peer = 1 - comm.rank();
    for (std::size_t which = 0; which < 2; ++which) {
      const std::size_t count = which == 0 ? 1 : large;
      const Bytes out("out", count), in("in", count);
      const int repeats = which == 0 ? 1000 : 8;
      const double best = best_seconds(5, [&] {
        for (int i = 0; i < repeats; ++i) {
          const rondo::Segment<Kokkos::HostSpace> segments[] = {{rondo::Direction::send, peer, out},
                                                                {rondo::Direction::receive, peer, in}};
          comm.exchange(comm.execution_instance(), segments).wait();
        }
      });
      if (comm.rank() == 0) seconds[which] = best / repeats;
    }
  });
  return {static_cast<double>(large) / std::max(1e-9, seconds[1] - seconds[0]), seconds[0]};
}

}  // namespace

rondo::plan::Machine measure_machine() {
  const Kokkos::ScopeGuard kokkos(Kokkos::InitializationSettings().set_num_threads(1).set_disable_warnings(true));
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  rondo::plan::Machine machine;
  machine.name = "this machine, a rank a core";
  machine.flops = kernel_flops<rondo::bfloat16>();
  machine.flops_float = kernel_flops<float>();
  machine.memory_bytes =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE)) / cores;
  machine.ranks_per_node = cores;
  machine.inside = link_between_ranks();
  machine.between = machine.inside;
  machine.source = "measured: attention forward, full, 2048 tokens, 8 heads of 64; messages of 1 byte and of 16 MiB";
  return machine;
}

}  // namespace planner
