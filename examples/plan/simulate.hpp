/// \file
/// Rings from 8 ranks to tens of thousands, simulated.
#pragma once

#include <rondo/plan/forecast.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>

namespace planner {

struct SimulationOptions {
  std::int64_t tokens_per_rank = 8192;
  int most_ranks = 65'536;
  double slow_rank = 1.1;  ///< what the one slow rank takes of the others' time
};

/// Prints and returns the efficiency of the job's attention over more and more ranks: all links as inside a node; with
/// nodes; and with nodes and one slow rank.
nlohmann::json simulate_rings(const rondo::plan::Job& job, const SimulationOptions& options);

}  // namespace planner
