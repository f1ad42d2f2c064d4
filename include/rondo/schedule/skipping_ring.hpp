/// \file
/// The ring where not every rank needs every piece: nothing is sent to where nobody further on needs it, and pieces travel
/// both ways round where that is shorter.
#pragma once

#include <rondo/schedule/needs.hpp>
#include <rondo/schedule/ring.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace rondo::schedule {

/// When each piece's steps begin, which is the same on all ranks; the last number is that of all steps.
inline std::vector<std::int64_t> first_steps(const Travels& travels) {
  std::vector<std::int64_t> first(1, 0);
  for (std::int64_t piece = 0; piece < travels.pieces(); ++piece) {
    const int down = travels.most(piece, -1);
    first.push_back(first.back() + 1 + travels.most(piece, 1) + (down > 0 ? 1 + down : 0));
  }
  return first;
}

/// Where in the schedule a step is.
struct Place {
  std::int64_t piece;
  int way;  ///< 1 up, -1 down
  int hop;
};

/// The same on all ranks. \param first  of first_steps
inline Place place_of(std::int64_t index, const Travels& travels, const std::vector<std::int64_t>& first) {
  const auto after = std::upper_bound(first.begin(), first.end(), index);
  const std::int64_t piece = after - first.begin() - 1;
  const auto hop = static_cast<int>(index - first[static_cast<std::size_t>(piece)]);
  const int up = travels.most(piece, 1);
  return hop <= up ? Place{piece, 1, hop} : Place{piece, -1, hop - up - 1};
}

/// Piece by piece: the owner's at hop 0, then up, from each rank to the next, and, if anybody's pieces go that way, the owner's
/// once more and down. What is computed between is what the mask leaves. The own piece is computed with in two halves where
/// there are two such steps, so that each has something to hide its messages behind.
///
/// Backward, a visiting piece's gradient goes straight home in the step after, and is added there.
///
/// \tparam N  says needed(owner, piece) and needed_by(visited, piece) of the rank, as Needs does
template <class N>
class SkippingSteps {
 public:
  /// All three have to outlive it. \param first  of first_steps
  SkippingSteps(int rank, const Travels& travels, const N& needs, const std::vector<std::int64_t>& first)
      : rank_(rank), travels_(travels), needs_(needs), first_(first) {}

  std::int64_t forward_steps() const { return first_.back(); }
  std::int64_t backward_steps() const { return forward_steps() + (travels_.pieces() > 0 ? 1 : 0); }

  Step forward(std::int64_t index) const {
    const Place at = place_of(index, travels_, first_);
    Step step;
    step.piece = at.piece;
    step.hop = at.hop;
    step.owner = rank(rank_ - at.way * at.hop);
    step.pack = at.hop == 0;
    if (at.hop == 0 && travels_.most(at.piece, -1) > 0) {
      step.queries = at.way > 0 ? QueryShare::first_half : QueryShare::second_half;
    }
    step.computes = at.hop <= travels_.reach(step.owner, at.piece, at.way) && needs_.needed(step.owner, at.piece);
    if (at.hop + 1 <= travels_.reach(step.owner, at.piece, at.way)) step.send_to = rank(rank_ + at.way);
    step.incoming_owner = rank(rank_ - at.way * (at.hop + 1));
    if (at.hop + 1 <= travels_.reach(step.incoming_owner, at.piece, at.way)) step.receive_from = rank(rank_ - at.way);
    return step;
  }

  Step backward(std::int64_t index) const {
    const std::int64_t last = travels_.pieces() - 1;
    const bool divides =
        travels_.most(last, -1) == 0;  // the last piece's own step, so that the end has something to do
    Step step;
    if (index == forward_steps()) {
      step = Step{.piece = last, .owner = rank_, .pack = divides, .queries = QueryShare::second_half};
      step.computes = divides;
      step.completes = true;
    } else {
      step = forward(index);
      if (step.hop == 0 && step.queries == QueryShare::all && step.piece == last && divides) {
        step.queries = QueryShare::first_half;
      }
      step.completes = index > 0 && index == first_[static_cast<std::size_t>(step.piece)];
    }
    if (index == 0) return step;
    const Place before = place_of(index - 1, travels_, first_);
    if (before.hop == 0) return step;
    const Step previous = forward(index - 1);
    if (previous.computes) step.gradient_to = previous.owner;
    const int visitor = rank(rank_ + before.way * before.hop);
    if (before.hop <= travels_.reach(rank_, before.piece, before.way) && needs_.needed_by(visitor, before.piece)) {
      step.gradient_from = visitor;
      step.arrival = GradientArrival::home;
    }
    return step;
  }

 private:
  int rank(int number) const { return (number % travels_.ranks() + travels_.ranks()) % travels_.ranks(); }

  int rank_;
  const Travels& travels_;
  const N& needs_;
  const std::vector<std::int64_t>& first_;
};

/// The steps of one rank, with what they are made from.
class SkippingRing {
 public:
  /// Brings the schedule to a mask. \param chunk  tokens of a piece
  template <Mask M>
  void update(int rank, const ShardTable& queries, const ShardTable& keys, const M& mask, int batch, int heads,
              std::int64_t chunk) {
    if (!needs_.update(rank, queries, keys, mask, batch, heads, chunk)) return;
    rank_ = rank;
    first_ = first_steps(needs_.travels());
  }

  const Needs& needs() const { return needs_; }
  std::int64_t forward_steps() const { return steps().forward_steps(); }
  std::int64_t backward_steps() const { return steps().backward_steps(); }
  Step forward(std::int64_t index) const { return steps().forward(index); }
  Step backward(std::int64_t index) const { return steps().backward(index); }

 private:
  SkippingSteps<Needs> steps() const { return {rank_, needs_.travels(), needs_, first_}; }

  int rank_ = 0;
  Needs needs_;
  std::vector<std::int64_t> first_{0};
};

}  // namespace rondo::schedule
