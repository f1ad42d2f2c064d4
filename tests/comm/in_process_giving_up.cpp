/// What happens to messages and collectives that some rank gives up, is refused, or comes late to.
#include "in_process_launcher.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace comm_test;
using Catch::Matchers::Message;
using rondo::agreement_error;
using rondo::Deadline;
using rondo::Direction;
using rondo::in_process_group;
using rondo::peer_failed;
using Comm = rondo::in_process_communicator<>;
using Segment = SegmentOf<Comm>;

TEST_CASE("A refused split is refused on every rank, also when some call again at once") {
  constexpr int ranks = 3;
  constexpr int rounds = 300;
  std::atomic<int> refused{0};
  in_process_group(ranks, {.deadline = Deadline(30)}).run([&](Comm& comm) {
    for (int round = 0; round < rounds; ++round) {
      try {
        if (comm.rank() == round % ranks) {
          comm.barrier();
        } else {
          static_cast<void>(comm.split(0, 0));
        }
      } catch (const agreement_error&) {
        ++refused;
      }
      if (comm.split(0, comm.rank()).size() != ranks) throw std::runtime_error("the group is not usable any more");
    }
  });
  CHECK(refused == ranks * rounds);
}

TEST_CASE("A transfer that outlives its part of the group names the part's ranks when it fails") {
  std::string text;
  in_process_group(2, {.deadline = Deadline(30)}).run([&](Comm& comm) {
    auto transfer = [&] {
      auto part = comm.split(0, -comm.rank());  // the other way round
      const Segment segments[] = {{Direction::receive, 1 - part.rank(), room<std::byte>(comm, 24)}};
      return part.exchange(part.execution_instance(), std::span(segments, comm.rank() == 0 ? 1 : 0));
    }();
    if (comm.rank() == 1) return;
    try {
      transfer.wait();
    } catch (const peer_failed& failure) {
      text = failure.what();
    }
  });
  CHECK(text == "rank 1 cannot finish: the group was left by rank 0 at exchange (receiving 24 bytes)");
}

TEST_CASE("Asking for a message whose peer has left or failed says that it will never arrive") {
  const auto asked = [](bool fails) {
    std::string text;
    const auto work = [&](Comm& comm) {
      if (comm.rank() == 1) {
        if (fails) throw std::runtime_error("enough");
        return;
      }
      const Segment segments[] = {{Direction::receive, 1, room<std::byte>(comm, 24)}};
      try {
        auto transfer = comm.exchange(comm.execution_instance(), segments);
        while (!transfer.test()) std::this_thread::yield();
      } catch (const peer_failed& failure) {
        text = failure.what();
      }
    };
    in_process_group group(2, {.deadline = Deadline(30)});
    if (fails) {
      CHECK_THROWS_MATCHES(group.run(work), std::runtime_error, Message("enough"));
    } else {
      group.run(work);
    }
    return text;
  };
  CHECK(asked(false) == "rank 0 cannot finish: the group was left by rank 1 at exchange (receiving 24 bytes)");
  CHECK(asked(true) == "rank 1 failed: enough");
}

TEST_CASE("Memory of a message that is given up while it is copied is touched no more") {
  if constexpr (Comm::stream_ordered) SKIP("a device copies: memory is kept until it has");
  // Rank 0 gives up at any moment while rank 1 copies into its memory, then writes the end of it.
  constexpr std::size_t count = std::size_t{1} << 25;
  constexpr int rounds = 200;
  std::vector<std::byte> memory(count);
  int given_up_early = 0;
  int overwritten = 0;
  in_process_group(2, {.deadline = Deadline(30)}).run([&](Comm& comm) {
    const auto& exec = comm.execution_instance();
    const auto source = room<std::byte>(comm, comm.rank() == 1 ? count : 0);
    for (int round = 0; round < rounds && !comm.agree(comm.rank() == 1 || given_up_early >= 10); ++round) {
      if (comm.rank() == 0) {
        std::fill(memory.end() - 64, memory.end(), std::byte{1});
        const Segment receive[] = {{Direction::receive, 1, Segment::Bytes(memory.data(), count)}};
        {
          auto transfer = comm.exchange(exec, receive);
          comm.barrier();
          std::this_thread::sleep_for(std::chrono::microseconds(300 * (round % 20)));
          if (!transfer.test()) ++given_up_early;
        }
        std::fill(memory.end() - 64, memory.end(), std::byte{2});
        comm.barrier();
        if (std::count(memory.end() - 64, memory.end(), std::byte{2}) != 64) ++overwritten;
      } else {
        comm.barrier();
        const Segment send[] = {{Direction::send, 0, source}};
        { auto transfer = comm.exchange(exec, send); }
        comm.barrier();
      }
    }
  });
  CHECK(overwritten == 0);
  CHECK(given_up_early > 0);
}

}  // namespace
