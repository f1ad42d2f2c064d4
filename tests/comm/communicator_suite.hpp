/// \file
/// What every communicator promises while nothing fails. Include it once, in a program that has said which launchers
/// to test: `namespace comm_test { using Launchers = std::tuple<MyLauncher>; }`
#pragma once

#include "launcher.hpp"

#include <rondo/comm/concept.hpp>
#include <rondo/error.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <bit>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace comm_test {

using rondo::Direction;
using rondo::Reduction;

/// Runs work at every number of ranks of at least `fewest` and checks that no rank found anything wrong.
template <class L, class Work>
void on_all_sizes(int fewest, const Work& work) {
  for (const int ranks : L::sizes()) {
    if (ranks < fewest) continue;
    INFO(ranks << " ranks");
    CHECK(L::run(ranks, work) == nothing);
  }
}

TEMPLATE_LIST_TEST_CASE("Ranks are numbered from zero and know how many they are", "", Launchers) {
  static_assert(Launcher<TestType>);
  on_all_sizes<TestType>(1, [](auto& comm, Findings& found) {
    std::vector<std::int64_t> present(static_cast<std::size_t>(comm.size()), 0);
    if (comm.rank() >= 0 && comm.rank() < comm.size()) present[static_cast<std::size_t>(comm.rank())] = 1;
    comm.all_reduce(std::span(present), Reduction::sum);
    found.equal(std::count(present.begin(), present.end(), 1), comm.size(), "the number of ranks seen once");
    found.expect(comm.deadline().count() > 0, "the deadline is not positive");
  });
}

TEMPLATE_LIST_TEST_CASE("What a rank sends to its neighbours arrives there, in both directions at once", "",
                        Launchers) {
  on_all_sizes<TestType>(1, [](auto& comm, Findings& found) {
    for (const std::size_t count : {std::size_t{1}, std::size_t{1000}}) {
      const auto from_previous = room<std::uint64_t>(comm, count);
      const auto from_next = room<std::uint64_t>(comm, count);
      const SegmentOf<decltype(comm)> segments[] = {
          {Direction::send, next(comm), packed(comm, marked(comm.rank(), 1, count))},
          {Direction::send, previous(comm), packed(comm, marked(comm.rank(), 2, count))},
          {Direction::receive, previous(comm), from_previous},
          {Direction::receive, next(comm), from_next}};
      comm.exchange(comm.execution_instance(), segments, {}).wait();
      found.expect(unpacked<std::uint64_t>(from_previous) == marked(previous(comm), 1, count), "from previous");
      found.expect(unpacked<std::uint64_t>(from_next) == marked(next(comm), 2, count), "from next");
    }
  });
}

TEMPLATE_LIST_TEST_CASE("Every rank can send to every other", "", Launchers) {
  on_all_sizes<TestType>(2, [](auto& comm, Findings& found) {
    for (int distance = 1; distance < comm.size(); ++distance) {
      const int to = (comm.rank() + distance) % comm.size();
      const int from = (comm.rank() + comm.size() - distance) % comm.size();
      const auto target = room<std::uint64_t>(comm, 5);
      const SegmentOf<decltype(comm)> segments[] = {{Direction::receive, from, target},
                                                    {Direction::send, to, packed(comm, marked(comm.rank(), to, 5))}};
      comm.exchange(comm.execution_instance(), segments, {}).wait();
      found.expect(unpacked<std::uint64_t>(target) == marked(from, comm.rank(), 5),
                   "from rank " + std::to_string(from));
    }
  });
}

TEMPLATE_LIST_TEST_CASE("Several messages between two ranks match in the order in which they were started", "",
                        Launchers) {
  on_all_sizes<TestType>(1, [](auto& comm, Findings& found) {
    using Segment = SegmentOf<decltype(comm)>;
    using Transfer = decltype(comm.exchange(comm.execution_instance(), std::span<const Segment>{}, {}));
    std::vector<BytesOf<decltype(comm)>> targets;
    std::vector<Transfer> transfers;
    int message = 0;
    // Three exchanges of two messages each are under way at once; every message has another length.
    for (int exchange = 0; exchange < 3; ++exchange) {
      std::vector<Segment> segments;
      for (int i = 0; i < 2; ++i, ++message) {
        const auto count = static_cast<std::size_t>(10 + message);
        targets.push_back(room<std::uint64_t>(comm, count));
        segments.push_back({Direction::send, next(comm), packed(comm, marked(comm.rank(), message, count))});
        segments.push_back({Direction::receive, previous(comm), targets.back()});
      }
      transfers.push_back(comm.exchange(comm.execution_instance(), segments, {}));
    }
    while (!transfers.empty()) {
      transfers.back().wait();
      transfers.pop_back();
    }
    for (int i = 0; i < message; ++i) {
      const auto received = unpacked<std::uint64_t>(targets[static_cast<std::size_t>(i)]);
      found.expect(received == marked(previous(comm), i, received.size()), "message " + std::to_string(i));
    }
  });
}

