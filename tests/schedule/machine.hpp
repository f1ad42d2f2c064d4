/// \file
/// A little machine of N ranks that does what a schedule says with marked blocks instead of numbers, and complains.
/// It has the meaning of a step's fields from their documentation alone: no engine, no communicator.
#pragma once

#include <rondo/schedule/ring.hpp>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace schedule_test {

using rondo::schedule::GradientArrival;
using rondo::schedule::QueryShare;
using rondo::schedule::Ring;
using rondo::schedule::Step;

/// A piece: its owner and its index there.
using Name = std::pair<int, std::int64_t>;

/// A packed piece on its way, and how often it was sent on.
struct Block {
  Name name;
  int hops = 0;
};

/// A gradient of a piece: which halves of whose queries are in it, how often each.
struct Gradient {
  Name name;
  std::map<std::pair<int, int>, int> parts;  ///< (rank, half) -> times
  int hops = 0;
};

/// What a message carries: one of the two.
struct Parcel {
  std::int64_t step = 0;
  std::optional<Block> block;
  std::optional<Gradient> gradient;
};

/// One schedule for each rank. `Schedule` has the members of Ring, so that faults can be planted between the two.
template <class Schedule>
class Machine {
 public:
  Machine(std::vector<Schedule> schedules, std::int64_t pieces, bool backward)
      : schedules_(std::move(schedules)), pieces_(pieces), backward_(backward), ranks_(schedules_.size()) {}

  /// Runs all ranks to the end. Empty when everything went as it must, else the first thing that did not.
  std::string run() {
    for (int rank = 0; rank < size(); ++rank) {
      if (steps(rank) != steps(0)) return text("rank ", rank, " has ", steps(rank), " steps, rank 0 ", steps(0));
    }
    for (std::int64_t index = 0; index < steps(0) && complaint_.empty(); ++index) {
      // All of a step's messages leave before any is waited for.
      for (int rank = 0; rank < size(); ++rank) send(rank, index);
      for (int rank = 0; rank < size() && complaint_.empty(); ++rank) work(rank, index);
    }
    if (complaint_.empty()) look_at_the_end();
    return complaint_;
  }

 private:
  struct Rank {
    std::optional<Block> held;         ///< what the next step computes with
    std::optional<Gradient> own;       ///< of the rank's own latest piece
    std::optional<Gradient> complete;  ///< of the visitor of the step before: to be sent
    std::deque<Parcel> inbox;          ///< from the previous rank
    std::map<std::pair<Name, int>, int> computed;  ///< (piece, half of own queries) -> times
    std::map<std::int64_t, Gradient> stored;
  };

  template <class... Parts>
  static std::string text(const Parts&... parts) {
    std::string result;
    const auto add = [&result](const auto& part) {
      if constexpr (requires { std::to_string(part); }) {
        result += std::to_string(part);
      } else {
        result += part;
      }
    };
    (add(parts), ...);
    return result;
  }
  static std::string text(const Name& name) { return text("piece ", name.second, " of rank ", name.first); }
  void complain(const std::string& what) {
    if (complaint_.empty()) complaint_ = what;
  }

  int size() const { return static_cast<int>(ranks_.size()); }
  Rank& at(int rank) { return ranks_[static_cast<std::size_t>(rank)]; }
  const Schedule& schedule(int rank) const { return schedules_[static_cast<std::size_t>(rank)]; }
  std::int64_t steps(int rank) const { return backward_ ? schedule(rank).backward_steps() : schedule(rank).forward_steps(); }
  Step step(int rank, std::int64_t index) const {
    return backward_ ? schedule(rank).backward(index) : schedule(rank).forward(index);
  }
  static std::vector<int> halves(QueryShare share) {
    if (share == QueryShare::all) return {0, 1};
    return {share == QueryShare::first_half ? 0 : 1};
  }

  void send(int rank, std::int64_t index) {
    const Step now = step(rank, index);
    Rank& mine = at(rank);
    if (now.pack) mine.held = Block{{rank, now.piece}};
    if (!mine.held) return complain(text("rank ", rank, " has nothing to compute with at step ", index));
    if (mine.held->name != Name{now.owner, now.piece}) {
      return complain(text("rank ", rank, " holds ", text(mine.held->name), " at step ", index, ", the step wants ",
                           text(Name{now.owner, now.piece})));
    }
    if (mine.held->hops != now.hop) {
      complain(text(text(mine.held->name), " came to rank ", rank, " in ", mine.held->hops, " hops, not ", now.hop));
    }
    auto& inbox = at((rank + 1) % size()).inbox;
    if (now.pass_on) {
      Block block = *mine.held;
      ++block.hops;
      inbox.push_back({index, block, {}});
    }
    if (now.send_gradient) {
      if (!mine.complete) return complain(text("rank ", rank, " has no gradient to send at step ", index));
      ++mine.complete->hops;
      inbox.push_back({index, {}, std::exchange(mine.complete, {})});
    }
  }

