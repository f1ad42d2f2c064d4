#include "simulate.hpp"

#include <rondo/plan/simulator.hpp>

#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

namespace planner {
namespace {

using nlohmann::json;
namespace plan = rondo::plan;

/// Calls run(sharding) with the one that the job means.
template <class Run>
auto with_sharding(const plan::Job& job, std::int64_t tokens, const Run& run) {
  return job.sight.even ? run(rondo::striped{tokens}) : run(rondo::contiguous{tokens});
}

plan::Simulation simulate(const plan::Job& job, const plan::RingModel& model, std::int64_t tokens) {
  const plan::Sight& sight = job.sight;
  return with_sharding(job, tokens, [&](const auto& sharding) {
    switch (sight.kind) {
      case plan::Sight::Kind::full:
        return plan::simulate(model, sharding, rondo::full{});
      case plan::Sight::Kind::causal:
        return plan::simulate(model, sharding, rondo::causal{});
      case plan::Sight::Kind::window:
        return plan::simulate(model, sharding, rondo::window{sight.width - 1, 0});
      case plan::Sight::Kind::document:
        break;
    }
    throw rondo::argument_error("--simulate: documents are not simulated; full, causal and window:TOKENS are");
  });
}

json point(int ranks, const plan::Simulation& simulation) {
  const auto pass = [](const plan::PassTime& time) {
    return json{{"seconds", time.seconds},
                {"compute_seconds", time.compute_seconds},
                {"wait_seconds", time.wait_seconds},
                {"efficiency", time.efficiency()}};
  };
  return {{"ranks", ranks}, {"forward", pass(simulation.forward)}, {"backward", pass(simulation.backward)}};
}

}  // namespace

json simulate_rings(const plan::Job& job, const SimulationOptions& options) {
  const Kokkos::ScopeGuard kokkos(Kokkos::InitializationSettings().set_num_threads(1).set_disable_warnings(true));
  plan::RingModel model;
  model.attention = job.setting.attention();
  model.chunk = job.setting.chunk;
  model.forward_flops = job.efficiency * job.setting.type.peak(job.machine);
  plan::Machine flat = job.machine;
  flat.between = flat.inside;
  struct Line {
    std::string name;
    const plan::Machine& machine;
    double slowest;
  };
  char slow[64];
  std::snprintf(slow, sizeof slow, "nodes of %d, one rank takes %.3g times as long", job.machine.ranks_per_node,
                options.slow_rank);
  const Line lines[] = {{"all links as inside a node", flat, 1},
                        {"nodes of " + std::to_string(job.machine.ranks_per_node), job.machine, 1},
                        {slow, job.machine, options.slow_rank}};
  std::vector<int> sizes;
  for (int ranks = 8; ranks < options.most_ranks; ranks *= 8) sizes.push_back(ranks);
  sizes.push_back(options.most_ranks);
  std::printf("attention of a layer of %s on %s, %lld tokens a rank, chunk %lld: efficiency forward, backward\n",
              job.setting.model.name.c_str(), job.machine.name.c_str(), static_cast<long long>(options.tokens_per_rank),
              static_cast<long long>(job.setting.chunk));
  json result = {{"tokens_per_rank", options.tokens_per_rank},
                 {"chunk", job.setting.chunk},
                 {"model", job.setting.model.name},
                 {"machine", job.machine.name},
                 {"lines", json::array()}};
  for (const Line& line : lines) {
    json points = json::array();
    for (const int ranks : sizes) {
      const auto begin = std::chrono::steady_clock::now();
      model.links = plan::links_of(line.machine, ranks);
      model.slowness.assign(static_cast<std::size_t>(ranks), 1.0);
      model.slowness[static_cast<std::size_t>(ranks / 2)] = line.slowest;
      const plan::Simulation simulation = simulate(job, model, options.tokens_per_rank * ranks);
      std::printf("  %6d ranks, %-48s %5.1f %%  %5.1f %%  (simulated in %.2f s)\n", ranks, line.name.c_str(),
                  100 * simulation.forward.efficiency(), 100 * simulation.backward.efficiency(),
                  std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
      std::fflush(stdout);
      points.push_back(point(ranks, simulation));
    }
    result["lines"].push_back({{"name", line.name}, {"points", points}});
  }
  return result;
}

}  // namespace planner
