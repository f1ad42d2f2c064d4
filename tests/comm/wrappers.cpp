/// What wrappers round a communicator measure, and what a recorder notes.
#include "launcher.hpp"

#include <rondo/comm/counting.hpp>
#include <rondo/comm/in_process.hpp>
#include <rondo/comm/paced.hpp>
#include <rondo/rondo.hpp>
#include <rondo/trace.hpp>

#include <catch2/catch_test_macros.hpp>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

using namespace comm_test;
using rondo::Direction;
using Group = rondo::in_process_group<>;
using Inner = rondo::in_process_communicator<>;

constexpr int heads = 2, dim = 16;
constexpr std::int64_t tokens = 64;

/// One forward call of every rank.
template <class Comm>
void forward(Comm& comm, rondo::Recorder* recorder = nullptr) {
  rondo::RingAttention attention{comm, rondo::Shape{.heads = heads, .head_dim = dim}, rondo::striped{tokens},
                                 rondo::default_kernel<float>{}, rondo::Options{.chunk = 8, .recorder = recorder}};
  const auto mine = attention.tokens();
  Kokkos::View<float****> q("q", 1, mine, heads, dim), out("out", 1, mine, heads, dim);
  Kokkos::View<float***> lse("lse", 1, heads, mine);
  attention.forward(q, q, q, out, lse);
}

void need(bool right, const char* what) {
  if (!right) throw std::runtime_error(what);
}

TEST_CASE("counting counts a ring's messages and bytes as the formula has them") {
  for (const int ranks : {1, 2, 4}) {
    Group(ranks, {.deadline = rondo::Deadline(30)}).run([&](Inner& comm) {
      rondo::counting counted(comm.split(0, comm.rank()));
      forward(counted);
      const rondo::Traffic& traffic = counted.traffic();
      const std::int64_t pieces = tokens / ranks / 8;
      const auto piece_bytes = static_cast<std::int64_t>(rondo::default_kernel<float>{}.wire_bytes(
          rondo::Pass::forward, rondo::Shape{.heads = heads, .head_dim = dim}.checked(), 8));
      need(traffic.exchanges == pieces * ranks, "one exchange a step");
      need(traffic.messages_sent == pieces * (ranks - 1), "every piece makes N - 1 hops");
      need(traffic.messages_received == traffic.messages_sent, "as many arrive as leave");
      need(traffic.bytes_sent == traffic.messages_sent * piece_bytes, "bytes sent");
      need(traffic.bytes_received == traffic.bytes_sent, "bytes received");
      need(traffic.reductions == (ranks > 1 ? 2 : 0), "one agreement of the constructor, one of the call");
      counted.reset();
      need(counted.traffic().bytes_sent == 0, "reset");
    });
  }
}

TEST_CASE("behind a paced link nothing arrives before its time, nor without the sender asking") {
  Group(2, {.deadline = rondo::Deadline(30)}).run([](Inner& comm) {
    rondo::paced paced(comm.split(0, comm.rank()), {.latency = 0.02, .bytes_per_second = 1e6, .slice_bytes = 10'000});
    const auto target = room<std::uint64_t>(comm, 10'000);  // 80,000 bytes: 0.08 s
    if (comm.rank() == 0) {
      const SegmentOf<Inner> send[] = {{Direction::send, 1, packed(comm, marked(0, 1, 10'000))}};
      auto transfer = paced.exchange(comm.execution_instance(), send);
      std::this_thread::sleep_for(std::chrono::milliseconds(200));  // time enough, but nobody asks
      comm.barrier();
      comm.barrier();
      need(transfer.test(), "when its time has come, asking once sends everything");
      comm.barrier();
      transfer.wait();
      need(paced.traffic().bytes_before_wait == 80'000, "all had moved before wait");
    } else {
      const SegmentOf<Inner> receive[] = {{Direction::receive, 0, target}};
      auto transfer = paced.exchange(comm.execution_instance(), receive);
      comm.barrier();
      need(!transfer.test(), "nothing has come of a sender that did not ask");
      comm.barrier();
      comm.barrier();
      need(transfer.test(), "what was sent has come");
      transfer.wait();
      need(unpacked<std::uint64_t>(target) == marked(0, 1, 10'000), "the bytes");
    }
    // A second message, of which both wait at once: it takes the link's time.
    const SegmentOf<Inner> both[] = {{Direction::send, 1 - comm.rank(), packed(comm, marked(comm.rank(), 2, 10'000))},
                                     {Direction::receive, 1 - comm.rank(), target}};
    const auto again = std::chrono::steady_clock::now();
    paced.exchange(comm.execution_instance(), both).wait();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - again;
    need(took.count() >= 0.1, "latency and bandwidth were kept");
    need(unpacked<std::uint64_t>(target) == marked(1 - comm.rank(), 2, 10'000), "the bytes of the second");
  });
}

TEST_CASE("a link that cannot be is refused") {
  Group(1).run([](Inner& comm) {
    for (const rondo::Link link :
         {rondo::Link{.latency = -1}, rondo::Link{.bytes_per_second = 0}, rondo::Link{.slice_bytes = 0}}) {
      try {
        rondo::paced paced(comm.split(0, 0), link);
      } catch (const rondo::argument_error&) {
        continue;
      }
      throw std::runtime_error("a link was not refused");
    }
  });
}

TEST_CASE("a recorder notes every step of every rank, and the trace holds them all") {
  const auto file = std::filesystem::temp_directory_path() / "rondo_wrappers_trace.json";
  Group(4, {.deadline = rondo::Deadline(30)}).run([&](Inner& comm) {
    rondo::Recorder recorder;
    forward(comm, &recorder);
    std::int64_t counts[4] = {};
    std::int64_t bytes = 0;
    for (const rondo::Event& event : recorder.events()) {
      ++counts[static_cast<int>(event.kind)];
      if (event.kind == rondo::Event::Kind::send) bytes += event.bytes;
      need(event.begin <= event.end && event.hop >= 0 && event.hop < 4, "an event's times and hop");
    }
    need(counts[0] == 8 && counts[1] == 6 && counts[2] == 6 && counts[3] == 6,
         "two pieces of four hops, three of them with messages");
    need(bytes > 0 && recorder.dropped() == 0, "bytes");
    need(recorder.exposed_share() >= 0 && recorder.exposed_share() <= 1, "exposed share");
    rondo::write_trace(comm, recorder, file);
  });
  std::ifstream in(file);
  const std::string text(std::istreambuf_iterator<char>(in), {});
  std::size_t events = 0;
  for (auto at = text.find("\"ph\":\"X\""); at != std::string::npos; at = text.find("\"ph\":\"X\"", at + 1)) ++events;
  CHECK(events == 4 * 26);
  CHECK(text.find("\"pid\":3") != std::string::npos);
  std::filesystem::remove(file);
}

TEST_CASE("a recorder without room counts what it drops") {
  rondo::Recorder recorder(2);
  for (int i = 0; i < 5; ++i) recorder.add({rondo::Event::Kind::compute, "forward", i, 0.0, 3.0, 0});
  recorder.add({rondo::Event::Kind::wait, "forward", 0, 0.0, 5.0, 0});
  CHECK(recorder.events().size() == 2);
  CHECK(recorder.dropped() == 4);
  CHECK(recorder.exposed_share() == 0.25);
}

}  // namespace