TEMPLATE_LIST_TEST_CASE("An exchange may have any number of messages", "", Launchers) {
  on_all_sizes<TestType>(1, [](auto& comm, Findings& found) {
    // The second is larger than the memory that the first left for the next.
    for (const int messages : {5, 20}) {
      std::vector<SegmentOf<decltype(comm)>> segments;
      for (int i = 0; i < messages; ++i) {
        segments.push_back({Direction::send, next(comm), packed(comm, marked(comm.rank(), i, 3))});
        segments.push_back({Direction::receive, previous(comm), room<std::uint64_t>(comm, 3)});
      }
      comm.exchange(comm.execution_instance(), segments, {}).wait();
      for (int i = 0; i < messages; ++i) {
        const auto received = unpacked<std::uint64_t>(segments[static_cast<std::size_t>(2 * i + 1)].bytes);
        found.expect(received == marked(previous(comm), i, 3), "message " + std::to_string(i));
      }
    }
  });
}

TEMPLATE_LIST_TEST_CASE("Messages of 64 MiB arrive whole", "", Launchers) {
  for (const int ranks : TestType::sizes()) {
    if (ranks != 2 && ranks != 3) continue;
    CHECK(TestType::run(ranks, [](auto& comm, Findings& found) {
            const std::size_t count = std::size_t{64} * 1024 * 1024 / sizeof(std::uint64_t);
            const auto target = room<std::uint64_t>(comm, count);
            const SegmentOf<decltype(comm)> segments[] = {
                {Direction::send, next(comm), packed(comm, marked(comm.rank(), 0, count))},
                {Direction::receive, previous(comm), target}};
            comm.exchange(comm.execution_instance(), segments, {}).wait();
            found.expect(unpacked<std::uint64_t>(target) == marked(previous(comm), 0, count), "64 MiB");
          }) == nothing);
  }
}

TEMPLATE_LIST_TEST_CASE("An exchange of nothing is done at once; one of messages without bytes is done", "",
                        Launchers) {
  on_all_sizes<TestType>(1, [](auto& comm, Findings& found) {
    using Segment = SegmentOf<decltype(comm)>;
    auto none = comm.exchange(comm.execution_instance(), std::span<const Segment>{}, {});
    found.expect(none.test(), "an exchange of no segments is not done");
    none.wait();
    none.order(comm.execution_instance());
    const auto target = room<std::uint64_t>(comm, 1);
    const Segment segments[] = {{Direction::send, next(comm), {}},
                                {Direction::receive, previous(comm), room<std::uint64_t>(comm, 0)},
                                {Direction::send, next(comm), packed(comm, marked(comm.rank(), 0, 1))},
                                {Direction::receive, previous(comm), target}};
    comm.exchange(comm.execution_instance(), segments, {}).wait();
    found.expect(unpacked<std::uint64_t>(target) == marked(previous(comm), 0, 1), "what follows an empty message");
  });
}

TEMPLATE_LIST_TEST_CASE("test says when everything has arrived, without waiting", "", Launchers) {
  on_all_sizes<TestType>(2, [](auto& comm, Findings& found) {
    if (comm.rank() > 1) return comm.barrier();
    const int peer = 1 - comm.rank();
    if (comm.rank() == 0) {
      const auto target = room<std::uint64_t>(comm, 100);
      const SegmentOf<decltype(comm)> receive[] = {{Direction::receive, peer, target}};
      auto transfer = comm.exchange(comm.execution_instance(), receive, {});
      found.expect(!transfer.test() && !transfer.test(), "a message that nobody has sent has arrived");
      comm.barrier();
      while (!transfer.test()) std::this_thread::yield();
      found.expect(unpacked<std::uint64_t>(target) == marked(peer, 7, 100), "what test said had arrived");
      found.expect(transfer.test(), "what has arrived has not arrived when asked again");
      transfer.wait();
      transfer.wait();  // again is allowed
    } else {
      comm.barrier();
      const SegmentOf<decltype(comm)> send[] = {{Direction::send, peer, packed(comm, marked(comm.rank(), 7, 100))}};
      auto transfer = comm.exchange(comm.execution_instance(), send, {});
      while (!transfer.test()) std::this_thread::yield();
    }
  });
}

