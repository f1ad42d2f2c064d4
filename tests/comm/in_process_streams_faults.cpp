/// What goes wrong in an in-process group over streams: ranks that never come, throw or leave, queues that stand still, copies
/// that fail. Everybody is told within the deadline, and nothing is left waiting in a queue.
#include "streams_launcher.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace comm_test;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using rondo::Deadline;
using rondo::Direction;
using rondo::peer_failed;
using rondo::timeout_error;
using Segment = rondo::Segment<Kokkos::HostSpace>;

constexpr Deadline short_deadline{0.5};

/// What each rank's work threw, as text; "" for nothing. Exceptions of the work's own leave it.
template <class S = QueuedStreams, class Work>
std::vector<std::string> outcomes(int ranks, const Work& work, Deadline deadline = short_deadline) {
  std::vector<std::string> texts(static_cast<std::size_t>(ranks));
  try {
    QueuedGroup<S>(ranks, {.deadline = deadline}).run([&](auto& comm) {
      std::string& text = texts[static_cast<std::size_t>(comm.rank())];
      try {
        work(comm);
      } catch (const timeout_error& failure) {
        text = std::string("timeout_error: ") + failure.what();
      } catch (const peer_failed& failure) {
        text = std::string("peer_failed: ") + failure.what();
      } catch (const std::exception& failure) {
        text = failure.what();
        throw;
      }
    });
  } catch (const std::exception&) {
  }
  return texts;
}

template <class Comm>
auto start(Comm& comm, Direction direction, int peer, std::size_t bytes) {
  const Segment segments[] = {{direction, peer, room<std::byte>(comm, bytes)}};
  return comm.exchange(comm.execution_instance(), segments, {"forward", 3});
}

/// Does nothing until another rank is known to have failed.
template <class Comm>
void stand_by(Comm& comm) {
  for (;; std::this_thread::sleep_for(1ms)) comm.listen();
}

/// Waits in one of four ways.
template <class Comm, class Transfer>
void wait_in(int way, Comm& comm, Transfer& transfer) {
  if (way == 0) transfer.wait();
  while (way == 1 && !transfer.test()) std::this_thread::yield();
  if (way >= 2) transfer.order(comm.execution_instance());
  if (way == 2) comm.fence(comm.execution_instance(), "fence");
  while (way == 3) start(comm, Direction::send, comm.rank(), 8);  // any later exchange tells
}

TEST_CASE("Over streams a rank that never comes costs the others the deadline, and they are told of peer and hop") {
  const std::string needed = "rank 0 waited 0.5 s for rank 1 at hop 3 of forward (receiving 4160 bytes)";
  for (const int way : {0, 2}) {
    const auto texts = outcomes(3, [&](auto& comm) {
      if (comm.rank() != 0) stand_by(comm);
      auto transfer = start(comm, Direction::receive, 1, 4160);
      wait_in(way, comm, transfer);
    });
    CHECK(texts[0] == "timeout_error: " + needed);
    CHECK(texts[1] == "peer_failed: rank 0 failed: " + needed);
    CHECK(texts[2] == texts[1]);
  }
}

TEST_CASE("Over streams a rank whose queue stands still costs the others the deadline, whichever way they wait") {
  const std::string needed = "rank 0 waited 0.5 s for rank 1 at hop 3 of forward (receiving 4160 bytes)";
  for (const int second : {0, 1}) {  // who queues the copy
    for (int way = 0; way < 4; ++way) {
      std::shared_ptr<Gate> gate;
      bool went_on = false;
      const auto texts = outcomes(2, [&](auto& comm) {
        const auto receive = [&] { return start(comm, Direction::receive, 1, 4160); };
        if (comm.rank() == 0) {
          if (second == 0) comm.barrier();
          auto transfer = receive();
          if (second == 1) comm.barrier();
          try {
            wait_in(way, comm, transfer);
          } catch (const timeout_error&) {
            gate->open();
            comm.execution_instance().fence();  // would hang if something stood in its way
            went_on = true;
            throw;
          }
        } else {
          gate = Gate::hold(comm.execution_instance());
          if (second == 1) comm.barrier();
          auto transfer = start(comm, Direction::send, 0, 4160);
          if (second == 0) comm.barrier();
          transfer.order(comm.execution_instance());
          stand_by(comm);
        }
      });
      INFO("way " << way << ", rank " << second << " comes second");
      CHECK(texts[0] == "timeout_error: " + needed);
      CHECK(texts[1] == "peer_failed: rank 0 failed: " + needed);
      CHECK(went_on);
      CHECK(!gate->opened_by_itself());
    }
  }
}

TEST_CASE("Over streams the deadline does not count while a rank's own work holds a message up") {
  for (int way = 0; way < 3; ++way) {
    const auto texts = outcomes(2, [&](auto& comm) {
      comm.execution_instance().queue([] { std::this_thread::sleep_for(2 * short_deadline); });
      auto transfer = start(comm, comm.rank() == 0 ? Direction::send : Direction::receive, 1 - comm.rank(), 64);
      wait_in(way, comm, transfer);
    });
    CHECK(texts == std::vector<std::string>{"", ""});
  }
}