  /// The next message, which must have been sent in this very step: ranks wait for each other at every step.
  std::optional<Parcel> receive(int rank, std::int64_t index) {
    auto& inbox = at(rank).inbox;
    if (inbox.empty()) {
      complain(text("rank ", rank, " waits at step ", index, " for what nobody sends"));
      return {};
    }
    Parcel parcel = inbox.front();
    inbox.pop_front();
    if (parcel.step != index) complain(text("rank ", rank, " receives at step ", index, " what left at ", parcel.step));
    return parcel;
  }

  void work(int rank, std::int64_t index) {
    const Step now = step(rank, index);
    Rank& mine = at(rank);
    const Name name{now.owner, now.piece};
    if (mine.complete) complain(text("rank ", rank, " never sends the gradient of ", text(mine.complete->name)));
    for (const int half : halves(now.queries)) ++mine.computed[{name, half}];
    Gradient partial{name, {}};
    for (const int half : halves(now.queries)) ++partial.parts[{rank, half}];

    mine.held.reset();
    if (now.pass_on) {
      const auto parcel = receive(rank, index);
      if (!parcel) return;
      if (!parcel->block) return complain(text("rank ", rank, " gets a gradient for a block at step ", index));
      mine.held = parcel->block;
    }
    if (backward_) add_gradients(rank, index, now, std::move(partial));
    if (!mine.inbox.empty()) complain(text("nobody waits for what rank ", rank, " is sent at step ", index));
  }

  void add_gradients(int rank, std::int64_t index, const Step& now, Gradient partial) {
    Rank& mine = at(rank);
    std::optional<Gradient> arrived;
    if (now.arrival != GradientArrival::none) {
      const auto parcel = receive(rank, index);
      if (!parcel) return;
      if (!parcel->gradient) return complain(text("rank ", rank, " gets a block for a gradient at step ", index));
      arrived = parcel->gradient;
    }
    const bool is_own = now.owner == rank;
    const bool continues = is_own && mine.own && mine.own->name == partial.name;  // the rest of its queries
    if (continues) merge(*mine.own, partial);
    if (now.arrival == GradientArrival::home) {
      if (!mine.own || mine.own->name != arrived->name) {
        return complain(text(text(arrived->name), "'s gradient comes home to rank ", rank, " at step ", index,
                             ", which does not expect it"));
      }
      if (arrived->hops != size() - 1) complain(text(text(arrived->name), "'s gradient is home too early"));
      merge(*mine.own, *arrived);
      store(rank);
    }
    if (now.arrival == GradientArrival::visitor) {
      if (arrived->name != partial.name) {
        return complain(text("rank ", rank, " adds to the gradient of ", text(arrived->name), " at step ", index,
                             " what belongs to ", text(partial.name)));
      }
      merge(partial, *arrived);
      partial.hops = arrived->hops;
    }
    if (!is_own) {
      mine.complete = std::move(partial);
    } else if (!continues) {
      if (mine.own) complain(text("the gradient of ", text(mine.own->name), " is lost at step ", index));
      mine.own = std::move(partial);
      if (size() == 1) store(rank);
    }
  }

  static void merge(Gradient& sum, const Gradient& term) {
    for (const auto& [part, times] : term.parts) sum.parts[part] += times;
  }

  void store(int rank) {
    Rank& mine = at(rank);
    if (!mine.stored.emplace(mine.own->name.second, *mine.own).second) {
      complain(text("the gradient of ", text(mine.own->name), " is stored twice"));
    }
    mine.own.reset();
  }

  void look_at_the_end() {
    for (int rank = 0; rank < size(); ++rank) {
      const Rank& mine = at(rank);
      if (mine.held) complain(text("rank ", rank, " ends with a block that it does not compute with"));
      if (mine.own || mine.complete) complain(text("rank ", rank, " ends with a gradient that is not home"));
      for (int owner = 0; owner < size(); ++owner) {
        for (std::int64_t piece = 0; piece < pieces_; ++piece) {
          for (const int half : {0, 1}) {
            const auto found = mine.computed.find({Name{owner, piece}, half});
            const int times = found == mine.computed.end() ? 0 : found->second;
            if (times != 1) complain(text("half ", half, " of rank ", rank, " meets ", text({owner, piece}), " ", times,
                                          " times"));
          }
        }
      }
      if (mine.computed.size() != 2 * ranks_.size() * static_cast<std::size_t>(pieces_)) {
        complain(text("rank ", rank, " computes with pieces that do not exist"));
      }
      if (backward_) look_at_gradients(rank);
    }
  }

  void look_at_gradients(int rank) {
    const Rank& mine = at(rank);
    if (mine.stored.size() != static_cast<std::size_t>(pieces_)) {
      return complain(text("rank ", rank, " stores ", mine.stored.size(), " gradients of ", pieces_, " pieces"));
    }
    for (const auto& [piece, gradient] : mine.stored) {
      if (gradient.parts.size() != 2 * ranks_.size()) complain(text(text(gradient.name), "'s gradient lacks a part"));
      for (const auto& [part, times] : gradient.parts) {
        if (times != 1) complain(text("rank ", part.first, " is ", times, " times in ", text(gradient.name)));
      }
    }
  }

  std::vector<Schedule> schedules_;
  std::int64_t pieces_;
  bool backward_;
  std::vector<Rank> ranks_;
  std::string complaint_;
};

}  // namespace schedule_test