TEMPLATE_LIST_TEST_CASE("A transfer can be moved while it is under way", "", Launchers) {
  on_all_sizes<TestType>(1, [](auto& comm, Findings& found) {
    using Segment = SegmentOf<decltype(comm)>;
    const auto start = [&comm](int message, const auto& target) {
      const Segment segments[] = {{Direction::send, next(comm), packed(comm, marked(comm.rank(), message, 50))},
                                  {Direction::receive, previous(comm), target}};
      return comm.exchange(comm.execution_instance(), segments, {});
    };
    const auto first = room<std::uint64_t>(comm, 50);
    const auto second = room<std::uint64_t>(comm, 50);
    auto a = start(1, first);
    auto b = std::move(a);
    b.wait();
    found.expect(unpacked<std::uint64_t>(first) == marked(previous(comm), 1, 50), "after a move");
    b = start(2, second);  // onto one that is done
    auto c = start(3, first);
    std::swap(b, c);
    b.wait();
    c.wait();
    found.expect(unpacked<std::uint64_t>(second) == marked(previous(comm), 2, 50), "after a move assignment");
    found.expect(unpacked<std::uint64_t>(first) == marked(previous(comm), 3, 50), "after a swap");
  });
}

// Work for execution spaces stands in functions of its own: nvcc takes no device lambda inside a generic one.

/// values[i] = first + i, queued.
template <class Exec>
void queue_count_up(const Exec& exec, std::int64_t* values, int count, std::int64_t first) {
  Kokkos::parallel_for(
      Kokkos::RangePolicy<Exec>(exec, 0, count), KOKKOS_LAMBDA(int i) { values[i] = first + i; });
}

/// How many values[i] are not first + i.
template <class Exec>
std::int64_t count_wrong(const Exec& exec, const std::int64_t* values, int count, std::int64_t first) {
  std::int64_t wrong = 0;
  Kokkos::parallel_reduce(
      Kokkos::RangePolicy<Exec>(exec, 0, count),
      KOKKOS_LAMBDA(int i, std::int64_t& sum) { sum += values[i] == first + i ? 0 : 1; }, wrong);
  return wrong;
}

template <class Exec>
std::int64_t sum_of_squares(const Exec& exec, std::int64_t n) {
  std::int64_t sum = 0;
  Kokkos::parallel_reduce(
      Kokkos::RangePolicy<Exec>(exec, 0, n), KOKKOS_LAMBDA(std::int64_t i, std::int64_t & s) { s += i * i; }, sum);
  return sum;
}

/// 100 times the sum of n + t over 20 teams t, through scratch memory of each team's own, as kernels use it.
template <class Exec>
std::int64_t sum_by_teams(const Exec& exec, std::int64_t n) {
  using Team = Kokkos::TeamPolicy<Exec>;
  std::int64_t sum = 0;
  Kokkos::parallel_reduce(
      Team(exec, 20, 1).set_scratch_size(0, Kokkos::PerTeam(1024)),
      KOKKOS_LAMBDA(const typename Team::member_type& team, std::int64_t& s) {
        auto* scratch = static_cast<std::int64_t*>(team.team_shmem().get_shmem(100 * sizeof(std::int64_t)));
        for (int i = 0; i < 100; ++i) scratch[i] = n + team.league_rank();
        for (int i = 0; i < 100; ++i) s += scratch[i];
      },
      sum);
  return sum;
}

TEMPLATE_LIST_TEST_CASE("An exchange follows the work queued before it, and order puts later work behind it", "",
                        Launchers) {
  on_all_sizes<TestType>(1, [](auto& comm, Findings& found) {
    const auto exec = comm.execution_instance();
    const int count = 20000;
    const auto source = room<std::int64_t>(comm, count);
    const auto target = room<std::int64_t>(comm, count);
    for (std::int64_t round = 0; round < 5; ++round) {
      queue_count_up(exec, reinterpret_cast<std::int64_t*>(source.data()), count,
                     1000000 * comm.rank() + 10000 * round);
      const SegmentOf<decltype(comm)> segments[] = {{Direction::send, next(comm), source},
                                                    {Direction::receive, previous(comm), target}};
      auto transfer = comm.exchange(exec, segments, {});
      transfer.order(exec);
      const std::int64_t wrong = count_wrong(exec, reinterpret_cast<const std::int64_t*>(target.data()), count,
                                             1000000 * previous(comm) + 10000 * round);
      found.equal(wrong, 0, "numbers that were read before they had arrived, of round " + std::to_string(round));
      comm.barrier();  // the source is written again
    }
  });
}

