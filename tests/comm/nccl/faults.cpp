/// What goes wrong on the way: peers that never come or fail, errors of NCCL's own, calls that could never end. Nothing
/// hangs, and the device's queue goes on.
#include "launcher.hpp"
#include "../stand_in/queued.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace comm_test;
using namespace std::chrono_literals;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::Message;
using rondo::Deadline;
using rondo::Direction;
using rondo::in_process_group;
using rondo::peer_failed;
using rondo::timeout_error;
using stand_in::QueuedExec;
using stand_in::QueuedStreams;
using Control = rondo::in_process_communicator<>;
using Queued = rondo::nccl_communicator<Control, QueuedExec, QueuedStreams>;
using Segment = rondo::Segment<Kokkos::HostSpace>;

constexpr Deadline short_deadline{0.5};

/// What each rank's work threw, as text; "" for nothing.
template <class Work>
std::vector<std::string> outcomes(int ranks, const Work& work) {
  std::vector<std::string> texts(static_cast<std::size_t>(ranks));
  try {
    in_process_group(ranks, {.deadline = short_deadline}).run([&](Control& control) {
      std::string& text = texts[static_cast<std::size_t>(control.rank())];
      try {
        work(control);
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
  stand_in::take_misuses();
  CHECK(stand_in::open_communicators() == 0);
  return texts;
}

template <class Comm>
auto receive_from(Comm& comm, int peer, std::size_t bytes) {
  const Segment segments[] = {{Direction::receive, peer, room<std::byte>(comm, bytes)}};
  return comm.exchange(comm.execution_instance(), segments, {"forward", 3});
}

/// Does nothing until another rank is known to have failed.
void stand_by(Control& control) {
  for (;; std::this_thread::sleep_for(1ms)) control.listen();
}

TEST_CASE("A peer that never comes costs the deadline, whichever way the host waits, and all are told") {
  const std::string needed = "rank 0 waited 0.5 s at hop 3 of forward (receiving 4160 bytes from rank 1)";
  for (int way = 0; way < 4; ++way) {
    const auto texts = outcomes(3, [&](Control& control) {
      Queued comm(control.split(0, control.rank()), QueuedExec{});
      if (comm.rank() == 0) {
        auto transfer = receive_from(comm, 1, 4160);
        const QueuedExec exec;
        if (way == 0) transfer.wait();
        while (way == 1 && !transfer.test()) std::this_thread::yield();
        transfer.order(exec);
        if (way == 2) comm.fence(exec, "fence");
        if (way == 3) {
          for (int i = 0; i < 100; ++i) receive_from(comm, 1, 4160).order(exec);  // more than may be under way
        }
      } else {
        stand_by(control);
      }
    });
    INFO("way " << way);
    CHECK(texts[0] == "timeout_error: " + needed);
    CHECK(texts[1] == "peer_failed: rank 0 failed: " + needed);
    CHECK(texts[2] == texts[1]);
  }
}

TEST_CASE("After a failure the device's queue goes on, and the communicator refuses every call") {
  bool went_on = false;
  std::string again, collective;
  outcomes(2, [&](Control& control) {
    const QueuedExec exec;
    Queued comm(control.split(0, control.rank()), exec);
    if (comm.rank() == 1) return stand_by(control);
    CHECK(comm.handle() != nullptr);
    try {
      receive_from(comm, 1, 8).order(exec);
      comm.fence(exec, "fence");
    } catch (const timeout_error&) {
    }
    CHECK(comm.handle() == nullptr);
    exec.fence();  // would hang if the exchange still stood in its way
    went_on = true;
    try {
      receive_from(comm, 1, 8);
    } catch (const peer_failed& failure) {
      again = failure.what();
    }
    try {
      comm.barrier();
    } catch (const peer_failed& failure) {
      collective = failure.what();
    }
  });
  CHECK(went_on);
  const std::string needed =
      "this communicator has failed: rank 0 waited 0.5 s at hop 3 of forward (receiving 8 bytes from rank 1)";
  CHECK(again == needed);
  CHECK(collective == needed);
}

TEST_CASE("The deadline does not count while a rank's own work holds an exchange up") {
  const auto texts = outcomes(2, [](Control& control) {
    const QueuedExec exec;
    Queued comm(control.split(0, control.rank()), exec);
    const auto source = packed(control, marked(comm.rank(), 0, 4));
    const auto target = room<std::uint64_t>(comm, 4);
    exec.queue([] { std::this_thread::sleep_for(std::chrono::duration<double>(2 * short_deadline)); });
    const Segment segments[] = {{Direction::send, 1 - comm.rank(), source},
                                {Direction::receive, 1 - comm.rank(), target}};
    comm.exchange(exec, segments).wait();
    if (unpacked<std::uint64_t>(target) != marked(1 - comm.rank(), 0, 4)) throw std::runtime_error("other data");
  });
  CHECK(texts == std::vector<std::string>{"", ""});
}

TEST_CASE("A rank that leaves with an exception is heard of at once by those who wait for it") {
  const auto begin = std::chrono::steady_clock::now();
  std::string text;
  CHECK_THROWS_MATCHES(in_process_group(3, {.deadline = Deadline(60)}).run([&](Control& control) {
    Queued comm(control.split(0, control.rank()), QueuedExec{});
    comm.barrier();
    if (comm.rank() == 1) throw std::runtime_error("enough");
    try {
      receive_from(comm, 1, 8).wait();
    } catch (const peer_failed& failure) {
      if (comm.rank() == 0) text = failure.what();
    }
  }),
                       std::runtime_error, Message("enough"));
  CHECK(text == "rank 1 failed: enough");
  CHECK(std::chrono::steady_clock::now() - begin < 30s);
}

TEST_CASE("An error that NCCL meets on the way is thrown with its words, and the others are told") {
  for (const auto& [code, type] : {std::pair{ncclRemoteError, "peer_failed: "}, std::pair{ncclSystemError, ""}}) {
    const auto texts = outcomes(2, [&, code = code](Control& control) {
      Queued comm(control.split(0, control.rank()), QueuedExec{});
      comm.barrier();
      if (comm.rank() == 1) stand_in::break_down(comm.handle(), code);
      receive_from(comm, 1 - comm.rank(), 8).wait();
    });
    const std::string words = ncclGetErrorString(code);
    CHECK_THAT(texts[1], ContainsSubstring(words + ": the stand-in's last words"));
    CHECK(texts[1].starts_with(type));
    CHECK_THAT(texts[0], ContainsSubstring("peer_failed: rank 1 failed: ") && ContainsSubstring(words));
  }
}

TEST_CASE("A rank that does not make its communicator costs the others the deadline") {
  const auto texts = outcomes(3, [](Control& control) {
    auto part = control.split(0, control.rank());
    if (part.rank() == 2) {  // takes part in the handing round only
      std::vector<std::byte> invitation(sizeof(ncclResult_t) + sizeof(ncclUniqueId));
      part.broadcast(std::span(invitation), 0);
      stand_by(control);
    } else {
      Queued comm(std::move(part), QueuedExec{});
    }
  });
  CHECK_THAT(texts[0] + texts[1], ContainsSubstring("waited 0.5 s for the others at ncclCommInitRankConfig"));
  CHECK(texts[0] != "");
  CHECK(texts[1] != "");
  CHECK_THAT(texts[2], ContainsSubstring("peer_failed: "));
}

TEST_CASE("A send and a receive that wait for each other in different exchanges never end: the stand-in sees it") {
  std::vector<std::string> misuses;
  try {
    in_process_group(3, {.deadline = Deadline(30)}).run([](Control& control) {
      Queued comm(control.split(0, control.rank()), QueuedExec{});
      const auto bytes = room<std::byte>(comm, 8);
      const Segment send[] = {{Direction::send, next(comm), bytes}};
      const Segment receive[] = {{Direction::receive, previous(comm), bytes}};
      auto first = comm.exchange(QueuedExec{}, send);
      auto second = comm.exchange(QueuedExec{}, receive);
      second.wait();
    });
    FAIL("a circle of sends ended");
  } catch (const rondo::error& failure) {
    CHECK_THAT(failure.what(), ContainsSubstring("internal error"));
  }
  misuses = stand_in::take_misuses();
  REQUIRE(misuses.size() == 1);
  CHECK(misuses[0] == "the groups of all 3 ranks wait for messages of later groups");
}

TEST_CASE("The stand-in tells of what NCCL forbids") {
  stand_in::take_misuses();
  stand_in::set_delays({.launch = 20ms});
  in_process_group(2, {.deadline = Deadline(30)}).run([](Control& control) {
    Queued comm(control.split(0, control.rank()), QueuedExec{});
    const auto target = room<std::byte>(comm, 8 + static_cast<std::size_t>(comm.rank()));
    const Segment segments[] = {{Direction::send, 1 - comm.rank(), target},
                                {Direction::receive, 1 - comm.rank(), room<std::byte>(comm, 8)}};
    auto transfer = comm.exchange(QueuedExec{}, segments);  // 9 bytes where 8 are expected
    if (comm.rank() == 0) {
      const CUstream_st* none = nullptr;
      CHECK(ncclSend(target.data(), 1, ncclInt8, 1, comm.handle(), const_cast<CUstream_st*>(none)) == ncclInvalidUsage);
    }
    transfer.wait();
    comm.barrier();
  });
  stand_in::set_delays({});
  const auto misuses = stand_in::take_misuses();
  REQUIRE(misuses.size() == 2);
  CHECK(misuses[0] == "ncclSend on rank 0 while a call on its communicator is in progress");
  CHECK(misuses[1] == "rank 1 sends 9 bytes where rank 0 expects 8");
}

TEST_CASE("A user's ncclComm_t and stream are used, and stay the user's") {
  for (const int blocking : {0, 1}) {
    CHECK(InProcess::run(3, [&](Control& control, Findings& found) {
            ncclUniqueId id{};
            if (control.rank() == 0) ncclGetUniqueId(&id);
            control.broadcast(std::as_writable_bytes(std::span(&id, 1)), 0);
            ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
            config.blocking = blocking;
            ncclComm_t mine = nullptr;
            ncclCommInitRankConfig(&mine, 3, id, control.rank(), &config);
            ncclResult_t state = ncclInProgress;
            while (state == ncclInProgress) ncclCommGetAsyncError(mine, &state);
            CUstream_st stream;
            {
              Queued comm(control.split(0, control.rank()), mine, &stream, QueuedExec{});
              found.expect(comm.handle() == mine, "another ncclComm_t");
              const auto target = room<std::uint64_t>(comm, 5);
              const Segment segments[] = {{Direction::send, next(comm), packed(control, marked(comm.rank(), 0, 5))},
                                          {Direction::receive, previous(comm), target}};
              comm.exchange(QueuedExec{}, segments).wait();
              found.expect(unpacked<std::uint64_t>(target) == marked(previous(comm), 0, 5), "what has come");
              auto part = comm.split(comm.rank() == 0 ? 0 : 1, 0);
              found.expect(part.handle() != mine, "a part has its whole's ncclComm_t");
            }
            control.barrier();
            int size = 0;
            found.expect(ncclCommCount(mine, &size) == ncclSuccess && size == 3, "the ncclComm_t has ended");
            ncclCommDestroy(mine);
          }) == nothing);
    CHECK(stand_in::take_misuses().empty());
    CHECK(stand_in::open_communicators() == 0);
  }
}

TEST_CASE("An ncclComm_t of other ranks, none at all, and a bound of nothing are refused, with numbers") {
  std::atomic<int> refused{0};
  in_process_group(2, {.deadline = Deadline(30)}).run([&](Control& control) {
    Queued whole(control.split(0, control.rank()), QueuedExec{});
    const auto refuses = [&](const char* text, const auto& make) {
      try {
        make();
      } catch (const rondo::argument_error& refusal) {
        if (std::string(refusal.what()).find(text) != std::string::npos) ++refused;
      }
    };
    CUstream_st stream;
    refuses("rank 1 of 2, the communicator given with it is rank 0 of 1", [&] {
      auto alone = control.split(control.rank(), 0);
      if (control.rank() == 1) Queued(std::move(alone), whole.handle(), &stream, QueuedExec{});
    });
    refuses("the ncclComm_t is null", [&] { Queued(control.split(0, 0), nullptr, &stream, QueuedExec{}); });
    refuses("under_way is 0, it must be at least 1",
            [&] { Queued(control.split(0, 0), QueuedExec{}, {.under_way = 0}); });
  });
  CHECK(refused == 5);
}

}  // namespace
