#include "machine.hpp"

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using namespace schedule_test;

constexpr int most_ranks = 9;
constexpr std::int64_t most_pieces = 4;

template <class F>
void for_all_rings(const F& f) {
  for (int ranks = 1; ranks <= most_ranks; ++ranks) {
    for (std::int64_t pieces = 0; pieces <= most_pieces; ++pieces) {
      INFO(ranks << " ranks, " << pieces << " pieces");
      f(ranks, pieces);
    }
  }
}

std::string simulate(int ranks, std::int64_t pieces, bool backward) {
  std::vector<Ring> rings;
  for (int rank = 0; rank < ranks; ++rank) rings.emplace_back(rank, ranks, pieces);
  return Machine<Ring>(rings, pieces, backward).run();
}

TEST_CASE("Forward, every rank computes with every piece once, and is sent what the next step needs") {
  for_all_rings([](int ranks, std::int64_t pieces) { CHECK(simulate(ranks, pieces, false) == ""); });
}

TEST_CASE("Backward, every gradient comes home once, with every rank's part in it once") {
  for_all_rings([](int ranks, std::int64_t pieces) { CHECK(simulate(ranks, pieces, true) == ""); });
}

TEST_CASE("A piece makes N - 1 hops, forward and backward, and so does its gradient") {
  for_all_rings([](int ranks, std::int64_t pieces) {
    const std::int64_t hops = (ranks - 1) * pieces * ranks;
    std::int64_t forward = 0, backward = 0, gradients = 0, arrivals = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const Ring ring(rank, ranks, pieces);
      for (std::int64_t index = 0; index < ring.forward_steps(); ++index) forward += ring.forward(index).pass_on;
      for (std::int64_t index = 0; index < ring.backward_steps(); ++index) {
        const Step step = ring.backward(index);
        backward += step.pass_on;
        gradients += step.send_gradient;
        arrivals += step.arrival != GradientArrival::none;
      }
    }
    CHECK(forward == hops);
    CHECK(backward == hops);
    CHECK(gradients == hops);
    CHECK(arrivals == hops);
  });
}

TEST_CASE("Forward takes one step a piece and rank; backward one more, so that the last gradient comes home hidden") {
  for_all_rings([](int ranks, std::int64_t pieces) {
    const Ring ring(0, ranks, pieces);
    CHECK(ring.forward_steps() == ranks * pieces);
    CHECK(ring.backward_steps() == ranks * pieces + (ranks > 1 && pieces > 0 ? 1 : 0));
    for (std::int64_t index = 0; index < ring.forward_steps(); ++index) {
      const Step step = ring.forward(index);
      CHECK(step.queries == QueryShare::all);
      CHECK_FALSE(step.send_gradient);
      CHECK(step.arrival == GradientArrival::none);
    }
    // Every message of the backward pass has a step's computation to hide behind.
    if (ring.backward_steps() > ring.forward_steps()) {
      const Step last = ring.backward(ring.backward_steps() - 1);
      CHECK(last.arrival == GradientArrival::home);
      CHECK(last.queries == QueryShare::second_half);
      CHECK_FALSE(last.pass_on);
    }
  });
}

TEST_CASE("Neighbours on the ring know each other") {
  for (int ranks = 1; ranks <= most_ranks; ++ranks) {
    for (int rank = 0; rank < ranks; ++rank) {
      const Ring ring(rank, ranks, 1);
      CHECK(ring.next() == (rank + 1 == ranks ? 0 : rank + 1));
      CHECK(Ring(ring.next(), ranks, 1).previous() == rank);
    }
  }
}

TEST_CASE("A schedule is a few numbers, however long the sequence") {
  static_assert(std::is_trivially_copyable_v<Ring> && sizeof(Ring) <= 4 * sizeof(std::int64_t));
  const std::int64_t pieces = std::int64_t{1} << 40;
  const Ring ring(3, 1000, pieces);
  const Step step = ring.forward(1000 * (pieces - 1) + 7);
  CHECK(step.piece == pieces - 1);
  CHECK(step.hop == 7);
  CHECK(step.owner == 996);
}

/// Changes one step of one rank.
class FaultyRing {
 public:
  using Fault = void (*)(Step&);
  FaultyRing(const Ring& ring, std::int64_t index, Fault fault) : ring_(ring), index_(index), fault_(fault) {}
  std::int64_t forward_steps() const { return ring_.forward_steps(); }
  std::int64_t backward_steps() const { return ring_.backward_steps(); }
  Step forward(std::int64_t index) const { return changed(ring_.forward(index), index); }
  Step backward(std::int64_t index) const { return changed(ring_.backward(index), index); }

 private:
  Step changed(Step step, std::int64_t index) const {
    if (index == index_) fault_(step);
    return step;
  }
  Ring ring_;
  std::int64_t index_;
  Fault fault_;
};

/// How many single faults of a kind, one at every step of every rank in turn, the machine overlooks.
int overlooked(bool backward, FaultyRing::Fault fault) {
  int count = 0;
  for (const int ranks : {2, 3, 5}) {
    for (const std::int64_t pieces : {1, 3}) {
      for (int guilty = 0; guilty < ranks; ++guilty) {
        const Ring whole(guilty, ranks, pieces);
        const std::int64_t steps = backward ? whole.backward_steps() : whole.forward_steps();
        for (std::int64_t index = 0; index < steps; ++index) {
          std::vector<FaultyRing> rings;
          for (int rank = 0; rank < ranks; ++rank) {
            rings.emplace_back(Ring(rank, ranks, pieces), rank == guilty ? index : -1, fault);
          }
          if (Machine<FaultyRing>(rings, pieces, backward).run().empty()) ++count;
        }
      }
    }
  }
  return count;
}

TEST_CASE("The machine notices every single fault planted in a schedule") {
  for (const bool backward : {false, true}) {
    INFO((backward ? "backward" : "forward"));
    CHECK(overlooked(backward, [](Step& step) { step.pass_on = !step.pass_on; }) == 0);
    CHECK(overlooked(backward, [](Step& step) { step.owner = step.owner == 0 ? 1 : 0; }) == 0);
    CHECK(overlooked(backward, [](Step& step) { ++step.hop; }) == 0);
    CHECK(overlooked(backward, [](Step& step) { step.piece = step.piece == 0 ? 1 : 0; }) == 0);
    CHECK(overlooked(backward, [](Step& step) {
            step.queries = step.queries == QueryShare::first_half ? QueryShare::all : QueryShare::first_half;
          }) == 0);
  }
  CHECK(overlooked(true, [](Step& step) { step.send_gradient = !step.send_gradient; }) == 0);
  CHECK(overlooked(true, [](Step& step) {
          step.arrival = step.arrival == GradientArrival::none ? GradientArrival::visitor : GradientArrival::none;
        }) == 0);
  CHECK(overlooked(true, [](Step& step) {
          step.arrival = step.arrival == GradientArrival::home ? GradientArrival::visitor : GradientArrival::home;
        }) == 0);
}

}  // namespace
