/// \file
/// A ring under a mask that leaves hops out, in time: every rank by its own steps, those of the real ring.
#pragma once

#include <rondo/plan/simulator/everybodys_needs.hpp>
#include <rondo/plan/simulator/ring_model.hpp>
#include <rondo/plan/simulator/stretch_clocks.hpp>
#include <rondo/plan/simulator/stretches.hpp>
#include <rondo/schedule/skipping_ring.hpp>
#include <rondo/schedule/work.hpp>
#include <rondo/sharding/shard_table.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace rondo::plan::simulated {

/// Walks the steps of all ranks. Where ranks at the same distance see the same of each other, the schedule is asked for one
/// rank of every stretch that does the same; elsewhere for each rank that takes part.
template <Mask M>
class SkippingWalk {
 public:
  SkippingWalk(const RingModel& model, const ShardTable& table, const EverybodysNeeds<M>& needs, const M& mask)
      : model_(model),
        table_(table),
        needs_(needs),
        mask_(mask),
        first_(schedule::first_steps(needs.travels())),
        ranks_(table.ranks()) {}

  PassTime pass(bool backward) const {
    std::vector<double> slowness = model_.slowness;
    slowness.resize(model_.links.size(), 1.0);
    StretchClocks clocks(model_.links, std::move(slowness));
    Stretches stretches(needs_.travels(), first_);
    PassTime time;
    const std::int64_t steps = first_.back() + (backward && needs_.travels().pieces() > 0 ? 1 : 0);
    std::vector<StretchStep> step;
    for (std::int64_t index = 0; index < steps; ++index) {
      step.clear();
      for (const Ranks& stretch : stretches.next()) {
        const int width = needs_.alike() ? stretch.last - stretch.first : 1;
        for (int rank = stretch.first; rank < stretch.last; rank += width) {
          step.push_back(step_of({rank, rank + width}, index, backward));
        }
      }
      for (const StretchStep& part : step) {
        time.bytes_sent += (part.ranks.last - part.ranks.first) * (part.piece_bytes + part.gradient_bytes);
        clocks.send(part);
      }
      for (const StretchStep& part : step) clocks.finish(part);
      if (!backward || index == first_.back()) continue;
      const int hop = schedule::place_of(index, needs_.travels(), first_).hop;
      if (hop == 0) clocks.shorten_way_home();
      if (hop > 1) clocks.lengthen_way_home(hop);
    }
    time.seconds = *std::ranges::max_element(clocks.now());
    const std::vector<double>&now = clocks.now(), &computed = clocks.computed();
    for (std::size_t rank = 0; rank < now.size(); ++rank) {
      time.compute_seconds += computed[rank] / ranks_;
      time.wait_seconds += (now[rank] - computed[rank]) / ranks_;
    }
    return time;
  }

 private:
  double tokens(int owner, std::int64_t piece) const {
    return static_cast<double>(needs_.piece_of(owner, piece).tokens());
  }

  /// What the schedule says to the first of these ranks.
  StretchStep step_of(const Ranks& ranks, std::int64_t index, bool backward) const {
    const int rank = ranks.first;
    const auto needs = needs_.of(rank);
    const schedule::SkippingSteps walk(rank, needs_.travels(), needs, first_);
    const schedule::Step step = backward ? walk.backward(index) : walk.forward(index);
    StretchStep part{.ranks = ranks, .seconds = compute_seconds(rank, step, backward)};
    if (step.send_to >= 0) {
      part.to = step.send_to - rank;
      // The link that a piece takes down is the one that its receiver sends up by.
      part.link = step.send_to == (rank + 1) % ranks_ ? 0 : part.to;
      part.piece_bytes = tokens(step.owner, step.piece) * model_.attention.wire_bytes(backward);
      part.sends = part.piece_bytes > 0;
    }
    if (step.receive_from >= 0) {
      part.from = step.receive_from - rank;
      part.receives = tokens(step.incoming_owner, step.piece) > 0;
    }
    if (step.gradient_to < 0 && step.gradient_from < 0) return part;
    const schedule::Place before = schedule::place_of(index - 1, needs_.travels(), first_);
    if (step.gradient_to >= 0) {
      part.gradient_to = step.gradient_to - rank;
      part.home = (rank + ranks_ - before.hop) % ranks_ == step.gradient_to ? part.gradient_to : 0;
      part.gradient_bytes = tokens(step.gradient_to, before.piece) * model_.attention.gradient_bytes();
      part.sends_gradient = part.gradient_bytes > 0;
    }
    if (step.gradient_from >= 0) {
      part.gradient_from = step.gradient_from - rank;
      part.receives_gradient = tokens(rank, before.piece) > 0;
    }
    return part;
  }

  double compute_seconds(int rank, const schedule::Step& step, bool backward) const {
    if (!step.computes) return 0;
    const std::int64_t pairs =
        schedule::allowed_pairs(mask_, 1, 1, table_, rank, step.queries, needs_.piece_of(step.owner, step.piece));
    if (pairs == 0) return 0;
    const double share = step.queries == schedule::QueryShare::all ? 1 : 0.5;
    return static_cast<double>(pairs) * model_.pair_seconds(backward) + share * model_.step_seconds;
  }

  const RingModel& model_;
  const ShardTable& table_;
  const EverybodysNeeds<M>& needs_;
  M mask_;
  std::vector<std::int64_t> first_;
  int ranks_;
};

}  // namespace rondo::plan::simulated
