/// Exchanges and the work round them run on streams of their own: only events put them in order, and the host is free.
#include "launcher.hpp"
#include "../stand_in/queued.hpp"

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace comm_test;
using namespace std::chrono_literals;
using rondo::Deadline;
using rondo::Direction;
using stand_in::QueuedExec;
using stand_in::QueuedStreams;
using Control = rondo::in_process_communicator<>;
template <class S>
using Comm = rondo::nccl_communicator<Control, QueuedExec, S>;
using Segment = rondo::Segment<Kokkos::HostSpace>;

// Events that are forgotten, one at a time: `wait` is called for the messages' stream before an exchange, for the
// instance's after it.

inline thread_local const QueuedExec* own_exec = nullptr;

struct ForgetsWhatComesBefore : QueuedStreams {
  static void wait(stream later, event given) {
    if (own_exec == nullptr || later == own_exec->stream()) QueuedStreams::wait(later, given);
  }
};
struct ForgetsWhatComesAfter : QueuedStreams {
  static void wait(stream later, event given) {
    if (own_exec == nullptr || later != own_exec->stream()) QueuedStreams::wait(later, given);
  }
};

struct Outcome {
  std::vector<std::string> found;
  std::vector<std::string> misuses;
};

/// Rounds of: slow work writes what is sent, an exchange, work that copies what has come. On `ranks` ranks.
template <class S>
Outcome run_rounds(int ranks) {
  stand_in::take_misuses();
  stand_in::set_delays({.launch = 300us, .copy = 300us});
  Outcome outcome;
  outcome.found = InProcess::run(ranks, [&](Control& control, Findings& found) {
    const QueuedExec exec;
    own_exec = &exec;
    constexpr std::size_t count = 64;
    constexpr int rounds = 8;
    std::vector<std::vector<std::uint64_t>> copies(rounds);
    {
      Comm<S> comm(control.split(0, control.rank()), exec);
      const auto source = room<std::uint64_t>(comm, count);
      const auto target = room<std::uint64_t>(comm, count);
      for (int round = 0; round < rounds; ++round) {
        exec.queue([=, values = marked(comm.rank(), round, count)] {
          std::this_thread::sleep_for(1ms);
          std::memcpy(source.data(), values.data(), source.size());
        });
        const Segment segments[] = {{Direction::send, next(comm), source},
                                    {Direction::receive, previous(comm), target}};
        auto transfer = comm.exchange(exec, segments);
        transfer.order(exec);
        exec.queue([=, &copies] {
          auto& copy = copies[static_cast<std::size_t>(round)];
          copy.resize(count);
          std::memcpy(copy.data(), target.data(), target.size());
        });
      }
      comm.fence(exec, "rounds");
      for (int round = 0; round < rounds; ++round) {
        const bool right = copies[static_cast<std::size_t>(round)] == marked(previous(comm), round, count);
        found.expect(right, "round " + std::to_string(round));
      }
      exec.fence();
    }
    own_exec = nullptr;
  });
  outcome.misuses = stand_in::take_misuses();
  stand_in::set_delays({});
  return outcome;
}

TEST_CASE("What work wrote before an exchange is sent, and work queued after it finds what has come") {
  for (const int ranks : {1, 2, 3, 4, 7}) {
    INFO(ranks << " ranks");
    const Outcome outcome = run_rounds<QueuedStreams>(ranks);
    CHECK(outcome.found == nothing);
    CHECK(outcome.misuses.empty());
  }
}

TEST_CASE("The check can fail: without an event before or after the exchange there is other data") {
  CHECK_FALSE(run_rounds<ForgetsWhatComesBefore>(3).found.empty());
  CHECK_FALSE(run_rounds<ForgetsWhatComesAfter>(3).found.empty());
}

TEST_CASE("The host goes on while nobody has sent anything, up to the bound on what may be under way") {
  CHECK(InProcess::run(2, [](Control& control, Findings& found) {
          const QueuedExec exec;
          Comm<QueuedStreams> comm(control.split(0, control.rank()), exec, {.under_way = 4});
          // The first exchange connects the two; after that nothing waits.
          std::vector<BytesOf<decltype(comm)>> targets;
          for (int i = 0; i < 7; ++i) targets.push_back(room<std::uint64_t>(comm, 10));
          const auto exchange = [&](int i) {
            const Segment receive[] = {{Direction::receive, 1, targets[static_cast<std::size_t>(i)]}};
            const Segment send[] = {{Direction::send, 0, packed(control, marked(1, i, 10))}};
            comm.exchange(exec, comm.rank() == 0 ? receive : send).order(exec);
          };
          exchange(0);
          comm.barrier();
          if (comm.rank() == 0) {
            for (int i = 1; i < 5; ++i) exchange(i);  // rank 1 sends nothing before rank 0 has come here
            comm.barrier();
            for (int i = 5; i < 7; ++i) exchange(i);
          } else {
            comm.barrier();
            std::this_thread::sleep_for(2ms);
            for (int i = 1; i < 7; ++i) exchange(i);
          }
          comm.fence(exec, "host");
          for (int i = 0; i < 7 && comm.rank() == 0; ++i) {
            const auto came = unpacked<std::uint64_t>(targets[static_cast<std::size_t>(i)]);
            found.expect(came == marked(1, i, 10), "message " + std::to_string(i));
          }
        }) == nothing);
  CHECK(stand_in::take_misuses().empty());
}

TEST_CASE("Memory is kept until its message has left, whatever becomes of the transfer") {
  CHECK(InProcess::run(2, [](Control& control, Findings& found) {
          Comm<QueuedStreams> comm(control.split(0, control.rank()), QueuedExec{});
          const auto source = packed(control, marked(control.rank(), 3, 20));
          const auto target = room<std::uint64_t>(comm, 20);
          const Segment send[] = {{Direction::send, 1, source}};
          const Segment receive[] = {{Direction::receive, 0, target}};
          const int before = static_cast<int>(source.use_count());
          if (comm.rank() == 0) {
            static_cast<void>(comm.exchange(QueuedExec{}, send));
            found.equal(static_cast<int>(source.use_count()), before + 1, "those who hold what is sent");
            comm.barrier();
            comm.exchange(QueuedExec{}, send).wait();  // after the first
            found.equal(static_cast<int>(source.use_count()), before, "those who hold what has been sent");
          } else {
            comm.barrier();
            for (int i = 0; i < 2; ++i) comm.exchange(QueuedExec{}, receive).wait();
            found.expect(unpacked<std::uint64_t>(target) == marked(0, 3, 20), "a message whose transfer was dropped");
          }
        }) == nothing);
}

}  // namespace
