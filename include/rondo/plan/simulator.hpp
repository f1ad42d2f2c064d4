/// \file
/// A ring of thousands, simulated: RingAttention's own engine and schedule, with a communicator and a kernel that only keep
/// time. Includes Kokkos, unlike rondo/plan.hpp.
#pragma once

#include <rondo/engine.hpp>
#include <rondo/plan/simulator/ring_model.hpp>
#include <rondo/plan/simulator/skipping.hpp>
#include <rondo/plan/simulator/timed_communicator.hpp>
#include <rondo/plan/simulator/timed_kernel.hpp>
#include <rondo/sharding/contiguous.hpp>
#include <rondo/sharding/striped.hpp>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

namespace rondo::plan {

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

namespace simulated {

/// Pairs that a mask allows in all.
template <Mask M>
double pairs_of(const M& mask, std::int64_t tokens) {
  constexpr std::int64_t most = INT32_MAX;  // of a run
  const auto run = [&](std::int64_t first) {
    return Run{first, 1, static_cast<std::int32_t>(std::min(most, tokens - first))};
  };
  double pairs = 0;
  for (std::int64_t at = 0; at < tokens; at += most) {
    for (std::int64_t key = 0; key < tokens; key += most) {
      pairs += static_cast<double>(mask.work(0, 0, run(at), run(key)));
    }
  }
  return pairs;
}

/// Rank 0's engine walks the schedule for all ranks.
template <StorageType T, Mask M>
Simulation simulate_as(const RingModel& model, const std::shared_ptr<const StepWork>& work, const M& mask,
                       double pairs) {
  std::vector<double> slowness = model.slowness;
  slowness.resize(model.links.size(), 1.0);
  const auto clocks = std::make_shared<Clocks>(model.links, std::move(slowness));
  const Attention& attention = model.attention;
  timed_communicator comm(clocks, static_cast<double>(attention.batch * attention.kv_heads * attention.head_dim));
  const timed_kernel<T> kernel(clocks, work,
                               {.forward_pair_seconds = model.pair_seconds(false),
                                .backward_pair_seconds = model.pair_seconds(true),
                                .step_seconds = model.step_seconds,
                                .backward_tensors = attention.backward_tensors});
  const std::shared_ptr<const ShardTable> shards(work, &work->table());
  rondo::detail::Engine engine(comm, kernel, Shape{1, 1, 1, 1}.checked(), shards, shards, model.chunk);

  const auto tokens = static_cast<std::size_t>(engine.tokens());
  using A = accumulate_t<T>;
  const Kokkos::View<T****, Kokkos::LayoutRight, Kokkos::HostSpace> x("x", 1, tokens, 1, 1);
  const Kokkos::View<A***, Kokkos::LayoutRight, Kokkos::HostSpace> lse("lse", 1, 1, tokens);
  const Problem problem{unskipped<M>{mask}};
  const Kokkos::DefaultHostExecutionSpace exec;
  const auto finish = [&](double pair_seconds) {
    PassTime time{.seconds = clocks->latest(),
                  .bytes_sent = clocks->sent(),
                  .ideal_seconds = pairs * pair_seconds / clocks->ranks()};
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
  result.forward = finish(model.pair_seconds(false));
  engine.backward(exec, problem, x, x, x, x, lse, x, x, x, x);
  result.backward = finish(model.pair_seconds(true));
  return result;
}

}  // namespace simulated

/// Forward and backward of one layer's attention. What a mask leaves out is not sent, as in the real ring; with
/// unskipped<Mask> every piece is sent to every rank. Kokkos has to be running.
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
  const double pairs = simulated::pairs_of(mask, table.total_tokens());
  if constexpr (!sends_all<M>) {
    const simulated::EverybodysNeeds needs(table, rondo::detail::piece_tokens(table, model.chunk), mask,
                                           alike && by_distance<M>);
    if (!needs.all()) {
      simulated::SkippingWalk walk(model, table, needs, mask);
      Simulation result{walk.pass(false), walk.pass(true)};
      result.forward.ideal_seconds = pairs * model.pair_seconds(false) / ranks;
      result.backward.ideal_seconds = pairs * model.pair_seconds(true) / ranks;
      return result;
    }
  }
  const auto work = std::make_shared<const StepWork>(std::move(table), model.chunk, alike);
  if (model.attention.type.bytes == 2) return simulated::simulate_as<bfloat16>(model, work, mask, pairs);
  return simulated::simulate_as<float>(model, work, mask, pairs);
}

}  // namespace rondo::plan
