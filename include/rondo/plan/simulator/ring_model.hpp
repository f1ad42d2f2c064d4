/// \file
/// What a simulation is given, and what it finds.
#pragma once

#include <rondo/plan/hop.hpp>

#include <cstdint>
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

  /// Of a query and a key over all heads.
  double pair_seconds(bool backward) const {
    return attention.pair_flops(backward) / (backward && backward_flops > 0 ? backward_flops : forward_flops);
  }
};

/// The time of a pass of one layer's attention.
struct PassTime {
  double seconds = 0;          ///< until the last rank is done
  double compute_seconds = 0;  ///< of a rank, on average
  double wait_seconds = 0;     ///< of a rank, on average
  double bytes_sent = 0;       ///< by all ranks
  double ideal_seconds = 0;    ///< all allowed pairs, shared evenly among ranks at full speed
  double efficiency() const { return seconds == 0 ? 1 : ideal_seconds / seconds; }
};

struct Simulation {
  PassTime forward;
  PassTime backward;
};

}  // namespace rondo::plan
