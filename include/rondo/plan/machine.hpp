/// \file
/// Machines: what a rank computes, holds and sends, with the sources of the figures.
#pragma once

#include <rondo/plan/model.hpp>

#include <cmath>
#include <string>
#include <vector>

namespace rondo::plan {

/// One direction of what joins a rank to the next.
struct Link {
  double bytes_per_second = INFINITY;
  double latency = 0;  ///< seconds before the first byte arrives
  double seconds(double bytes) const { return bytes == 0 ? 0 : latency + bytes / bytes_per_second; }
};

/// One rank, and how ranks are joined: `inside` a node, and `between` the last rank of a node and the first of the next.
struct Machine {
  std::string name{};
  double flops = 0;        ///< peak of dense bfloat16 matrix products, per second
  double flops_float = 0;  ///< peak of float
  double memory_bytes = 0;
  int ranks_per_node = 1;
  Link inside;
  Link between;
  std::string source{};
};

/// \throws argument_error naming what makes no sense
inline const Machine& checked(const Machine& machine) {
  const auto positive = [&](const char* what, double value) {
    if (value > 0) return;
    throw argument_error(detail::message("machine ", machine.name, ": ", what, " is ", value, ", it must be positive"));
  };
  positive("flops", machine.flops);
  positive("memory", machine.memory_bytes);
  positive("ranks per node", machine.ranks_per_node);
  for (const Link* link : {&machine.inside, &machine.between}) {
    positive("bandwidth", link->bytes_per_second);
    if (!(link->latency >= 0)) {
      throw argument_error(
          detail::message("machine ", machine.name, ": latency is ", link->latency, " s, it must be 0 or more"));
    }
  }
  return machine;
}

/// Makers' figures; bandwidths are of one direction. Latencies are round figures of our own for a message between devices,
/// 5 µs inside a node and 10 µs between nodes, 1 µs on a TPU's torus: measure where they matter.
inline const std::vector<Machine>& machines() {
  static constexpr double GB = 1e9, GiB = 1024.0 * 1024 * 1024, T = 1e12, us = 1e-6;
  static const std::vector<Machine> table = {
      {"A100",
       312 * T,
       19.5 * T,
       80 * GiB,
       8,
       {300 * GB, 5 * us},
       {25 * GB, 10 * us},
       "NVIDIA A100 80GB SXM data sheet: 312 TFLOP/s bf16, NVLink 600 GB/s in both directions; HDR InfiniBand, 200 "
       "Gbit/s a GPU"},
      {"H100",
       989 * T,
       67 * T,
       80 * GiB,
       8,
       {450 * GB, 5 * us},
       {50 * GB, 10 * us},
       "NVIDIA H100 SXM data sheet: 1979 TFLOP/s bf16 with sparsity, NVLink 900 GB/s in both directions; NDR "
       "InfiniBand, 400 Gbit/s a GPU"},
      {"H200",
       989 * T,
       67 * T,
       141 * GB,
       8,
       {450 * GB, 5 * us},
       {50 * GB, 10 * us},
       "NVIDIA H200 SXM data sheet: an H100 with 141 GB; NDR InfiniBand, 400 Gbit/s a GPU"},
      {"TPUv4",
       275 * T,
       275 * T / 4,
       32 * GiB,
       4,
       {268 * GB, 1 * us},
       {268 * GB, 1 * us},
       "Google Cloud, TPU v4: 275 TFLOP/s bf16, 32 GiB; interconnect as arXiv 2310.01889 counts it, all links of the "
       "torus together. Float: a quarter, our assumption"},
      {"TPUv5e",
       197 * T,
       197 * T / 4,
       16 * GiB,
       8,
       {200 * GB, 1 * us},
       {200 * GB, 1 * us},
       "Google Cloud, TPU v5e: 197 TFLOP/s bf16, 16 GB, interconnect 400 GB/s in both directions, all links together. "
       "Float: a quarter, our assumption"},
      {"MI250X",
       191.5 * T,
       47.9 * T,
       64 * GiB,
       8,
       {50 * GB, 5 * us},
       {25 * GB, 10 * us},
       "AMD Instinct MI250X data sheet, one of its two dies: half of 383 TFLOP/s bf16, 95.7 TFLOP/s float matrix and "
       "128 GB; one Infinity Fabric link of 50 GB/s; Slingshot, 200 Gbit/s"},
      {"MI300X",
       1307.4 * T,
       163.4 * T,
       192 * GiB,
       8,
       {64 * GB, 5 * us},
       {50 * GB, 10 * us},
       "AMD Instinct MI300X data sheet: 1307.4 TFLOP/s bf16, 163.4 float, one Infinity Fabric link of 128 GB/s in both "
       "directions; 400 Gbit/s a GPU"},
      {"EPYC-9654",
       14.7 * T,
       7.4 * T,
       384 * GiB,
       2,
       {48 * GB, 1 * us},
       {25 * GB, 3 * us},
       "One socket of 96 Zen 4 cores at the base clock of 2.4 GHz, 32 operations a cycle in float, 64 in bf16 pairs; "
       "three links of 16 GB/s and more between sockets; HDR InfiniBand, 200 Gbit/s"},
      {"Xeon-8480",
       14.3 * T,
       7.2 * T,
       256 * GiB,
       2,
       {48 * GB, 1 * us},
       {25 * GB, 3 * us},
       "One socket of 56 Sapphire Rapids cores at the base clock of 2.0 GHz, 64 operations a cycle in float, 128 in "
       "bf16 pairs (its AMX tiles do 16 times as many); UPI, 16 GT/s; HDR InfiniBand, 200 "
       "Gbit/s"}};
  return table;
}

/// \throws argument_error listing the names there are
inline Machine machine(const std::string& name) { return detail::named(machines(), name, "machine"); }

}  // namespace rondo::plan
