/// \file
/// A ring of thousands, simulated: RingAttention's own engine and schedule, with a communicator and a kernel that only keep
/// time. Includes Kokkos, unlike rondo/plan.hpp.
#pragma once

#include <rondo/engine.hpp>
#include <rondo/plan/hop.hpp>
#include <rondo/plan/simulator/timed_communicator.hpp>
#include <rondo/plan/simulator/timed_kernel.hpp>
#include <rondo/sharding/contiguous.hpp>
#include <rondo/sharding/striped.hpp>

#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

namespace rondo::plan {

/// What is simulated, besides sharding and mask.
struct RingModel {
  Attention attention;
  std::int64_t chunk = 4096;
  double forward_flops = 0;      ///< that a rank reaches, per second
  double backward_flops = 0;     ///< 0: as many
  double step_seconds = 0;       ///< what a step costs besides: launches, synchronising
  std::vector<Link> links;       ///< of rank r to rank r + 1; as many as there are ranks
  std::vector<double> slowness;  ///< what each rank takes of a rank's time, 1 where all is well; empty: all 1
};

/// The links of a machine's ranks in a ring: after the last rank of a node comes another node, unless there is one only.
inline std::vector<Link> links_of(const Machine& machine, int ranks) {
  std::vector<Link> links(static_cast<std::size_t>(ranks), machine.inside);
  if (ranks <= machine.ranks_per_node) return links;
  for (int rank = 0; rank < ranks; ++rank) {
    const bool last = (rank + 1) % machine.ranks_per_node == 0 || rank + 1 == ranks;
    if (last) links[static_cast<std::size_t>(rank)] = machine.between;
  }
  return links;
}

/// The time of a pass of one layer's attention.
struct PassTime {
  double seconds = 0;          ///< until the last rank is done
  double compute_seconds = 0;  ///< of a rank, on average
  double wait_seconds = 0;     ///< of a rank, on average
  double ideal_seconds = 0;    ///< all allowed pairs, shared evenly among ranks at full speed
  double efficiency() const { return seconds == 0 ? 1 : ideal_seconds / seconds; }
};

struct Simulation {
  PassTime forward;
  PassTime backward;
};

namespace simulated {

/// Rank 0's engine walks the schedule for all ranks.
template <StorageType T, Mask M>
Simulation simulate_as(const RingModel& model, const std::shared_ptr<const StepWork>& work, const M& mask) {
  std::vector<double> slowness = model.slowness;
  slowness.resize(model.links.size(), 1.0);
  const auto clocks = std::make_shared<Clocks>(model.links, std::move(slowness));
  const Attention& attention = model.attention;
  timed_communicator comm(clocks, static_cast<double>(attention.batch * attention.kv_heads * attention.head_dim));
  const double backward_flops = model.backward_flops > 0 ? model.backward_flops : model.forward_flops;
  const timed_kernel<T> kernel(clocks, work,
                               {.forward_pair_seconds = attention.pair_flops(false) / model.forward_flops,
                                .backward_pair_seconds = attention.pair_flops(true) / backward_flops,
                                .step_seconds = model.step_seconds,
                                .backward_tensors = attention.backward_tensors});
  const std::shared_ptr<const ShardTable> shards(work, &work->table());
  rondo::detail::Engine engine(comm, kernel, Shape{1, 1, 1, 1}, shards, shards, model.chunk);

  const auto tokens = static_cast<std::size_t>(engine.tokens());
  using A = accumulate_t<T>;
  const Kokkos::View<T****, Kokkos::LayoutRight, Kokkos::HostSpace> x("x", 1, tokens, 1, 1);
  const Kokkos::View<A***, Kokkos::LayoutRight, Kokkos::HostSpace> lse("lse", 1, 1, tokens);
  const Problem problem{unskipped<M>{mask}};
  const Kokkos::DefaultHostExecutionSpace exec;
  double pairs = 0;
  const ShardTable& table = work->table();
  const Run all{0, 1, static_cast<std::int32_t>(std::min<std::int64_t>(table.total_tokens(), INT32_MAX))};
  for (std::int64_t at = 0; at < table.total_tokens(); at += all.count) {
    for (std::int64_t key = 0; key < table.total_tokens(); key += all.count) {
      const auto run = [&](std::int64_t first) {
        return Run{first, 1,
                   static_cast<std::int32_t>(std::min<std::int64_t>(all.count, table.total_tokens() - first))};
      };
      pairs += static_cast<double>(mask.work(0, 0, run(at), run(key)));
    }
  }
  const auto finish = [&](double pair_seconds) {
    PassTime time{.seconds = clocks->latest(), .ideal_seconds = pairs * pair_seconds / clocks->ranks()};
    const std::vector<double>& now = clocks->now();
    const std::vector<double> computed = clocks->computed();
    for (std::size_t rank = 0; rank < now.size(); ++rank) {
      time.compute_seconds += computed[rank] / clocks->ranks();
      time.wait_seconds += (now[rank] - computed[rank]) / clocks->ranks();
    }
    clocks->reset();
    return time;
  };
  Simulation result;
  engine.forward(exec, problem, x, x, x, x, lse);
  result.forward = finish(attention.pair_flops(false) / model.forward_flops);
  engine.backward(exec, problem, x, x, x, x, lse, x, x, x, x);
  result.backward = finish(attention.pair_flops(true) / backward_flops);
  return result;
}

}  // namespace simulated

/// Forward and backward of one layer's attention, every piece sent to every rank. Kokkos has to be running.
/// \throws argument_error naming what makes no sense
template <Sharding S, Mask M>
Simulation simulate(const RingModel& model, const S& sharding, const M& mask) {
  const int ranks = static_cast<int>(model.links.size());
  if (ranks < 1) throw argument_error("simulation: there are no links, one a rank is needed");
  if (!(model.forward_flops > 0)) {
    throw argument_error(detail::message("simulation: a rank of ", model.forward_flops, " operations per second"));
  }
  if (!model.slowness.empty() && model.slowness.size() != model.links.size()) {
    throw argument_error(
        detail::message("simulation: the slowness of ", model.slowness.size(), " ranks is given, there are ", ranks));
  }
  if (model.chunk < 1) throw argument_error(detail::message("simulation: chunk is ", model.chunk));
  ShardTable table(sharding, ranks);
  if (table.tokens(0) < 1) throw argument_error("simulation: rank 0 holds no token, there are fewer tokens than ranks");
  constexpr bool evenly_placed = std::is_same_v<S, contiguous> || std::is_same_v<S, striped>;
  const bool alike = evenly_placed && table.total_tokens() % ranks == 0;
  const auto work = std::make_shared<const StepWork>(std::move(table), model.chunk, alike);
  if (model.attention.type.bytes == 2) return simulated::simulate_as<bfloat16>(model, work, mask);
  return simulated::simulate_as<float>(model, work, mask);
}

}  // namespace rondo::plan
