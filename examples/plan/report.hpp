/// \file
/// A forecast as text and as JSON.
#pragma once

#include "units.hpp"

#include <rondo/plan.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>

namespace planner {

using nlohmann::json;
using rondo::plan::Forecast;
using rondo::plan::Job;
using rondo::plan::PassForecast;

inline json to_json(const PassForecast& pass) {
  return {{"smallest_block", pass.smallest_block},   {"hop_bytes", pass.hop_bytes},
          {"hop_seconds", pass.hop_seconds},         {"step_seconds", pass.step_seconds},
          {"compute_seconds", pass.compute_seconds}, {"exposed_seconds", pass.exposed_seconds},
          {"exposed_share", pass.exposed_share()}};
}

inline json to_json(const rondo::PassBytes& bytes) {
  return {{"pieces", bytes.pieces}, {"state", bytes.state}, {"gradients", bytes.gradients}, {"total", bytes.total()}};
}

inline json to_json(const rondo::plan::Machine& machine) {
  const auto link = [](const rondo::plan::Link& l) {
    return json{{"bytes_per_second", l.bytes_per_second}, {"latency", l.latency}};
  };
  return {{"name", machine.name},
          {"flops", machine.flops},
          {"flops_float", machine.flops_float},
          {"memory_bytes", machine.memory_bytes},
          {"ranks_per_node", machine.ranks_per_node},
          {"inside", link(machine.inside)},
          {"between", link(machine.between)},
          {"source", machine.source}};
}

inline json to_json(const rondo::plan::Model& model) {
  return {{"name", model.name},
          {"dim", model.dim},
          {"heads", model.heads},
          {"kv_heads", model.kv_heads},
          {"layers", model.layers},
          {"ffn", model.ffn},
          {"gated", model.gated},
          {"vocabulary", model.vocabulary},
          {"parameters", model.parameters()}};
}

inline json to_json(const Forecast& forecast) {
  const Job& job = forecast.job;
  const rondo::plan::Memory& memory = forecast.memory;
  return {{"model", to_json(job.setting.model)},
          {"machine", to_json(job.machine)},
          {"ranks", job.setting.ranks},
          {"batch", job.setting.batch},
          {"chunk", job.setting.chunk},
          {"type", job.setting.type.name},
          {"efficiency", job.efficiency},
          {"largest_context", forecast.largest_context},
          {"context", forecast.context},
          {"tokens_per_rank", forecast.tokens},
          {"fits", forecast.fits},
          {"bytes",
           {{"parameters", memory.parameters},
            {"layer", memory.layer},
            {"kept", memory.kept},
            {"tensors", memory.tensors},
            {"workspace",
             {{"forward", to_json(memory.workspace.forward)},
              {"backward", to_json(memory.workspace.backward)},
              {"total", memory.workspace.total()}}},
            {"dense", memory.dense},
            {"total", memory.total()}}},
          {"forward", to_json(forecast.forward)},
          {"backward", to_json(forecast.backward)},
          {"exposed_share", forecast.exposed_share()},
          {"step_seconds", forecast.seconds},
          {"model_flops", forecast.model_flops},
          {"utilisation", forecast.utilisation},
          {"cost_ratio", forecast.cost_ratio}};
}

inline void print_pass(const char* name, const PassForecast& pass) {
  std::printf("  %-9s %12s tokens hide a hop; a hop %10s in %9s, its step %9s: %.1f %% exposed\n", name,
              count_text(static_cast<long long>(std::ceil(pass.smallest_block))).c_str(),
              bytes_text(pass.hop_bytes).c_str(), seconds_text(pass.hop_seconds).c_str(),
              seconds_text(pass.step_seconds).c_str(), 100 * pass.exposed_share());
}

inline void print(const Forecast& forecast) {
  const Job& job = forecast.job;
  const rondo::plan::Model& model = job.setting.model;
  const rondo::plan::Memory& memory = forecast.memory;
  std::printf("model    %s: %.3g parameters, %d layers, dim %lld, %d heads, %d kv heads\n", model.name.c_str(),
              model.parameters(), model.layers, static_cast<long long>(model.dim), model.heads, model.kv_heads);
  std::printf("machine  %s: %.4g TFLOP/s in %s, %s, %.4g GB/s to the next rank, %.4g GB/s to the next node of %d\n",
              job.machine.name.c_str(), job.setting.type.peak(job.machine) * 1e-12, job.setting.type.name.c_str(),
              bytes_text(job.machine.memory_bytes).c_str(), job.machine.inside.bytes_per_second * 1e-9,
              job.machine.between.bytes_per_second * 1e-9, job.machine.ranks_per_node);
  std::printf("largest  context that fits %d ranks: %s tokens\n", job.setting.ranks,
              count_text(forecast.largest_context).c_str());
  if (forecast.context == 0) {
    std::printf("         not even a token a rank fits: %s are needed\n", bytes_text(memory.total()).c_str());
    return;
  }
  std::printf("planned  context %s, %s tokens a rank, chunk %s%s\n", count_text(forecast.context).c_str(),
              count_text(forecast.tokens).c_str(), count_text(job.setting.chunk).c_str(),
              forecast.fits ? "" : ": DOES NOT FIT");
  std::printf("bytes    %s a rank: parameters %s, a layer's weights %s, kept %s, attention's tensors %s,\n",
              bytes_text(memory.total()).c_str(), bytes_text(memory.parameters).c_str(),
              bytes_text(memory.layer).c_str(), bytes_text(memory.kept).c_str(), bytes_text(memory.tensors).c_str());
  const rondo::PassBytes& pass = memory.workspace.backward;
  std::printf(
      "         workspace %s (backward: pieces %s, state %s, travelling gradients %s), feed-forward and loss %s\n",
      bytes_text(static_cast<double>(memory.workspace.total())).c_str(),
      bytes_text(static_cast<double>(pass.pieces)).c_str(), bytes_text(static_cast<double>(pass.state)).c_str(),
      bytes_text(static_cast<double>(pass.gradients)).c_str(), bytes_text(memory.dense).c_str());
  std::printf("overlap  of one layer's attention:\n");
  print_pass("forward", forecast.forward);
  print_pass("backward", forecast.backward);
  std::printf("speed    %s a training step, model FLOP utilisation %.1f %%, %.1f %% of attention exposed\n",
              seconds_text(forecast.seconds).c_str(), 100 * forecast.utilisation, 100 * forecast.exposed_share());
  std::printf("cost     %.2f times the operations a token of a context of %s\n", forecast.cost_ratio,
              count_text(std::min(job.short_context, forecast.context)).c_str());
}

/// What to draw: the same job on 1, 2, 4, ... ranks with the longest context, and with more and more tokens a rank.
inline json curves(const Job& job) {
  json over_ranks = json::array(), over_tokens = json::array();
  const auto point = [](const Forecast& f) {
    return json{{"ranks", f.job.setting.ranks},       {"context", f.context},
                {"tokens_per_rank", f.tokens},        {"utilisation", f.utilisation},
                {"exposed_share", f.exposed_share()}, {"fits", f.fits}};
  };
  for (int ranks = 1; ranks <= 4096; ranks *= 2) {
    Job other = job;
    other.setting.ranks = ranks;
    other.context = 0;
    over_ranks.push_back(point(forecast(other)));
  }
  for (std::int64_t tokens = 256; tokens <= (1 << 20); tokens *= 2) {
    Job other = job;
    other.context = tokens * job.setting.ranks;
    over_tokens.push_back(point(forecast(other)));
  }
  return {{"over_ranks", over_ranks}, {"over_tokens", over_tokens}};
}

}  // namespace planner