TEST_CASE("Over streams a rank that throws or leaves is heard of at once, and queues go on") {
  for (const bool throws : {true, false}) {
    const auto begin = std::chrono::steady_clock::now();
    bool went_on = false;
    const auto texts = outcomes(
        3,
        [&](auto& comm) {
          comm.barrier();
          if (comm.rank() == 1) {
            if (throws) throw std::runtime_error("enough");
            return;
          }
          if (comm.rank() == 2) return;
          try {
            start(comm, Direction::receive, 1, 8).order(comm.execution_instance());
          } catch (const peer_failed&) {
            comm.execution_instance().fence();
            went_on = true;
            throw;
          }
        },
        Deadline(60));
    CHECK(texts[0] == (throws ? "peer_failed: rank 1 failed: enough"
                              : "peer_failed: rank 0 cannot finish: the group was left by rank 1 at hop 3 of forward "
                                "(receiving 8 bytes)"));
    CHECK(went_on);
    CHECK(std::chrono::steady_clock::now() - begin < 30s);
  }
}

TEST_CASE("Over streams a rank that throws after both halves are there leaves the other what it needs") {
  bool is_right = false;
  const auto work = [&](auto& comm) {
    const QueuedExec exec = comm.execution_instance();
    if (comm.rank() == 1) {
      comm.barrier();
      exec.queue([] { std::this_thread::sleep_for(20ms); });
      const Segment segments[] = {{Direction::send, 0, packed(comm, marked(1, 0, 50))}};
      comm.exchange(exec, segments).order(exec);
      throw std::runtime_error("enough");
    }
    const auto target = room<std::uint64_t>(comm, 50);
    const Segment segments[] = {{Direction::receive, 1, target}};
    auto transfer = comm.exchange(exec, segments);
    comm.barrier();
    transfer.wait();
    is_right = unpacked<std::uint64_t>(target) == marked(1, 0, 50);
  };
  CHECK(outcomes(2, work, Deadline(60)) == std::vector<std::string>{"", "enough"});
  CHECK(is_right);
}

TEST_CASE("Over streams a message of another length than expected is refused on both sides") {
  const auto texts = outcomes(2, [](auto& comm) {
    auto transfer = comm.rank() == 0 ? start(comm, Direction::send, 1, 16) : start(comm, Direction::receive, 0, 24);
    transfer.order(comm.execution_instance());
  });
  CHECK(texts == std::vector<std::string>(2, "rank 0 sends 16 bytes where rank 1 expects 24"));
}

/// A runtime in which something fails, once it has been switched on.
struct Failing : QueuedStreams {
  static inline std::atomic<bool> copies_fail{false}, questions_fail{false};
  static void copy(stream on, void* target, const void* source, std::size_t bytes) {
    if (copies_fail) throw rondo::error("copy failed: no more of it");
    QueuedStreams::copy(on, target, source, bytes);
  }
  static bool reached(event given) {
    if (questions_fail) throw rondo::error("reached failed: an illegal address");
    return QueuedStreams::reached(given);
  }
};

TEST_CASE("Over streams a copy that fails, at once or later, breaks the group with the runtime's words") {
  for (std::atomic<bool>* const fails : {&Failing::copies_fail, &Failing::questions_fail}) {
    *fails = true;
    const auto texts = outcomes<Failing>(2, [](auto& comm) {
      if (comm.rank() == 0) comm.barrier();  // and comes second
      auto transfer = start(comm, comm.rank() == 0 ? Direction::send : Direction::receive, 1 - comm.rank(), 8);
      if (comm.rank() == 1) {
        comm.barrier();
        stand_by(comm);
      }
      transfer.wait();
    });
    *fails = false;
    CHECK_THAT(texts[0], ContainsSubstring("failed: "));
    CHECK(texts[1] == "peer_failed: rank 0 failed: " + texts[0]);
  }
}

TEST_CASE("Over streams what a queue that never goes on may still touch is not given back, and nobody waits for it") {
  std::shared_ptr<Gate> gate;

  const auto begin = std::chrono::steady_clock::now();
  std::optional<QueuedExec> held;  // as a stream of the user's, which outlives the group
  Segment::Bytes source("source", 8);
  outcomes(2, [&](auto& comm) {
    if (comm.rank() == 0) {
      start(comm, Direction::receive, 1, 8).wait();
    } else {
      held.emplace();
      gate = Gate::hold(*held);
      const Segment segments[] = {{Direction::send, 0, source}};
      comm.exchange(*held, segments).order(*held);
      stand_by(comm);
    }
  });
  CHECK(std::chrono::steady_clock::now() - begin < 15s);
  CHECK(source.use_count() == 2);
  gate->open();
  held->fence();
  CHECK(!gate->opened_by_itself());
}

}  // namespace
