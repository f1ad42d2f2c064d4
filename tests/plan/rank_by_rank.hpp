/// \file
/// Rings under masks that leave hops out, in time, rank by rank and step by step, each rank by the real ring's own
/// schedule: what the simulator does for stretches of ranks at once.
#pragma once

#include <rondo/engine/workspace_bytes.hpp>
#include <rondo/plan/simulator/ring_model.hpp>
#include <rondo/schedule/skipping_ring.hpp>
#include <rondo/schedule/work.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace rondo::test {

template <Mask M>
class RankByRank {
 public:
  template <Sharding S>
  RankByRank(const plan::RingModel& model, const S& sharding, const M& mask)
      : model_(model),
        ranks_(static_cast<int>(model.links.size())),
        table_(sharding, ranks_),
        chunk_(rondo::detail::piece_tokens(table_, model.chunk)),
        mask_(mask),
        rings_(model.links.size()) {
    for (int rank = 0; rank < ranks_; ++rank) rings_[at(rank)].update(rank, table_, table_, mask, 1, 1, chunk_);
  }

  /// Whether the mask leaves anything out.
  bool skips() const { return !rings_[0].needs().all(); }

  plan::PassTime pass(bool backward) {
    const std::size_t count = rings_.size();
    for (auto* times : {&now_, &free_, &computed_}) times->assign(count, 0.0);
    for (auto* times : {&asked_, &piece_due_, &due_}) times->resize(count);
    before_.assign(count, {});
    steps_.resize(count);
    way_home_ = model_.links;
    plan::PassTime time;
    const std::int64_t steps = backward ? rings_[0].backward_steps() : rings_[0].forward_steps();
    for (std::int64_t index = 0; index < steps; ++index) {
      for (int rank = 0; rank < ranks_; ++rank) {
        steps_[at(rank)] = backward ? rings_[at(rank)].backward(index) : rings_[at(rank)].forward(index);
      }
      for (int rank = 0; rank < ranks_; ++rank) time.bytes_sent += send(rank, backward);
      for (int rank = 0; rank < ranks_; ++rank) compute(rank, backward);
      for (int rank = 0; rank < ranks_; ++rank) wait(rank);
      lengthen_way_home();
      before_ = steps_;
    }
    time.seconds = *std::ranges::max_element(now_);
    for (std::size_t rank = 0; rank < count; ++rank) {
      time.compute_seconds += computed_[rank] / ranks_;
      time.wait_seconds += (now_[rank] - computed_[rank]) / ranks_;
    }
    return time;
  }

 private:
  static std::size_t at(int rank) { return static_cast<std::size_t>(rank); }
  double tokens(int owner, std::int64_t piece) const {
    return static_cast<double>(table_.piece(owner, piece, chunk_).tokens());
  }

  /// \return bytes sent
  double send(int rank, bool backward) {
    const schedule::Step& step = steps_[at(rank)];
    const schedule::Step& before = before_[at(rank)];
    const double piece = step.send_to >= 0 ? tokens(step.owner, step.piece) * model_.attention.wire_bytes(backward) : 0;
    const double gradient =
        step.gradient_to >= 0 ? tokens(before.owner, before.piece) * model_.attention.gradient_bytes() : 0;
    const double now = asked_[at(rank)] = now_[at(rank)];
    if (piece + gradient == 0) return 0;
    // The link that a piece takes down is the one that its receiver sends up by.
    const plan::Link& link =
        model_.links[at(step.send_to == (rank + 1) % ranks_ || step.send_to < 0 ? rank : step.send_to)];
    const plan::Link& home =
        way_home_[at((rank + ranks_ - before.hop) % ranks_ == step.gradient_to ? step.gradient_to : rank)];
    const plan::Link& first = piece > 0 ? link : home;
    piece_due_[at(rank)] = std::max(now, free_[at(rank)]) + first.latency + piece / first.bytes_per_second;
    due_[at(rank)] = piece_due_[at(rank)] + gradient / home.bytes_per_second;
    free_[at(rank)] = due_[at(rank)];
    return piece + gradient;
  }

  void compute(int rank, bool backward) {
    const schedule::Step& step = steps_[at(rank)];
    if (!step.computes) return;
    const std::int64_t pairs =
        schedule::allowed_pairs(mask_, 1, 1, table_, rank, step.queries, table_.piece(step.owner, step.piece, chunk_));
    if (pairs == 0) return;
    const double share = step.queries == schedule::QueryShare::all ? 1 : 0.5;
    const double seconds = static_cast<double>(pairs) * model_.pair_seconds(backward) + share * model_.step_seconds;
    const double slowness = model_.slowness.empty() ? 1 : model_.slowness[at(rank)];
    now_[at(rank)] += slowness * seconds;
    computed_[at(rank)] += slowness * seconds;
  }

  void wait(int rank) {
    const schedule::Step& step = steps_[at(rank)];
    double& now = now_[at(rank)];
    if (step.send_to >= 0 && tokens(step.owner, step.piece) > 0) {
      now = std::max({now, piece_due_[at(rank)], asked_[at(step.send_to)]});
    }
    if (step.receive_from >= 0 && tokens(step.incoming_owner, step.piece) > 0) {
      now = std::max(now, piece_due_[at(step.receive_from)]);
    }
    const std::int64_t before = before_[at(rank)].piece;
    if (step.gradient_to >= 0 && tokens(step.gradient_to, before) > 0) {
      now = std::max({now, due_[at(rank)], asked_[at(step.gradient_to)]});
    }
    if (step.gradient_from >= 0 && tokens(rank, before) > 0) now = std::max(now, due_[at(step.gradient_from)]);
  }

  /// The slowest of the links from a rank up, as many as the step had hops.
  void lengthen_way_home() {
    const int hop = steps_[0].hop;
    if (hop <= 1) way_home_ = model_.links;
    if (hop <= 1) return;
    for (int rank = 0; rank < ranks_; ++rank) {
      const plan::Link& last = model_.links[at((rank + hop - 1) % ranks_)];
      if (last.bytes_per_second < way_home_[at(rank)].bytes_per_second) way_home_[at(rank)] = last;
    }
  }

  const plan::RingModel& model_;
  int ranks_;
  ShardTable table_;
  std::int64_t chunk_;
  M mask_;
  std::vector<schedule::SkippingRing> rings_;
  std::vector<double> now_, free_, computed_, asked_, piece_due_, due_;
  std::vector<schedule::Step> steps_, before_;
  std::vector<plan::Link> way_home_;
};

}  // namespace rondo::test
