/// What is particular to ranks that are threads: their group, their instances, and how posted messages behave.
#include "in_process_launcher.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace comm_test;
using Catch::Matchers::Message;
using rondo::agreement_error;
using rondo::argument_error;
using rondo::Deadline;
using rondo::Direction;
using rondo::in_process_group;
using rondo::Reduction;
using Comm = rondo::in_process_communicator<>;
using Segment = SegmentOf<Comm>;

TEST_CASE("A group calls its function once on each rank, on threads of their own, and can be run again") {
  const auto caller = std::this_thread::get_id();
  in_process_group group(5);
  CHECK(group.size() == 5);
  for (int repeat = 0; repeat < 3; ++repeat) {
    std::mutex mutex;
    std::multiset<int> ranks;
    std::set<std::thread::id> threads;
    group.run([&](Comm& comm) {
      const std::lock_guard lock(mutex);
      ranks.insert(comm.rank());
      threads.insert(std::this_thread::get_id());
    });
    CHECK(ranks == std::multiset{0, 1, 2, 3, 4});
    CHECK(threads.size() == 5);
    CHECK(threads.count(caller) == 0);
  }
}

TEST_CASE("A group without ranks, threads or time is refused, saying what was given") {
  const auto refused = [](int ranks, rondo::InProcessOptions options, const char* text) {
    CHECK_THROWS_MATCHES(in_process_group(ranks, options), argument_error, Message(text));
  };
  refused(0, {}, "in_process_group of 0 ranks: at least 1 is needed");
  refused(-2, {}, "in_process_group of -2 ranks: at least 1 is needed");
  refused(2, {.threads_per_rank = 0}, "in_process_group: 0 threads per rank");
  refused(2, {.deadline = Deadline(0)}, "in_process_group: a deadline of 0 s");
  refused(2, {.deadline = Deadline(-1)}, "in_process_group: a deadline of -1 s");
  refused(2, {.deadline = Deadline(std::numeric_limits<double>::quiet_NaN())}, "in_process_group: a deadline of nan s");
}

TEST_CASE("Ranks know the deadline that their group was given") {
  in_process_group(2, {.deadline = Deadline(12.5)}).run([](Comm& comm) {
    if (comm.deadline() != Deadline(12.5)) throw std::runtime_error("another deadline");
    if (comm.split(0, 0).deadline() != Deadline(12.5)) throw std::runtime_error("another deadline in a part");
  });
}

