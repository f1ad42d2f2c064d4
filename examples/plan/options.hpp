/// \file
/// The command line.
#pragma once

#include "simulate.hpp"

#include <rondo/plan.hpp>

#include <CLI/CLI.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace planner {

/// What a user can say. What is left out of a model or a machine is the named one's.
struct Options {
  std::string model = "7B";
  std::optional<std::int64_t> dim, ffn, vocabulary;
  std::optional<int> heads, kv_heads, layers;
  std::string machine = "A100";
  std::optional<double> teraflops, memory, bandwidth, latency, between_bandwidth, between_latency;
  std::optional<int> ranks_per_node;
  rondo::plan::Job job;
  std::string type = "bfloat16";
  std::string mask = "causal";
  std::string sharding = "even";
  std::string recompute = "layers";
  bool published = false;
  bool measure = false;
  bool simulate = false;
  SimulationOptions simulation;
  std::filesystem::path json;
  std::filesystem::path plot;
};

inline void declare(CLI::App& app, Options& options) {
  rondo::plan::Job& job = options.job;
  job.setting.ranks = 8;
  app.option_defaults()->always_capture_default();
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_option("--model", options.model, "One of the models known by name; the options below change it")
      ->group("Model");
  app.add_option("--dim", options.dim, "Width")->group("Model");
  app.add_option("--heads", options.heads, "Query heads")->group("Model");
  app.add_option("--kv-heads", options.kv_heads, "Heads of keys and values")->group("Model");
  app.add_option("--layers", options.layers, "Layers")->group("Model");
  app.add_option("--ffn", options.ffn, "Width of the feed-forward")->group("Model");
  app.add_option("--vocabulary", options.vocabulary, "Words")->group("Model");
  app.add_option("--type", options.type, "float, bfloat16 or float16")->group("Model");
  app.add_option("--machine", options.machine, "One of the machines known by name; the options below change it")
      ->group("Machine");
  app.add_option("--tflops", options.teraflops, "Peak of a rank in that type, TFLOP/s")->group("Machine");
  app.add_option("--memory", options.memory, "GiB of a rank")->group("Machine");
  app.add_option("--bandwidth", options.bandwidth, "GB/s from a rank to the next inside a node")->group("Machine");
  app.add_option("--latency", options.latency, "Microseconds of that")->group("Machine");
  app.add_option("--between-bandwidth", options.between_bandwidth, "GB/s between nodes")->group("Machine");
  app.add_option("--between-latency", options.between_latency, "Microseconds of that")->group("Machine");
  app.add_option("--ranks-per-node", options.ranks_per_node, "Ranks of a node")->group("Machine");
  app.add_option("--efficiency", job.efficiency, "Share of the peak that kernels reach")->group("Machine");
  app.add_option("--memory-share", job.memory_share, "Share of the memory to plan with")->group("Machine");
  app.add_option("--ranks", job.setting.ranks, "Ranks of the ring")->group("Run");
  app.add_option("--context", job.context, "Tokens of a sequence; 0: as many as fit")->group("Run");
  app.add_option("--batch", job.setting.batch, "Sequences at a time")->group("Run");
  app.add_option("--chunk", job.setting.chunk, "Tokens of a piece")->group("Run");
  app.add_option("--mask", options.mask, "full, causal, window:TOKENS or document:TOKENS")->group("Run");
  app.add_option("--sharding", options.sharding, "even (striped, zigzag) or contiguous")->group("Run");
  app.add_option("--recompute", options.recompute, "In the backward pass: layers, all-but-attention or nothing")
      ->group("Run");
  app.add_option("--parameter-bytes", job.setting.parameter_bytes,
                 "Weights, gradients and optimiser, bytes a parameter, spread over the ranks")
      ->group("Run");
  app.add_option("--short-context", job.short_context, "Context that costs are compared with")->group("Run");
  app.add_flag("--published", options.published, "The papers' figures beside those of the formulas");
  app.add_flag("--measure", options.measure, "Fit this machine by a short benchmark and plan for it");
  app.add_flag("--simulate", options.simulate, "Simulate attention on 8 ranks and more, step by step");
  app.add_option("--tokens-per-rank", options.simulation.tokens_per_rank, "Of the simulation")->group("Simulation");
  app.add_option("--most-ranks", options.simulation.most_ranks, "Of the simulation")->group("Simulation");
  app.add_option("--slow-rank", options.simulation.slow_rank, "What one slow rank takes of the others' time")
      ->group("Simulation");
  app.add_option("--json", options.json, "Write everything to this file too");
  app.add_option("--plot", options.plot, "Draw it as a PNG");
}