TEMPLATE_LIST_TEST_CASE("Computations on the instances of all ranks at once give right results", "", Launchers) {
  on_all_sizes<TestType>(1, [](auto& comm, Findings& found) {
    comm.barrier();
    for (int round = 0; round < 30; ++round) {
      const std::int64_t n = 1000 + 17 * comm.rank() + round;
      found.equal(sum_of_squares(comm.execution_instance(), n), (n - 1) * n * (2 * n - 1) / 6, "a sum of squares");
      found.equal(sum_by_teams(comm.execution_instance(), n), 100 * (20 * n + 190), "a sum by teams");
    }
  });
}

/// Numbers whose sum depends on the order in which they are added, exact ones for integers. (Not inlined: a product that
/// is added at once may be left unrounded.)
template <class T>
[[gnu::noinline]] T term(int rank, std::size_t i) {
  const auto spread = static_cast<std::int64_t>((static_cast<std::size_t>(rank) * 7919 + i * 104729) % 1000) - 500;
  if constexpr (std::integral<T>) {
    return spread * 1000003;
  } else {
    constexpr T sizes[] = {T(1), T(1000), T(-17.3)};
    return static_cast<T>(spread) / T{7} * sizes[rank % 3];
  }
}

template <class T>
T combined(T a, T b, Reduction reduction) {
  if (reduction == Reduction::sum) return a + b;
  return reduction == Reduction::minimum ? std::min(a, b) : std::max(a, b);
}

template <class T, class Comm>
void check_all_reduce(Comm& comm, Findings& found) {
  for (const Reduction reduction : {Reduction::sum, Reduction::minimum, Reduction::maximum}) {
    for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{5}, std::size_t{1000}}) {
      for (int repeat = 0; repeat < 3; ++repeat) {
        std::vector<T> values(count);
        for (std::size_t i = 0; i < count; ++i) values[i] = term<T>(comm.rank(), i);
        // Ranks arrive in another order each time.
        std::this_thread::sleep_for(std::chrono::microseconds(100 * ((comm.rank() * 5 + repeat * 3) % 7)));
        comm.all_reduce(std::span(values), reduction);
        for (std::size_t i = 0; i < count; ++i) {
          T needed = term<T>(0, i);
          for (int rank = 1; rank < comm.size(); ++rank) needed = combined(needed, term<T>(rank, i), reduction);
          if (values[i] != needed) {
            found.equal(values[i], needed, "value " + std::to_string(i) + " of " + std::to_string(count));
            break;
          }
        }
      }
    }
  }
}

/// How many of the sums over three ranks have other bits when taken from the last rank to the first.
template <class T>
int sums_that_differ() {
  int differ = 0;
  for (std::size_t i = 0; i < 1000; ++i) {
    const T there = (term<T>(0, i) + term<T>(1, i)) + term<T>(2, i);
    const T back = (term<T>(2, i) + term<T>(1, i)) + term<T>(0, i);
    differ += there != back ? 1 : 0;
  }
  return differ;
}

TEMPLATE_LIST_TEST_CASE("all_reduce combines the ranks' values in the order of ranks, to the bit, on every rank", "",
                        Launchers) {
  // The numbers must be able to tell: added from the last rank to the first, some sums differ.
  int differ = 0;
  for (std::size_t i = 0; i < 1000; ++i) {
    const float there = (term<float>(0, i) + term<float>(1, i)) + term<float>(2, i);
    const float back = (term<float>(2, i) + term<float>(1, i)) + term<float>(0, i);
    differ += there != back ? 1 : 0;
  }
  REQUIRE(differ > 10);
  on_all_sizes<TestType>(1, [](auto& comm, Findings& found) {
    check_all_reduce<float>(comm, found);
    check_all_reduce<double>(comm, found);
    check_all_reduce<std::int64_t>(comm, found);
  });
}