TEST_CASE("Ranks wait for each other without end when the deadline is infinite, or longer than clocks count") {
  for (const double seconds : {std::numeric_limits<double>::infinity(), 1e30, 1e10}) {
    INFO("a deadline of " << seconds << " s");
    std::atomic<int> done{0};
    CHECK_NOTHROW(in_process_group(2, {.deadline = Deadline(seconds)}).run([&](Comm& comm) {
      if (comm.rank() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      comm.barrier();
      ++done;
    }));
    CHECK(done == 2);
  }
}

TEST_CASE("Every rank has an execution-space instance of its own, which its parts share") {
  std::mutex mutex;
  std::vector<Comm::execution_space> instances;
  std::atomic<int> shared{0};
  in_process_group(4).run([&](Comm& comm) {
    const std::lock_guard lock(mutex);
    instances.push_back(comm.execution_instance());
  });
  for (std::size_t a = 0; a < instances.size(); ++a) {
    for (std::size_t b = 0; b < a; ++b) CHECK(instances[a] != instances[b]);
    CHECK(instances[a] != Comm::execution_space());
  }
  in_process_group(4).run([&](Comm& comm) {
    if (comm.split(0, 0).execution_instance() == comm.execution_instance()) ++shared;
  });
  CHECK(shared == 4);
}

#ifdef KOKKOS_ENABLE_OPENMP
TEST_CASE("An OpenMP rank has as many threads as the group was told") {
  for (const int threads : {1, 2}) {
    std::atomic<int> right{0};
    in_process_group<Kokkos::OpenMP>(2, {.threads_per_rank = threads}).run([&](auto& comm) {
      if (comm.execution_instance().concurrency() == threads) ++right;
    });
    CHECK(right == 2);
  }
}
#endif

TEST_CASE("A receive that is given up before anything came leaves the message to the next one") {
  in_process_group(2, {.deadline = Deadline(30)}).run([](Comm& comm) {
    const auto& exec = comm.execution_instance();
    if (comm.rank() == 0) {
      {
        const Segment given_up[] = {{Direction::receive, 1, room<std::uint64_t>(comm, 8)}};
        auto transfer = comm.exchange(exec, given_up);
      }
      comm.barrier();
      const auto target = room<std::uint64_t>(comm, 3);
      const Segment receive[] = {{Direction::receive, 1, target}};
      comm.exchange(exec, receive).wait();
      if (unpacked<std::uint64_t>(target) != marked(1, 0, 3)) throw std::runtime_error("not what was sent");
    } else {
      comm.barrier();
      const Segment send[] = {{Direction::send, 0, packed(comm, marked(1, 0, 3))}};
      comm.exchange(exec, send).wait();
    }
  });
}

TEST_CASE("A send that is given up is not received, and its memory is let go") {
  in_process_group(2, {.deadline = Deadline(30)}).run([](Comm& comm) {
    const auto& exec = comm.execution_instance();
    if (comm.rank() == 0) {
      const auto bytes = packed(comm, marked(0, 1, 3));
      {
        const Segment send[] = {{Direction::send, 1, bytes}, {Direction::send, 1, bytes}};
        auto transfer = comm.exchange(exec, send);
        auto moved = std::move(transfer);
        moved = comm.exchange(exec, std::span(send, 1));  // gives up the two
      }
      if (bytes.use_count() != 1) throw std::runtime_error("somebody still holds what was given up");
      comm.barrier();
      const Segment send[] = {{Direction::send, 1, packed(comm, marked(0, 2, 3))}};
      comm.exchange(exec, send).wait();
    } else {
      comm.barrier();
      const auto target = room<std::uint64_t>(comm, 3);
      const Segment receive[] = {{Direction::receive, 0, target}};
      comm.exchange(exec, receive).wait();
      if (unpacked<std::uint64_t>(target) != marked(0, 2, 3)) throw std::runtime_error("what was given up has come");
    }
  });
}

TEST_CASE("Messages on their way keep their memory, whatever the sender does with its own") {
  in_process_group(2, {.deadline = Deadline(30)}).run([](Comm& comm) {
    const auto& exec = comm.execution_instance();
    const auto target = room<std::uint64_t>(comm, 100000);
    auto source = packed(comm, marked(comm.rank(), 5, 100000));
    auto transfer = [&] {
      std::vector<Segment> segments = {{Direction::send, 1 - comm.rank(), source},
                                       {Direction::receive, 1 - comm.rank(), target}};
      return comm.exchange(exec, segments);
    }();
    source = {};
    transfer.wait();
    if (unpacked<std::uint64_t>(target) != marked(1 - comm.rank(), 5, 100000)) throw std::runtime_error("other bytes");
  });
}

TEST_CASE("A transfer outlives the part of the group that started it") {
  in_process_group(2, {.deadline = Deadline(30)}).run([](Comm& comm) {
    const auto target = room<std::uint64_t>(comm, 3);
    auto transfer = [&] {
      auto part = comm.split(0, comm.rank());
      const Segment segments[] = {{Direction::send, 1 - comm.rank(), packed(comm, marked(comm.rank(), 0, 3))},
                                  {Direction::receive, 1 - comm.rank(), target}};
      return part.exchange(part.execution_instance(), segments);
    }();
    transfer.wait();
    if (unpacked<std::uint64_t>(target) != marked(1 - comm.rank(), 0, 3)) throw std::runtime_error("other bytes");
  });
}

/// What each of two or more ranks was told when `call` was refused as agreement_error; empty where it was not.
template <class Call>
std::vector<std::string> refusals(int ranks, const Call& call) {
  std::vector<std::string> texts(static_cast<std::size_t>(ranks));
  in_process_group(ranks, {.deadline = Deadline(30)}).run([&](Comm& comm) {
    try {
      call(comm);
    } catch (const agreement_error& refusal) {
      texts[static_cast<std::size_t>(comm.rank())] = refusal.what();
    }
    if (!comm.agree(true)) throw std::runtime_error("the group is not usable any more");
  });
  return texts;
}

bool all_contain(const std::vector<std::string>& texts, const std::vector<std::string>& parts) {
  for (const std::string& text : texts) {
    for (const std::string& part : parts) {
      if (text.find(part) == std::string::npos) return false;
    }
  }
  return !texts.empty();
}

TEST_CASE("A message that is not as long as its receiver expects is refused on both sides, with both lengths") {
  for (const auto& [sent, expected] : {std::pair{16, 24}, {24, 16}, {0, 8}, {8, 0}}) {
    for (const int late : {0, 1}) {
      const auto texts = refusals(2, [&](Comm& comm) {
        if (comm.rank() == late) std::this_thread::sleep_for(std::chrono::milliseconds(2));
        const auto count = static_cast<std::size_t>(comm.rank() == 0 ? sent : expected);
        const Segment segments[] = {
            {comm.rank() == 0 ? Direction::send : Direction::receive, 1 - comm.rank(), room<std::byte>(comm, count)}};
        comm.exchange(comm.execution_instance(), segments).wait();
      });
      const std::string needed = "rank 0 sends " + std::to_string(sent) + " bytes where rank 1 expects " +
                                 std::to_string(expected);
      CHECK(texts == std::vector<std::string>(2, needed));
    }
  }
}

TEST_CASE("Asking a refused message whether it has arrived says that it never will") {
  const auto texts = refusals(2, [](Comm& comm) {
    const Segment segments[] = {{comm.rank() == 0 ? Direction::send : Direction::receive, 1 - comm.rank(),
                                 room<std::byte>(comm, comm.rank() == 0 ? 16 : 24)}};
    auto transfer = comm.exchange(comm.execution_instance(), segments);
    comm.barrier();  // by now both halves have met
    for (int asked = 0; asked < 3; ++asked) {
      if (transfer.test()) throw std::runtime_error("a message of two lengths has arrived");
    }
  });
  CHECK(texts == std::vector<std::string>(2, "rank 0 sends 16 bytes where rank 1 expects 24"));
}

TEST_CASE("Collectives that ranks mean differently are refused on every rank, naming two of them") {
  // Which ranks are named depends on who comes first.
  const auto texts = [](auto call) { return refusals(3, call); };
  const auto sums = texts([&](Comm& comm) {
    std::vector<double> mine(comm.rank() == 2 ? 5 : 8);
    comm.all_reduce(std::span(mine), Reduction::sum);
  });
  CHECK(all_contain(sums, {"all_reduce: sum of 8 values", "all_reduce: sum of 5 values", "rank 2 calls"}));
  const auto operations = texts([](Comm& comm) {
    std::int64_t value = 0;
    comm.all_reduce(std::span(&value, 1), comm.rank() == 1 ? Reduction::minimum : Reduction::maximum);
  });
  CHECK(all_contain(operations, {"minimum of 1 values", "maximum of 1 values", "rank 1 calls"}));
  const auto roots = texts([](Comm& comm) {
    std::byte byte{};
    comm.broadcast(std::span(&byte, 1), comm.rank() == 0 ? 1 : 0);
  });
  CHECK(all_contain(roots, {"broadcast from rank 0 of 1 bytes", "broadcast from rank 1 of 1 bytes"}));
  const auto kinds = texts([](Comm& comm) {
    if (comm.rank() == 1) return comm.barrier();
    static_cast<void>(comm.split(0, 0));
  });
  CHECK(all_contain(kinds, {"calls split", "rank 1 calls barrier"}));
  const auto types = texts([](Comm& comm) {
    std::int64_t integer = 0;
    float real = 0;
    if (comm.rank() == 1) return comm.all_reduce(std::span(&real, 1), Reduction::sum);
    comm.all_reduce(std::span(&integer, 1), Reduction::sum);
  });
  CHECK(all_contain(types, {"sum of 1 values"}));
}

TEST_CASE("Collectives of values of the same size but another type are refused") {
  const auto texts = refusals(2, [](Comm& comm) {
    std::int64_t integer = 1;
    double real = 1;
    if (comm.rank() == 1) return comm.all_reduce(std::span(&real, 1), Reduction::sum);
    comm.all_reduce(std::span(&integer, 1), Reduction::sum);
  });
  CHECK(all_contain(texts, {"sum of 1 values"}));
}

TEST_CASE("A refused collective is refused on every rank, also when some call again at once") {
  constexpr int ranks = 3;
  constexpr int rounds = 300;
  std::atomic<int> refused{0};
  in_process_group(ranks, {.deadline = Deadline(30)}).run([&](Comm& comm) {
    for (int round = 0; round < rounds; ++round) {
      std::int64_t values[2] = {};
      try {
        comm.all_reduce(std::span<std::int64_t>(values, comm.rank() == round % ranks ? 1 : 2), Reduction::sum);
      } catch (const agreement_error&) {
        ++refused;
      }
      comm.barrier();
    }
  });
  CHECK(refused == ranks * rounds);
}

TEST_CASE("Collectives of a refused kind leave the ranks' values as they were") {
  in_process_group(3, {.deadline = Deadline(30)}).run([](Comm& comm) {
    std::int64_t values[] = {comm.rank(), 10 + comm.rank()};
    try {
      comm.all_reduce(std::span<std::int64_t>(values, comm.rank() == 1 ? 1 : 2), Reduction::sum);
    } catch (const agreement_error&) {
    }
    if (values[0] != comm.rank() || values[1] != 10 + comm.rank()) throw std::runtime_error("values were changed");
  });
}

}  // namespace