/// "window:4096". \throws rondo::argument_error for any other text
inline rondo::plan::Sight sight_of(const std::string& mask, const std::string& sharding) {
  using Kind = rondo::plan::Sight::Kind;
  if (sharding != "even" && sharding != "contiguous") {
    throw rondo::argument_error("--sharding is " + sharding + ", it must be even or contiguous");
  }
  const bool even = sharding == "even";
  if (mask == "full") return {Kind::full, 0, even};
  if (mask == "causal") return {Kind::causal, 0, even};
  const auto colon = mask.find(':');
  const std::string kind = mask.substr(0, colon);
  const std::string width = colon == std::string::npos ? "" : mask.substr(colon + 1);
  const bool number = !width.empty() && width.size() < 16 && width.find_first_not_of("0123456789") == std::string::npos;
  if (number && (kind == "window" || kind == "document")) {
    return {kind == "window" ? Kind::window : Kind::document, std::stoll(width), even};
  }
  throw rondo::argument_error("--mask is " + mask + ", it must be full, causal, window:TOKENS or document:TOKENS");
}

/// The job that was asked for, on the machine that was named or, if there is one, on the one that was measured.
inline rondo::plan::Job job_of(const Options& options, const std::optional<rondo::plan::Machine>& measured) {
  namespace plan = rondo::plan;
  plan::Job job = options.job;
  plan::Model& model = job.setting.model = plan::model(options.model);
  if (options.dim) model.dim = *options.dim;
  if (options.heads) model.heads = *options.heads;
  if (options.kv_heads) model.kv_heads = *options.kv_heads;
  if (options.heads && !options.kv_heads) model.kv_heads = 0;
  if (options.layers) model.layers = *options.layers;
  if (options.ffn) model.ffn = *options.ffn;
  if (options.vocabulary) model.vocabulary = *options.vocabulary;
  if (options.dim || options.heads || options.kv_heads || options.layers || options.ffn || options.vocabulary) {
    model.name += ", changed";
  }
  plan::Machine& machine = job.machine = measured ? *measured : plan::machine(options.machine);
  if (options.teraflops) machine.flops = machine.flops_float = *options.teraflops * 1e12;
  if (options.memory) machine.memory_bytes = *options.memory * 0x1p30;
  if (options.bandwidth) machine.inside.bytes_per_second = *options.bandwidth * 1e9;
  if (options.latency) machine.inside.latency = *options.latency * 1e-6;
  if (options.between_bandwidth) machine.between.bytes_per_second = *options.between_bandwidth * 1e9;
  if (options.between_latency) machine.between.latency = *options.between_latency * 1e-6;
  if (options.ranks_per_node) machine.ranks_per_node = *options.ranks_per_node;
  job.setting.type = plan::precision(options.type);
  job.setting.recompute = plan::recompute(options.recompute);
  job.sight = sight_of(options.mask, options.sharding);
  const SimulationOptions& simulation = options.simulation;
  if (options.simulate &&
      (simulation.tokens_per_rank < 1 || simulation.most_ranks < 8 || !(simulation.slow_rank >= 1))) {
    throw rondo::argument_error(rondo::detail::message(
        "--simulate: ", simulation.tokens_per_rank, " tokens a rank, ", simulation.most_ranks,
        " ranks, a slow rank of ", simulation.slow_rank, ": at least 1 token, 8 ranks and 1 are needed"));
  }
  plan::Job even = job;
  even.sight.even = even.sight.even || options.simulate;  // the simulator knows windows on contiguous shards
  job.setting.model = even.checked().setting.model;
  return job;
}

}  // namespace planner
