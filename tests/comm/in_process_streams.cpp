/// An in-process group over streams: copies come after the work that was queued before them, on both sides, and before the
/// work queued after them; the host is free; memory lasts.
#include "streams_launcher.hpp"

#include <catch2/catch_test_macros.hpp>

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
using rondo::Direction;
using Segment = rondo::Segment<Kokkos::HostSpace>;

// --- What may be forgotten, one thing at a time. A rank's thread says which stream is its instance's.

inline thread_local stand_in::Stream own_stream = nullptr;
inline thread_local stand_in::Event own_event = nullptr;  ///< the last one recorded on it
inline thread_local int own_rank = 0;

/// Copies take a while.
struct Right : QueuedStreams {
  static void copy(stream on, void* target, const void* source, std::size_t bytes) {
    on->push([=] {
      std::this_thread::sleep_for(300us);
      std::memcpy(target, source, bytes);
    });
  }
  static void record(event given, stream on) {
    if (on == own_stream) own_event = given;
    QueuedStreams::record(given, on);
  }
};
/// The event of what comes before is reached although the work is not done.
struct RecordsBeforeTheWork : Right {
  static void record(event given, stream on) { Right::record(given, on == own_stream ? nullptr : on); }
};
struct CopiesAtOnce : Right {
  static void copy(stream, void* target, const void* source, std::size_t bytes) { std::memcpy(target, source, bytes); }
};
/// Whoever posts the second half does not wait for the work before the first one.
struct ForgetsTheOther : Right {
  static void wait(stream later, event given) {
    if (later == own_stream || given == own_event) Right::wait(later, given);
  }
};
/// Nor for its own.
struct ForgetsItself : Right {
  static void wait(stream later, event given) {
    if (later == own_stream || given != own_event) Right::wait(later, given);
  }
};
/// order does nothing on one side.
template <int Rank>
struct ForgetsWhatComesAfter : Right {
  static void wait(stream later, event given) {
    if (later != own_stream || own_rank != Rank) Right::wait(later, given);
  }
};

template <class Comm>
void start(const Comm& comm) {
  own_stream = comm.execution_instance().stream();
  own_rank = comm.rank();
}

constexpr std::size_t count = 64;
constexpr int rounds = 8;

/// How long work takes before it does what it is there for.
struct Pace {
  std::chrono::milliseconds write{1}, read{3};
};
constexpr Pace slow_writer{20ms, 0ms}, slow_reader{0ms, 20ms};

template <class Bytes>
void queue_write(const QueuedExec& exec, const Bytes& target, std::vector<std::uint64_t> values, Pace pace = {}) {
  exec.queue([=] {
    std::this_thread::sleep_for(pace.write);
    std::memcpy(target.data(), values.data(), target.size());
  });
}

/// What stood in `source` when the queue came to it.
template <class Bytes>
void queue_read(const QueuedExec& exec, const Bytes& source, std::vector<std::uint64_t>& copy, Pace pace = {}) {
  exec.queue([=, &copy] {
    std::this_thread::sleep_for(pace.read);
    copy.resize(count);
    std::memcpy(copy.data(), source.data(), source.size());
  });
}

/// Rounds on two ranks, whose memory is used again in each: rank 0 writes and sends, rank 1 receives and reads.
/// \param second  the rank that posts its half when the other one's is there
template <class S>
Report run_one_way(int second, Pace pace) {
  return Queued<S>::run(2, [&](auto& comm, Findings& found) {
    start(comm);
    const QueuedExec exec = comm.execution_instance();
    const auto bytes = room<std::uint64_t>(comm, count);
    std::vector<std::vector<std::uint64_t>> copies(rounds);
    for (int round = 0; round < rounds; ++round) {
      if (comm.rank() == 0) queue_write(exec, bytes, marked(0, round, count), pace);
      const Segment segments[] = {{comm.rank() == 0 ? Direction::send : Direction::receive, 1 - comm.rank(), bytes}};
      if (comm.rank() == second) comm.barrier();
      auto transfer = comm.exchange(exec, segments);
      if (comm.rank() != second) comm.barrier();
      transfer.order(exec);
      if (comm.rank() == 1) queue_read(exec, bytes, copies[static_cast<std::size_t>(round)], pace);
    }
    comm.fence(exec, "rounds");
    for (int round = 0; round < rounds && comm.rank() == 1; ++round) {
      const bool right = copies[static_cast<std::size_t>(round)] == marked(0, round, count);
      found.expect(right, "round " + std::to_string(round));
    }
  });
}

