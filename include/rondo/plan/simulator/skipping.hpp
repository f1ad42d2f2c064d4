/// \file
/// A ring under a mask that leaves hops out, in time: every rank by its own steps, those of the real ring.
#pragma once

#include <rondo/plan/simulator/ring_model.hpp>
#include <rondo/schedule/needs.hpp>
#include <rondo/schedule/skipping_ring.hpp>
#include <rondo/schedule/work.hpp>
#include <rondo/sharding/shard_table.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace rondo::plan::simulated {

/// Who needs what, of all ranks at once. Where ranks at the same distance see the same of each other, one pair of each distance
/// is asked.
template <Mask M>
class EverybodysNeeds {
 public:
  EverybodysNeeds(const ShardTable& table, std::int64_t chunk, const M& mask, bool alike)
      : table_(table), chunk_(chunk), mask_(mask), pieces_(table.most_pieces(chunk)) {
    const int ranks = table.ranks();
    if (alike) {
      by_distance_.resize(2 * static_cast<std::size_t>(ranks) * static_cast<std::size_t>(pieces_));
      for (int hop = 1; hop < ranks; ++hop) {
        for (std::int64_t piece = 0; piece < pieces_; ++piece) {
          by_distance_[place(hop, 0, piece)] = asked(hop, piece_of(0, piece));
          by_distance_[place(0, hop, piece)] = asked(0, piece_of(hop, piece));
        }
      }
      all_ = std::ranges::all_of(by_distance_.begin() + 2 * pieces_, by_distance_.end(),
                                 [](auto sees) { return sees != 0; });
      if (all_) return;
    }
    all_ = true;
    travels_.update(
        ranks, pieces_, [&](int owner, std::int64_t piece) { return piece_of(owner, piece); },
        [&](int visited, int owner, std::int64_t piece, const Piece& keys) {
          const bool needs = by_distance_.empty() ? asked(visited, keys) : sees(visited, owner, piece);
          all_ = all_ && (needs || keys.tokens() == 0 || table_.tokens(visited) == 0);
          return needs;
        });
  }

  /// Whether every rank needs every piece; then nothing else is known.
  bool all() const { return all_; }
  const schedule::Travels& travels() const { return travels_; }
  Piece piece_of(int owner, std::int64_t piece) const { return table_.piece(owner, piece, chunk_); }

  /// One rank's, for its steps.
  struct Of {
    const EverybodysNeeds& all;
    int rank;
    bool needed(int owner, std::int64_t piece) const { return owner == rank || all.sees(rank, owner, piece); }
    bool needed_by(int visited, std::int64_t piece) const { return visited == rank || all.sees(visited, rank, piece); }
  };
  Of of(int rank) const { return {*this, rank}; }

 private:
  bool asked(int visited, const Piece& keys) const { return schedule::rank_sees(mask_, 1, 1, table_, visited, keys); }
  bool sees(int visited, int owner, std::int64_t piece) const {
    if (by_distance_.empty()) return asked(visited, piece_of(owner, piece));
    return by_distance_[place(visited, owner, piece)] != 0;
  }
  /// Of a pair's distance: first those whose visited rank is the later one.
  std::size_t place(int visited, int owner, std::int64_t piece) const {
    const int distance = visited > owner ? 2 * (visited - owner) : 2 * (owner - visited) + 1;
    return static_cast<std::size_t>(distance) * static_cast<std::size_t>(pieces_) + static_cast<std::size_t>(piece);
  }

  const ShardTable& table_;
  std::int64_t chunk_;
  M mask_;
  std::int64_t pieces_;
  std::vector<std::uint8_t> by_distance_;
  bool all_ = true;
  schedule::Travels travels_;
};

/// Walks the steps of all ranks. A rank's messages leave one after the other by its own link, a gradient at the pace of the
/// slowest link on its way home; a message ends no sooner than its receiver has asked for it.
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

  PassTime pass(bool backward) {
    const auto count = static_cast<std::size_t>(ranks_);
    for (auto* times : {&now_, &free_, &computed_}) times->assign(count, 0.0);
    for (auto* times : {&asked_, &piece_due_, &due_}) times->resize(count);
    before_.assign(count, {});
    steps_.resize(count);
    way_home_ = model_.links;
    PassTime time;
    const auto steps = static_cast<std::int64_t>(first_.back()) + (backward && needs_.travels().pieces() > 0 ? 1 : 0);
    for (std::int64_t index = 0; index < steps; ++index) {
      for (int rank = 0; rank < ranks_; ++rank) {
        const auto needs = needs_.of(rank);
        const schedule::SkippingSteps walk(rank, needs_.travels(), needs, first_);
        steps_[at(rank)] = backward ? walk.backward(index) : walk.forward(index);
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
  double piece_bytes(const schedule::Step& step, bool backward) const {
    return static_cast<double>(needs_.piece_of(step.owner, step.piece).tokens()) *
           model_.attention.wire_bytes(backward);
  }

  /// \return bytes sent
  double send(int rank, bool backward) {
    const schedule::Step& step = steps_[at(rank)];
    const double piece = step.send_to >= 0 ? piece_bytes(step, backward) : 0;
    const schedule::Step& before = before_[at(rank)];
    const double gradient = step.gradient_to >= 0
                                ? static_cast<double>(needs_.piece_of(before.owner, before.piece).tokens()) *
                                      model_.attention.gradient_bytes()
                                : 0;
    const double now = asked_[at(rank)] = now_[at(rank)];
    if (piece + gradient == 0) return 0;
    // The link that a piece takes down is the one that its receiver sends up by.
    const Link& link = model_.links[at(step.send_to == (rank + 1) % ranks_ || step.send_to < 0 ? rank : step.send_to)];
    const Link& home =
        way_home_[at((rank + ranks_ - before.hop) % ranks_ == step.gradient_to ? step.gradient_to : rank)];
    const Link& first = piece > 0 ? link : home;
    piece_due_[at(rank)] = std::max(now, free_[at(rank)]) + first.latency + piece / first.bytes_per_second;
    due_[at(rank)] = piece_due_[at(rank)] + gradient / home.bytes_per_second;
    free_[at(rank)] = due_[at(rank)];
    return piece + gradient;
  }

  void compute(int rank, bool backward) {
    const schedule::Step& step = steps_[at(rank)];
    if (!step.computes) return;
    const std::int64_t pairs =
        schedule::allowed_pairs(mask_, 1, 1, table_, rank, step.queries, needs_.piece_of(step.owner, step.piece));
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
    const auto tokens = [&](int owner, std::int64_t piece) { return needs_.piece_of(owner, piece).tokens(); };
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
      const Link& last = model_.links[at((rank + hop - 1) % ranks_)];
      if (last.bytes_per_second < way_home_[at(rank)].bytes_per_second) way_home_[at(rank)] = last;
    }
  }

  const RingModel& model_;
  const ShardTable& table_;
  const EverybodysNeeds<M>& needs_;
  M mask_;
  std::vector<std::int64_t> first_;
  int ranks_;
  std::vector<double> now_, free_, computed_, asked_, piece_due_, due_;
  std::vector<schedule::Step> steps_, before_;
  std::vector<Link> way_home_;
};

}  // namespace rondo::plan::simulated
