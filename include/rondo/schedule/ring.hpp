/// \file
/// The ring schedule as data (Liu, Zaharia & Abbeel, arXiv 2310.01889): what happens when, in O(1) state. It touches
/// no element and sends nothing; the engine, the tests and every forecast of time or bytes read the same steps.
#pragma once

#include <cstdint>

namespace rondo::schedule {

/// Which of a rank's own queries a step computes with.
enum class QueryShare { all, first_half, second_half };

/// Where gradients that arrive during a step belong.
enum class GradientArrival { none, visitor, home };

/// One step of one rank. In it the rank computes with the piece it holds, sends that piece on, and receives the next.
struct Step {
  std::int64_t piece = 0;  ///< index of the piece in its owner's shard
  int owner = 0;           ///< the rank whose piece is computed with
  int hop = 0;             ///< how far that piece has travelled: 0 is the rank's own
  bool pack = false;       ///< the piece is the rank's own and has to be packed first
  bool pass_on = false;    ///< the piece goes to the next rank while the next piece arrives from the previous one
  bool computes = true;    ///< the rank's queries may see some of the piece
  int send_to = -1;        ///< where the piece goes meanwhile, or -1
  int receive_from = -1;   ///< where another comes from meanwhile, or -1
  int incoming_owner = 0;  ///< whose piece that is
  // Backward only:
  QueryShare queries = QueryShare::all;
  bool send_gradient = false;  ///< the gradient completed in the step before goes to the next rank
  GradientArrival arrival = GradientArrival::none;
  int gradient_to = -1;    ///< where the gradient of the step before goes, or -1
  int gradient_from = -1;  ///< where one comes from, or -1
  bool completes = false;  ///< with what arrives, the gradient of the rank's own piece before is complete
};

/// The ring of `ranks` ranks, each shard in `pieces` pieces. Piece by piece: the owner's at hop 0, then what the
/// previous rank holds, N - 1 hops in all; nothing is sent that nobody waits for.
///
/// Backward, keys and values go round again. The gradient of a visiting piece starts at hop 1 with that rank's part,
/// follows one step behind the piece, is added to at every rank and goes home from hop N - 1 while the next piece is
/// worked on. To hide the very last homecoming too, the last step with a piece of its own keeps half of its queries for
/// the end. That piece is the shard's first, the one which all queries see under a causal mask: both halves have work.
class Ring {
 public:
  Ring(int rank, int ranks, std::int64_t pieces) : rank_(rank), ranks_(ranks), pieces_(pieces) {}

  int next() const { return (rank_ + 1) % ranks_; }
  int previous() const { return (rank_ + ranks_ - 1) % ranks_; }

  std::int64_t forward_steps() const { return pieces_ * ranks_; }

  Step forward(std::int64_t index) const {
    Step step;
    step.piece = index / ranks_;
    step.hop = static_cast<int>(index % ranks_);
    step.owner = (rank_ + ranks_ - step.hop) % ranks_;
    step.pack = step.hop == 0;
    step.pass_on = step.hop + 1 < ranks_;
    step.incoming_owner = (step.owner + ranks_ - 1) % ranks_;
    if (step.pass_on) {
      step.send_to = next();
      step.receive_from = previous();
    }
    return step;
  }

  std::int64_t backward_steps() const { return forward_steps() + (pieces_ > 0 && ranks_ > 1 ? 1 : 0); }

  Step backward(std::int64_t index) const {
    Step step = forward(index);
    step.piece = pieces_ - 1 - step.piece;
    if (ranks_ == 1) return step;
    if (step.hop == 0) {
      const bool trailing = index == forward_steps();
      if (trailing) {
        step = Step{.piece = 0, .owner = rank_, .pack = true, .queries = QueryShare::second_half};
      } else if (step.piece == 0) {
        step.queries = QueryShare::first_half;
      }
      if (index > 0) {
        step.send_gradient = true;
        step.arrival = GradientArrival::home;
      }
    } else if (step.hop >= 2) {
      step.send_gradient = true;
      step.arrival = GradientArrival::visitor;
    }
    if (step.send_gradient) {
      step.gradient_to = next();
      step.gradient_from = previous();
    }
    step.completes = step.arrival == GradientArrival::home;
    return step;
  }

 private:
  int rank_;
  int ranks_;
  std::int64_t pieces_;
};

}  // namespace rondo::schedule