/// The same round a ring, all ranks at once.
template <class S>
Report run_round(int ranks) {
  return Queued<S>::run(ranks, [&](auto& comm, Findings& found) {
    start(comm);
    const QueuedExec exec = comm.execution_instance();
    const auto source = room<std::uint64_t>(comm, count), target = room<std::uint64_t>(comm, count);
    std::vector<std::vector<std::uint64_t>> copies(rounds);
    for (int round = 0; round < rounds; ++round) {
      queue_write(exec, source, marked(comm.rank(), round, count));
      const Segment segments[] = {{Direction::send, next(comm), source}, {Direction::receive, previous(comm), target}};
      comm.exchange(exec, segments).order(exec);
      queue_read(exec, target, copies[static_cast<std::size_t>(round)]);
    }
    comm.fence(exec, "rounds");
    for (int round = 0; round < rounds; ++round) {
      const bool right = copies[static_cast<std::size_t>(round)] == marked(previous(comm), round, count);
      found.expect(right, "round " + std::to_string(round));
    }
  });
}

TEST_CASE("Over streams what work wrote before an exchange is sent, and work queued after it finds what has come") {
  for (const int ranks : {1, 2, 3, 4, 7}) {
    INFO(ranks << " ranks");
    CHECK(run_round<Right>(ranks) == nothing);
  }
  for (const int second : {0, 1}) {
    for (const Pace pace : {slow_writer, slow_reader}) CHECK(run_one_way<Right>(second, pace) == nothing);
  }
}

TEST_CASE("Over streams the check can fail: events forgotten one at a time, a copy that does not wait") {
#ifdef __SANITIZE_THREAD__
  SKIP("what is forgotten is a race");
#endif
  for (const int second : {0, 1}) {
    CHECK(run_one_way<RecordsBeforeTheWork>(second, slow_writer) != nothing);
    CHECK(run_one_way<RecordsBeforeTheWork>(second, slow_reader) != nothing);
    CHECK(run_one_way<CopiesAtOnce>(second, slow_writer) != nothing);
    CHECK(run_one_way<CopiesAtOnce>(second, slow_reader) != nothing);
    CHECK(run_one_way<ForgetsWhatComesAfter<0>>(second, slow_reader) != nothing);  // the source is written too early
    CHECK(run_one_way<ForgetsWhatComesAfter<1>>(second, slow_writer) != nothing);  // the target is read too early
  }
  CHECK(run_one_way<ForgetsTheOther>(0, slow_reader) != nothing);  // the receiver's event: its work still reads
  CHECK(run_one_way<ForgetsTheOther>(1, slow_writer) != nothing);  // the sender's: its work has yet to write
  CHECK(run_one_way<ForgetsItself>(0, slow_writer) != nothing);
  CHECK(run_one_way<ForgetsItself>(1, slow_reader) != nothing);
  CHECK(run_round<RecordsBeforeTheWork>(3) != nothing);
  CHECK(run_round<CopiesAtOnce>(3) != nothing);
}

TEST_CASE("Over streams the host waits for no queue, neither its own nor the other rank's") {
  for (const int held : {0, 1, 2}) {  // which rank's queue; 2 for both
    CHECK(Queued<>::run(2, [&](auto& comm, Findings& found) {
            const QueuedExec exec = comm.execution_instance();
            const auto source = room<std::uint64_t>(comm, count);
            std::vector<BytesOf<decltype(comm)>> targets;
            const bool holds = held == 2 || held == comm.rank();
            const auto gate = holds ? Gate::hold(exec) : nullptr;
            for (int round = 0; round < 50; ++round) {
              targets.push_back(room<std::uint64_t>(comm, count));
              queue_write(exec, source, marked(comm.rank(), round, count));
              const Segment segments[] = {{Direction::send, 1 - comm.rank(), source},
                                          {Direction::receive, 1 - comm.rank(), targets.back()}};
              auto transfer = comm.exchange(exec, segments);
              found.expect(!transfer.test(), "a message that a queue holds back has arrived");
              transfer.order(exec);
            }
            comm.barrier();
            if (gate) gate->open();
            comm.fence(exec, "held");
            found.expect(!gate || !gate->opened_by_itself(), "the host waited for its queue");
            for (int round = 0; round < 50; ++round) {
              const auto came = unpacked<std::uint64_t>(targets[static_cast<std::size_t>(round)]);
              found.expect(came == marked(1 - comm.rank(), round, count), "round " + std::to_string(round));
            }
          }) == nothing);
  }
}