TEMPLATE_LIST_TEST_CASE("all_reduce keeps all bits of large integers", "", Launchers) {
  on_all_sizes<TestType>(1, [](auto& comm, Findings& found) {
    const std::int64_t large = (std::int64_t{1} << 53) + 1;  // not a double
    std::int64_t values[] = {comm.rank() == 0 ? large : 0, -large - comm.rank(), large + comm.rank()};
    comm.all_reduce(std::span<std::int64_t>(values, 1), Reduction::sum);
    comm.all_reduce(std::span<std::int64_t>(values + 1, 1), Reduction::minimum);
    comm.all_reduce(std::span<std::int64_t>(values + 2, 1), Reduction::maximum);
    found.equal(values[0], large, "the sum");
    found.equal(values[1], -large - (comm.size() - 1), "the minimum");
    found.equal(values[2], large + (comm.size() - 1), "the maximum");
  });
}

TEMPLATE_LIST_TEST_CASE("broadcast gives every rank the bytes of the root, whichever it is", "", Launchers) {
  on_all_sizes<TestType>(1, [](auto& comm, Findings& found) {
    for (int root = 0; root < comm.size(); ++root) {
      for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{100000}}) {
        auto values = marked(comm.rank(), root, count);
        comm.broadcast(std::as_writable_bytes(std::span(values)), root);
        found.expect(values == marked(root, root, count), "from root " + std::to_string(root));
      }
    }
  });
}

TEMPLATE_LIST_TEST_CASE("No rank leaves a barrier before all have come", "", Launchers) {
  on_all_sizes<TestType>(1, [](auto& comm, Findings& found) {
    const auto now = [] {  // one clock for all processes of a machine
      return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count();
    };
    for (int late = 0; late < comm.size(); ++late) {
      if (comm.rank() == late) std::this_thread::sleep_for(std::chrono::milliseconds(3));
      std::int64_t came = now();
      comm.barrier();
      std::int64_t left = now();
      comm.all_reduce(std::span(&came, 1), Reduction::maximum);
      comm.all_reduce(std::span(&left, 1), Reduction::minimum);
      found.expect(came <= left, "a rank left before rank " + std::to_string(late) + " came");
    }
  });
}

TEMPLATE_LIST_TEST_CASE("agree is true when every rank says true", "", Launchers) {
  on_all_sizes<TestType>(1, [](auto& comm, Findings& found) {
    found.expect(comm.agree(true), "all true");
    found.expect(!comm.agree(false), "all false");
    for (int sceptic = 0; sceptic < comm.size(); ++sceptic) {
      found.expect(!comm.agree(comm.rank() != sceptic), "rank " + std::to_string(sceptic) + " false");
    }
    found.expect(comm.agree(true), "true again");
  });
}

/// Checks that `comm` has exactly these ranks of the parent, in this order, and moves messages of its own.
template <class Comm>
void check_members(Comm& comm, const std::vector<std::int64_t>& needed, int parent_rank, Findings& found) {
  found.equal(comm.size(), static_cast<int>(needed.size()), "the size of a part");
  if (comm.size() != static_cast<int>(needed.size())) return;
  std::vector<std::int64_t> members(needed.size(), -1);
  members[static_cast<std::size_t>(comm.rank())] = parent_rank;
  comm.all_reduce(std::span(members), Reduction::maximum);
  found.expect(members == needed, "the members of a part or their order");
  const auto target = room<std::uint64_t>(comm, 3);
  const SegmentOf<Comm> segments[] = {{Direction::send, next(comm), packed(comm, marked(parent_rank, 0, 3))},
                                      {Direction::receive, previous(comm), target}};
  comm.exchange(comm.execution_instance(), segments, {}).wait();
  const auto from = static_cast<int>(needed[static_cast<std::size_t>(previous(comm))]);
  found.expect(unpacked<std::uint64_t>(target) == marked(from, 0, 3), "a message within a part");
}

TEMPLATE_LIST_TEST_CASE("split makes a communicator of each color, its ranks in the order of their keys", "",
                        Launchers) {
  on_all_sizes<TestType>(1, [](auto& comm, Findings& found) {
    std::vector<std::int64_t> same, reversed, all;
    for (int rank = 0; rank < comm.size(); ++rank) {
      all.push_back(rank);
      if (rank % 2 == comm.rank() % 2) {
        same.push_back(rank);
        reversed.insert(reversed.begin(), rank);
      }
    }
    auto by_rank = comm.split(comm.rank() % 2, comm.rank());
    check_members(by_rank, same, comm.rank(), found);
    auto backwards = comm.split(comm.rank() % 2, -comm.rank());
    check_members(backwards, reversed, comm.rank(), found);
    auto equal_keys = comm.split(comm.rank() % 2, 5);
    check_members(equal_keys, same, comm.rank(), found);
    auto whole = comm.split(3, comm.rank());
    check_members(whole, all, comm.rank(), found);
    auto alone = comm.split(comm.rank(), 0);
    check_members(alone, {comm.rank()}, comm.rank(), found);
  });
}

