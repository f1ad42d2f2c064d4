/// \file
/// The simulated ring against a discrete-event model that knows nothing of engine or schedule, and against what can be
/// said beforehand; its bytes against those of real rings.
#include "../../bench/simulator/sleeping_kernel.hpp"
#include "message_of.hpp"

#include <rondo/plan/simulator.hpp>
#include <rondo/rondo.hpp>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace rondo::test {
namespace {

using Catch::Approx;
using plan::RingModel;

/// How far a piece goes each way, to everybody who needs it ([hop up]) in the fewest hops: up alone if that is as short.
std::array<int, 2> ways(const std::vector<char>& needed) {
  const int ranks = static_cast<int>(needed.size());
  std::array<int, 2> best{ranks, ranks};
  for (int up = 0; up < ranks; ++up) {
    for (int down = 0; up + down < ranks; ++down) {
      bool reaches = true;
      for (int hop = 1; hop < ranks; ++hop) {
        reaches = reaches && (!needed[static_cast<std::size_t>(hop)] || hop <= up || ranks - hop <= down);
      }
      const int hops = up + down, fewest = best[0] + best[1];
      if (reaches && (hops < fewest || (hops == fewest && down == 0))) best = {up, down};
    }
  }
  return best;
}

/// Forward of N ranks, in words: each piece goes as far round as somebody needs it. In every step a rank sends the piece it
/// has, receives its neighbour's, computes, and waits for both; nothing is sent that nobody further on needs. If any rank's piece
/// has to go down too, all own pieces are computed with in two halves, one before each way.
template <class Sharding, class Mask>
double forward_by_events(const RingModel& model, const Sharding& sharding, const Mask& mask) {
  const int ranks = static_cast<int>(model.links.size());
  const auto at = [&](auto& values, int r) -> auto& { return values[static_cast<std::size_t>((r + ranks) % ranks)]; };
  std::vector<std::vector<std::int64_t>> tokens(static_cast<std::size_t>(ranks));
  for (int r = 0; r < ranks; ++r) {
    for (const Run& run : sharding.runs(r, ranks)) {
      for (int i = 0; i < run.count; ++i) at(tokens, r).push_back(run.at(i));
    }
  }
  const auto held = static_cast<std::int64_t>(tokens[0].size());
  const std::int64_t chunk = std::min(model.chunk, held);
  const std::int64_t pieces = (held + chunk - 1) / chunk;
  const auto pairs = [&](int r, int owner, std::int64_t piece, std::int64_t from, std::int64_t to) {
    double count = 0;
    for (std::int64_t query = from; query < to; ++query) {
      for (std::int64_t i = piece * chunk; i < std::min(held, (piece + 1) * chunk); ++i) {
        count += allows(mask, 0, 0, at(tokens, r)[static_cast<std::size_t>(query)],
                        at(tokens, owner)[static_cast<std::size_t>(i)]);
      }
    }
    return count;
  };
  const auto all = static_cast<std::size_t>(ranks);
  std::vector<double> now(all, 0.0), link_free(all, 0.0);
  for (std::int64_t piece = 0; piece < pieces; ++piece) {
    const auto width = static_cast<double>(std::min(chunk, held - piece * chunk));
    std::vector<std::array<int, 2>> reach(all);
    std::array<int, 2> most{0, 0};
    for (int owner = 0; owner < ranks; ++owner) {
      std::vector<char> needed(all);
      for (int hop = 1; hop < ranks; ++hop) at(needed, hop) = pairs(owner + hop, owner, piece, 0, held) > 0;
      at(reach, owner) = ways(needed);
      for (const std::size_t way : {0, 1}) most[way] = std::max(most[way], at(reach, owner)[way]);
    }
    for (const int way : {1, -1}) {
      const auto side = static_cast<std::size_t>(way > 0 ? 0 : 1);
      if (way < 0 && most[1] == 0) continue;
      for (int hop = 0; hop <= most[side]; ++hop) {
        std::vector<double> asked = now, arrives(all, 0.0), next = now;
        for (int r = 0; r < ranks; ++r) {
          const int owner = (r - way * hop + ranks) % ranks;
          if (hop + 1 <= at(reach, owner)[side]) {
            const plan::Link& link = at(model.links, way > 0 ? r : r - 1);
            at(link_free, r) = std::max(at(now, r), at(link_free, r)) + link.latency +
                               width * model.attention.token_bytes(false) / link.bytes_per_second;
            at(arrives, r + way) = at(link_free, r);
          }
          if (hop > at(reach, owner)[side]) continue;
          const bool halves = hop == 0 && most[1] > 0;
          const std::int64_t half = (held + 1) / 2;
          const double count = pairs(r, owner, piece, halves && way < 0 ? half : 0, halves && way > 0 ? half : held);
          if (count == 0) continue;
          const double slowness = model.slowness.empty() ? 1 : at(model.slowness, r);
          at(next, r) += slowness * (model.step_seconds * (halves ? 0.5 : 1) +
                                     count * model.attention.pair_flops(false) / model.forward_flops);
        }
        for (int r = 0; r < ranks; ++r) {
          const int owner = (r - way * hop + ranks) % ranks;
          if (hop + 1 <= at(reach, owner)[side]) {
            at(next, r) = std::max({at(next, r), at(link_free, r), at(asked, r + way)});
          }
          at(next, r) = std::max(at(next, r), at(arrives, r));
        }
        now = next;
      }
    }
  }
  return *std::max_element(now.begin(), now.end());
}

RingModel model_of(int ranks, double bytes_per_second) {
  RingModel model;
  model.attention = {1, 4, 2, 16, plan::precision("bfloat16"), 2};
  model.chunk = 7;
  model.forward_flops = 1e6;
  model.links.assign(static_cast<std::size_t>(ranks), {bytes_per_second, 1e-4});
  return model;
}

/// Uneven links and ranks.
RingModel rough_model(int ranks, double bytes_per_second) {
  RingModel model = model_of(ranks, bytes_per_second);
  model.step_seconds = 2e-4;
  model.slowness.assign(static_cast<std::size_t>(ranks), 1.0);
  for (int r = 0; r < ranks; ++r) {
    model.links[static_cast<std::size_t>(r)].bytes_per_second /= 1 + r % 3;
    model.slowness[static_cast<std::size_t>(r)] = 1 + 0.25 * (r * 7 % 5);
  }
  return model;
}

TEST_CASE("forward takes what a model of events says, for every sharding and mask, with slow links and slow ranks") {
  for (const int ranks : {1, 2, 3, 8}) {
    for (const double rate : {1e3, 3e4, 1e9}) {
      for (const RingModel& model : {model_of(ranks, rate), rough_model(ranks, rate)}) {
        const std::int64_t total = 20 * ranks;
        INFO(ranks << " ranks, " << rate << " bytes/s");
        const auto check = [&](const auto& sharding, const auto& mask) {
          INFO("mask " << std::remove_cvref_t<decltype(mask)>::code);
          CHECK(simulate(model, sharding, mask).forward.seconds ==
                Approx(forward_by_events(model, sharding, mask)).epsilon(1e-9));
        };
        check(contiguous{total}, causal{});
        check(contiguous{total}, window{15, 3});
        check(contiguous{total}, window{30, 30});
        check(striped{total}, full{});
        check(striped{total}, causal{});
      }
    }
  }
}

/// A causal mask that is not recognised, so that every rank's pairs are counted.
struct plain_causal : causal {
  static constexpr int code = 99;
};

TEST_CASE("counting by distance gives what counting rank by rank gives, backward too") {
  for (const int ranks : {2, 5, 16}) {
    const RingModel model = rough_model(ranks, 2e4);
    const auto compare = [&](const auto& sharding) {
      const auto a = simulate(model, sharding, causal{}), b = simulate(model, sharding, plain_causal{});
      CHECK(a.forward.seconds == Approx(b.forward.seconds));
      CHECK(a.backward.seconds == Approx(b.backward.seconds));
      CHECK(a.backward.wait_seconds == Approx(b.backward.wait_seconds));
    };
    compare(contiguous{20 * ranks});
    compare(striped{20 * ranks});
  }
}

TEST_CASE("without messages to wait for, even work takes its share of the time, forward and backward") {
  const RingModel model = model_of(8, 1e12);
  const auto time = simulate(model, striped{160}, full{});
  CHECK(time.forward.ideal_seconds == Approx(160.0 * 160 / 8 * 4 * 4 * 16 / 1e6));
  CHECK(time.backward.ideal_seconds == Approx(2.5 * time.forward.ideal_seconds));
  CHECK(time.forward.efficiency() == Approx(1).epsilon(1e-3));
  CHECK(time.backward.efficiency() == Approx(1).epsilon(1e-3));
  CHECK(time.backward.compute_seconds == Approx(time.backward.ideal_seconds));
  CHECK(simulate(model, zigzag{160}, causal{}).forward.efficiency() > 0.9);
  CHECK(simulate(model, striped{160}, causal{}).forward.efficiency() > 0.9);
  // Early ranks wait for late ones' work under a causal mask on contiguous shards: half of the time is lost.
  CHECK(simulate(model_of(64, 1e12), contiguous{64 * 20}, causal{}).forward.efficiency() == Approx(0.5).margin(0.02));
}

TEST_CASE(
    "behind a slow link a pass takes its messages' time: every piece N - 1 hops, with gradients three times as long") {
  const RingModel model = model_of(5, 100);
  const auto time = simulate(model, striped{100}, full{});
  const double bytes = 20 * 2 * 2 * 16 * 2;  // a shard's k and v
  CHECK(time.forward.seconds == Approx(4 * bytes / 100 + 3 * 4 * 1e-4).epsilon(0.01));
  // bfloat16 keys and values, float gradients: 4 and 8 bytes a pair of elements. One hop in five carries only one kind.
  CHECK(time.backward.seconds == Approx(4 * 3 * bytes / 100).epsilon(0.02));
  CHECK(time.forward.wait_seconds + time.forward.compute_seconds == Approx(time.forward.seconds).epsilon(0.01));
}

TEST_CASE(
    "under a window of a shard, a slow link takes one hop's time, not N - 1, and backward a way home in addition") {
  const RingModel model = model_of(8, 100);
  const double bytes = 20 * 2 * 2 * 16 * 2;
  const auto time = simulate(model, contiguous{160}, window{20, 0});
  CHECK(time.forward.seconds == Approx(bytes / 100 + 3 * 1e-4).epsilon(0.01));
  CHECK(time.backward.seconds == Approx(3 * bytes / 100).epsilon(0.02));
  CHECK(simulate(model, contiguous{160}, plan::unskipped<window>{window{20, 0}}).forward.seconds ==
        Approx(7 * time.forward.seconds).epsilon(0.01));
}

/// Bytes that a real ring sends forward and backward, whose kernel computes nothing.
template <class Sharding, class Mask>
std::array<double, 2> bytes_of_ring(const RingModel& model, const Sharding& sharding, const Mask& mask) {
  const plan::Attention& of = model.attention;
  const auto head_dim = static_cast<int>(of.head_dim);
  const int ranks = static_cast<int>(model.links.size());
  std::vector<std::array<std::int64_t, 2>> sent(static_cast<std::size_t>(ranks));
  in_process_group<Kokkos::DefaultHostExecutionSpace>(ranks).run([&](auto& comm) {
    RingAttention attention{comm, Shape{.heads = of.heads, .kv_heads = of.kv_heads, .head_dim = head_dim}, sharding,
                            bench::sleeping_kernel(0, 0), Options{.chunk = model.chunk}};
    const auto tensor = [&](int heads) {
      return Kokkos::View<float****, Kokkos::LayoutRight, Kokkos::HostSpace>("x", 1, attention.tokens(), heads,
                                                                             head_dim);
    };
    const auto q = tensor(of.heads), k = tensor(of.kv_heads), v = tensor(of.kv_heads), out = tensor(of.heads);
    const auto grad = tensor(of.heads), grad_q = tensor(of.heads);
    const auto grad_k = tensor(of.kv_heads), grad_v = tensor(of.kv_heads);
    const Kokkos::View<float***, Kokkos::LayoutRight, Kokkos::HostSpace> lse("lse", 1, of.heads, attention.tokens());
    attention.forward(q, k, v, out, lse, Problem{mask});
    auto& mine = sent[static_cast<std::size_t>(comm.rank())];
    mine[0] = attention.statistics().bytes_sent;
    attention.backward(q, k, v, out, lse, grad, grad_q, grad_k, grad_v, Problem{mask});
    mine[1] = attention.statistics().bytes_sent - mine[0];
  });
  std::array<double, 2> sum{};
  for (const auto& rank : sent) {
    for (const std::size_t pass : {0, 1}) sum[pass] += static_cast<double>(rank[pass]);
  }
  return sum;
}

TEST_CASE("a simulated ring sends the bytes of a real one, whatever the mask leaves out") {
  for (const int ranks : {2, 5, 8}) {
    RingModel model = model_of(ranks, 1e6);
    model.attention.type = plan::precision("float");
    const std::int64_t total = 20 * ranks;
    const double everything = static_cast<double>(total) * (ranks - 1) * model.attention.token_bytes(false);
    const auto check = [&](const auto& sharding, const auto& mask, bool skips) {
      const auto simulated = simulate(model, sharding, mask);
      const auto real = bytes_of_ring(model, sharding, mask);
      INFO(ranks << " ranks, " << (skips ? "something" : "nothing") << " is left out");
      CHECK(simulated.forward.bytes_sent == real[0]);
      CHECK(simulated.backward.bytes_sent == real[1]);
      CHECK((simulated.forward.bytes_sent < everything) == skips);
    };
    check(contiguous{total}, causal{}, true);
    check(contiguous{total}, window{15, 3}, true);
    check(contiguous{total}, window{30, 0}, true);
    check(zigzag{total}, window{15, 0}, true);
    check(striped{total}, causal{}, false);
    const Documents documents{{0, 5, 13, total}};
    check(contiguous{total}, documents.mask(), true);
  }
}

TEST_CASE("one slow rank slows a ring as much as itself, one slow link as much as all") {
  RingModel model = model_of(8, 1e12);
  model.slowness.assign(8, 1.0);
  model.slowness[3] = 1.5;
  CHECK(simulate(model, striped{160}, full{}).forward.efficiency() == Approx(1 / 1.5).epsilon(0.01));
  RingModel one = model_of(8, 1e12), all = model_of(8, 100);
  one.links[5] = {100, 1e-4};
  CHECK(simulate(one, striped{160}, full{}).forward.seconds ==
        Approx(simulate(all, striped{160}, full{}).forward.seconds).epsilon(0.01));
  // Links of a machine: every eighth is one between nodes.
  const auto links = plan::links_of(plan::machine("A100"), 20);
  int between = 0;
  for (const auto& link : links) between += link.bytes_per_second == 25e9 ? 1 : 0;
  CHECK(between == 3);
  CHECK(plan::links_of(plan::machine("A100"), 8)[7].bytes_per_second == 300e9);
}

TEST_CASE("thousands of ranks are simulated while one waits") {
  RingModel model = model_of(4096, 1e12);
  model.chunk = 64;
  const auto time = simulate(model, striped{4096 * 64}, causal{});
  CHECK(time.forward.efficiency() > 0.95);
  CHECK(time.forward.efficiency() <= 1);
}

TEST_CASE("what makes no sense is refused") {
  const auto refusal = [](const auto& change) {
    RingModel model = model_of(4, 1e6);
    change(model);
    return message_of<argument_error>([&] { simulate(model, striped{80}, full{}); });
  };
  CHECK(refusal([](auto& model) { model.links.clear(); }).find("one a rank is needed") != std::string::npos);
  CHECK(refusal([](auto& model) { model.forward_flops = 0; }).find("a rank of 0 operations") != std::string::npos);
  CHECK(refusal([](auto& model) {
          model.slowness = {1, 2};
        }).find("of 2 ranks is given, there are 4") != std::string::npos);
  CHECK(refusal([](auto& model) { model.chunk = 0; }).find("chunk is 0") != std::string::npos);
  CHECK(message_of<argument_error>([] { simulate(model_of(4, 1e6), striped{0}, full{}); }).find("holds no token") !=
        std::string::npos);
}

}  // namespace
}  // namespace rondo::test