TEST_CASE("Over streams wait and test speak of the copy, not of its having been queued") {
  CHECK(
      Queued<>::run(2, [](auto& comm, Findings& found) {
        const QueuedExec exec = comm.execution_instance();
        const auto bytes = comm.rank() == 0 ? packed(comm, marked(0, 0, count)) : room<std::uint64_t>(comm, count);
        const Segment segments[] = {{comm.rank() == 0 ? Direction::send : Direction::receive, 1 - comm.rank(), bytes}};
        for (const bool waits : {false, true}) {
          const auto gate = comm.rank() == 0 ? Gate::hold(exec) : nullptr;
          auto transfer = comm.exchange(exec, segments);
          comm.barrier();  // both halves are there
          found.expect(!transfer.test() && !transfer.test(), "what is held back has arrived");
          comm.barrier();
          if (gate) gate->open();
          if (waits) transfer.wait();
          while (!transfer.test()) std::this_thread::yield();
          if (comm.rank() == 1) found.expect(unpacked<std::uint64_t>(bytes) == marked(0, 0, count), "what has come");
          transfer.wait();
          transfer.order(exec);
          comm.barrier();
        }
      }) == nothing);
}

TEST_CASE("Over streams memory is kept until it has been copied, whatever becomes of the transfer, and no longer") {
  for (const bool is_ordered : {false, true}) {
    CHECK(Queued<>::run(2, [&](auto& comm, Findings& found) {
            const QueuedExec exec = comm.execution_instance();
            auto bytes = comm.rank() == 0 ? packed(comm, marked(0, 3, count)) : room<std::uint64_t>(comm, count);
            const Segment segments[] = {
                {comm.rank() == 0 ? Direction::send : Direction::receive, 1 - comm.rank(), bytes}};
            const auto before = bytes.use_count();
            const auto gate = Gate::hold(exec);
            {
              auto transfer = comm.exchange(exec, segments);
              comm.barrier();
              if (is_ordered) transfer.order(exec);
            }
            found.equal(bytes.use_count(), before + 1, "those who hold what is to be copied");
            comm.exchange(exec, std::span<const Segment>{});
            found.equal(bytes.use_count(), before + 1, "those who hold it after another call");
            comm.barrier();
            gate->open();
            comm.fence(exec, "copied");
            found.equal(bytes.use_count(), before, "those who hold what has been copied");
            if (comm.rank() == 1) found.expect(unpacked<std::uint64_t>(bytes) == marked(0, 3, count), "what has come");
            comm.exchange(exec, segments).wait();
            found.equal(bytes.use_count(), before, "those who hold what has been waited for");
          }) == nothing);
  }
}

TEST_CASE("Over streams a message that its owner drops before the other half is there was never sent") {
  CHECK(
      Queued<>::run(2, [](auto& comm, Findings& found) {
        const QueuedExec exec = comm.execution_instance();
        const auto bytes = packed(comm, marked(comm.rank(), 1, count));
        const auto gate = Gate::hold(exec);
        if (comm.rank() == 0) {
          const Segment segments[] = {{Direction::send, 1, bytes}};
          const auto before = bytes.use_count();
          static_cast<void>(comm.exchange(exec, segments));
          found.equal(bytes.use_count(), before, "those who hold what was dropped");
        }
        comm.barrier();
        gate->open();
        const auto other = comm.rank() == 0 ? packed(comm, marked(0, 2, count)) : bytes;
        const Segment segments[] = {{comm.rank() == 0 ? Direction::send : Direction::receive, 1 - comm.rank(), other}};
        comm.exchange(exec, segments).wait();
        found.expect(unpacked<std::uint64_t>(other) == marked(0, 2, count), "what was dropped has come");
      }) == nothing);
}

TEST_CASE("Over streams every rank has an instance of its own") {
  std::vector<stand_in::Stream> streams(4);
  QueuedGroup<>(4).run([&](auto& comm) {
    streams[static_cast<std::size_t>(comm.rank())] = comm.execution_instance().stream();
    comm.barrier();
  });
  for (std::size_t a = 0; a < streams.size(); ++a) {
    for (std::size_t b = 0; b < a; ++b) CHECK(streams[a] != streams[b]);
  }
}

}  // namespace