TEMPLATE_LIST_TEST_CASE("A part can be split again", "", Launchers) {
  on_all_sizes<TestType>(1, [](auto& comm, Findings& found) {
    auto outer = comm.split(comm.rank() % 2, -comm.rank());
    auto inner = outer.split(outer.rank() / 2, outer.rank());
    std::vector<std::int64_t> needed;
    for (int rank = outer.rank() / 2 * 2; rank < std::min(outer.size(), outer.rank() / 2 * 2 + 2); ++rank) {
      // The outer ranks are the whole's of the same parity, from the last to the first.
      const int last = comm.size() - 1 - (comm.size() - 1 - comm.rank()) % 2;
      needed.push_back(last - 2 * rank);
    }
    check_members(inner, needed, comm.rank(), found);
  });
}

TEMPLATE_LIST_TEST_CASE("Messages of different communicators between the same ranks do not mix", "", Launchers) {
  on_all_sizes<TestType>(1, [](auto& comm, Findings& found) {
    auto part = comm.split(0, comm.rank());
    const auto in_whole = room<std::uint64_t>(comm, 4);
    const auto in_part = room<std::uint64_t>(comm, 4);
    using Segment = SegmentOf<decltype(comm)>;
    const auto exec = comm.execution_instance();
    const Segment whole[] = {{Direction::send, next(comm), packed(comm, marked(comm.rank(), 1, 4))},
                             {Direction::receive, previous(comm), in_whole}};
    const Segment of_part[] = {{Direction::send, next(comm), packed(comm, marked(comm.rank(), 2, 4))},
                               {Direction::receive, previous(comm), in_part}};
    if constexpr (std::remove_cvref_t<decltype(comm)>::stream_ordered) {
      auto a = comm.exchange(exec, whole, {});
      auto b = part.exchange(exec, of_part, {});
      b.wait();
      a.wait();
    } else {  // sent in one order, received in the other
      auto a = comm.exchange(exec, std::span(whole).first(1), {});
      auto b = part.exchange(exec, std::span(of_part).first(1), {});
      auto c = part.exchange(exec, std::span(of_part).last(1), {});
      auto d = comm.exchange(exec, std::span(whole).last(1), {});
      c.wait();
      d.wait();
      a.wait();
      b.wait();
    }
    found.expect(unpacked<std::uint64_t>(in_whole) == marked(previous(comm), 1, 4), "within the whole");
    found.expect(unpacked<std::uint64_t>(in_part) == marked(previous(comm), 2, 4), "within the part");
  });
}

TEMPLATE_LIST_TEST_CASE("A communicator can be moved", "", Launchers) {
  on_all_sizes<TestType>(1, [](auto& comm, Findings& found) {
    auto part = comm.split(0, comm.rank());
    auto moved = std::move(part);
    std::int64_t ranks = 1;
    moved.all_reduce(std::span(&ranks, 1), Reduction::sum);
    found.equal(ranks, comm.size(), "the ranks of a moved communicator");
    part = std::move(moved);
    found.expect(part.agree(true), "a moved communicator agrees");
  });
}

TEMPLATE_LIST_TEST_CASE("A peer or root that does not exist is refused, and the communicator stays usable", "",
                        Launchers) {
  on_all_sizes<TestType>(1, [](auto& comm, Findings& found) {
    for (const int wrong : {-1, comm.size(), comm.size() + 5}) {
      const std::string needed =
          " rank " + std::to_string(wrong) + " does not exist, there are " + std::to_string(comm.size()) + " ranks";
      try {
        const SegmentOf<decltype(comm)> segments[] = {{Direction::send, wrong, room<std::uint64_t>(comm, 1)}};
        comm.exchange(comm.execution_instance(), segments, {}).wait();
        found.expect(false, "an exchange with a rank that does not exist");
      } catch (const rondo::argument_error& refusal) {
        found.equal(std::string(refusal.what()), "exchange:" + needed, "the refusal");
      }
      try {
        std::byte byte{};
        comm.broadcast(std::span(&byte, 1), wrong);
        found.expect(false, "a broadcast from a rank that does not exist");
      } catch (const rondo::argument_error& refusal) {
        found.equal(std::string(refusal.what()), "broadcast:" + needed, "the refusal");
      }
    }
    found.expect(comm.agree(true), "agree after refusals");
  });
}

}  // namespace comm_test
