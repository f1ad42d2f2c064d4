/// \file
/// What training with a ring would take and how fast it would be, from closed formulas.
#pragma once

#include <rondo/plan/memory.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace rondo::plan {

/// A model on a machine.
struct Job {
  Setting setting;
  Machine machine;
  Sight sight;
  std::int64_t context = 0;           ///< 0: the longest that fits
  double efficiency = 0.5;            ///< share of the peak that kernels reach
  double memory_share = 0.9;          ///< of a rank's memory that may be planned with
  std::int64_t short_context = 4096;  ///< that costs are compared with

  /// \throws argument_error naming what makes no sense
  Job checked() const {
    Job job = *this;
    job.setting.model = setting.model.checked();
    plan::checked(machine);
    const auto refuse_unless = [](bool right, const char* what, auto value, const char* need) {
      if (!right) throw argument_error(detail::message("plan: ", what, " is ", value, ", it must be ", need));
    };
    refuse_unless(setting.ranks >= 1, "ranks", setting.ranks, "at least 1");
    refuse_unless(setting.batch >= 1, "batch", setting.batch, "at least 1");
    refuse_unless(setting.chunk >= 1, "chunk", setting.chunk, "at least 1");
    refuse_unless(setting.dense_block >= 1, "dense block", setting.dense_block, "at least 1");
    refuse_unless(setting.parameter_bytes >= 0, "bytes a parameter", setting.parameter_bytes, "0 or more");
    refuse_unless(context >= 0, "context", context, "0 or more");
    refuse_unless(short_context >= 1, "short context", short_context, "at least 1");
    refuse_unless(efficiency > 0 && efficiency <= 1, "efficiency", efficiency, "above 0 and at most 1");
    refuse_unless(memory_share > 0 && memory_share <= 1, "share of the memory", memory_share, "above 0 and at most 1");
    const bool wide = sight.kind == Sight::Kind::window || sight.kind == Sight::Kind::document;
    refuse_unless(!wide || sight.width >= 1, "width of the mask", sight.width, "at least 1");
    if (wide && !sight.even) {
      throw argument_error(
          "plan: windows and documents on contiguous shards have no closed formula here, as ranks differ in every "
          "step: "
          "simulate them");
    }
    return job;
  }
};

/// Attention of one layer in one pass: its steps, and what of their messages is not hidden.
struct PassForecast {
  double smallest_block = 0;   ///< tokens of a rank that hide a piece's passage
  double hop_bytes = 0;        ///< that a rank sends in a step
  double hop_seconds = 0;      ///< over the slowest link of the ring
  double step_seconds = 0;     ///< of computing
  double compute_seconds = 0;  ///< of all steps
  double exposed_seconds = 0;  ///< of all steps, with nothing to do but wait
  double exposed_share() const {
    return exposed_seconds == 0 ? 0 : exposed_seconds / (compute_seconds + exposed_seconds);
  }
};

/// The answer. Times are of one training step over one batch of sequences.
struct Forecast {
  Job job;
  std::int64_t largest_context = 0;
  std::int64_t context = 0;  ///< 0: nothing fits, and times are of nothing
  std::int64_t tokens = 0;   ///< of a rank
  Memory memory;
  bool fits = false;
  PassForecast forward;
  PassForecast backward;
  double seconds = 0;
  double model_flops = 0;  ///< of the step: 3 times the forward pass, what is computed again left out
  double utilisation = 0;  ///< model FLOP utilisation: model_flops over what all ranks could have done
  double cost_ratio = 0;   ///< operations a token, compared with the short context

  double exposed_share() const {
    const double exposed = forward.exposed_seconds + backward.exposed_seconds;
    return exposed == 0 ? 0 : exposed / (forward.compute_seconds + backward.compute_seconds + exposed);
  }
};

/// Operations of a forward pass per token of a sequence.
inline double token_flops(const Model& model, const Sight& sight, double context) {
  return model.dense_flops() + model.layers * model.pair_flops() * sight.keys(context);
}

/// The link on which a step of the ring waits: between nodes as soon as there are two.
inline const Link& slowest_link(const Machine& machine, int ranks, double bytes) {
  if (ranks <= machine.ranks_per_node) return machine.inside;
  return machine.between.seconds(bytes) > machine.inside.seconds(bytes) ? machine.between : machine.inside;
}

inline PassForecast forecast_pass(const Job& job, bool backward, std::int64_t tokens) {
  const Setting& setting = job.setting;
  const Attention attention = setting.attention();
  const double flops = job.efficiency * setting.type.peak(job.machine);
  const auto c = static_cast<double>(tokens);
  const auto piece = static_cast<double>(std::min(tokens, setting.chunk));
  const double share = job.sight.step_share(c * setting.ranks);
  PassForecast pass;
  const bool alone = setting.ranks == 1;
  pass.hop_bytes = alone ? 0 : piece * attention.token_bytes(backward);
  const Link& link = slowest_link(job.machine, setting.ranks, pass.hop_bytes);
  pass.smallest_block =
      alone ? 0 : smallest_block(attention, backward, flops, link, share, static_cast<double>(setting.chunk));
  pass.hop_seconds = link.seconds(pass.hop_bytes);
  pass.step_seconds = share * c * piece * attention.pair_flops(backward) / flops;
  const double steps = std::ceil(c / piece) * setting.ranks;
  pass.compute_seconds = share * c * c * setting.ranks * attention.pair_flops(backward) / flops;
  pass.exposed_seconds = (steps - std::ceil(c / piece)) * std::max(0.0, pass.hop_seconds - pass.step_seconds);
  return pass;
}

/// \throws argument_error naming what makes no sense
inline Forecast forecast(const Job& given) {
  Forecast result;
  result.job = given.checked();
  const Job& job = result.job;
  const Setting& setting = job.setting;
  const double room = job.memory_share * job.machine.memory_bytes;
  result.largest_context = largest_context(setting, room);
  result.context = job.context > 0 ? job.context : result.largest_context;
  result.tokens = (result.context + setting.ranks - 1) / setting.ranks;
  result.memory = memory(setting, result.tokens);
  result.fits = result.context > 0 && result.memory.total() <= room;
  if (result.context == 0) return result;

  result.forward = forecast_pass(job, false, result.tokens);
  result.backward = forecast_pass(job, true, result.tokens);
  const Model& model = setting.model;
  const auto context = static_cast<double>(result.context);
  const auto batch_tokens = static_cast<double>(setting.batch) * context;
  const double flops = job.efficiency * setting.type.peak(job.machine);
  // Forward once and, where layers are computed again, once more; the backward pass of a product is two of its size.
  const double attention_again = setting.recompute == Recompute::layers ? 1 : 0;
  const double dense_again = setting.recompute == Recompute::nothing ? 0 : 1;
  const auto seconds = [](const PassForecast& pass) { return pass.compute_seconds + pass.exposed_seconds; };
  result.seconds = (3 + dense_again) * batch_tokens * model.dense_flops() / (setting.ranks * flops) +
                   model.layers * ((1 + attention_again) * seconds(result.forward) + seconds(result.backward));
  result.model_flops = 3 * batch_tokens * token_flops(model, job.sight, context);
  result.utilisation = result.model_flops / (result.seconds * setting.ranks * setting.type.peak(job.machine));
  result.cost_ratio = token_flops(model, job.sight, context) /
                      token_flops(model, job.sight, static_cast<double>(std::min(job.short_context, result.context)));
  return result;
}

}  // namespace rondo::plan
