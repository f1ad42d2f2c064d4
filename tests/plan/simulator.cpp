/// \file
/// The simulated ring against a discrete-event model that knows nothing of engine or schedule, and against what can be
/// said beforehand.
#include "message_of.hpp"

#include <rondo/plan/simulator.hpp>
#include <rondo/sharding/zigzag.hpp>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace rondo::test {
namespace {

using Catch::Approx;
using plan::RingModel;

/// Forward of N ranks, in words: each piece goes once round. In every step a rank sends the piece it has, receives its
/// neighbour's, computes, and waits for both; the last hop of a piece sends nothing.
template <class Sharding, class Mask>
double forward_by_events(const RingModel& model, const Sharding& sharding, const Mask& mask) {
  const int ranks = static_cast<int>(model.links.size());
  const auto at = [](auto& values, int r) -> auto& { return values[static_cast<std::size_t>(r)]; };
  std::vector<std::vector<std::int64_t>> tokens(static_cast<std::size_t>(ranks));
  for (int r = 0; r < ranks; ++r) {
    for (const Run& run : sharding.runs(r, ranks)) {
      for (int i = 0; i < run.count; ++i) at(tokens, r).push_back(run.at(i));
    }
  }
  const auto held = static_cast<std::int64_t>(tokens[0].size());
  const std::int64_t chunk = std::min(model.chunk, held);
  const std::int64_t pieces = (held + chunk - 1) / chunk;
  const auto pairs = [&](int r, int owner, std::int64_t piece) {
    double count = 0;
    for (const std::int64_t query : at(tokens, r)) {
      for (std::int64_t i = piece * chunk; i < std::min(held, (piece + 1) * chunk); ++i) {
        count += allows(mask, 0, 0, query, at(tokens, owner)[static_cast<std::size_t>(i)]) ? 1 : 0;
      }
    }
    return count;
  };
  const auto all = static_cast<std::size_t>(ranks);
  std::vector<double> now(all, 0.0), link_free(all, 0.0);
  for (std::int64_t piece = 0; piece < pieces; ++piece) {
    for (int hop = 0; hop < ranks; ++hop) {
      const bool sends = hop + 1 < ranks;
      const auto width = static_cast<double>(std::min(chunk, held - piece * chunk));
      std::vector<double> asked = now, arrives(all), next = now;
      for (int r = 0; r < ranks; ++r) {
        if (sends) {
          const double leaves = std::max(at(now, r), at(link_free, r));
          at(link_free, r) = leaves + at(model.links, r).latency +
                             width * model.attention.token_bytes(false) / at(model.links, r).bytes_per_second;
          at(arrives, (r + 1) % ranks) = at(link_free, r);
        }
        const double slowness = model.slowness.empty() ? 1 : at(model.slowness, r);
        at(next, r) += slowness * (model.step_seconds + pairs(r, (r + ranks - hop) % ranks, piece) *
                                                            model.attention.pair_flops(false) / model.forward_flops);
      }
      if (sends) {
        for (int r = 0; r < ranks; ++r) {
          at(next, r) = std::max({at(next, r), at(arrives, r), at(link_free, r), at(asked, (r + 1) % ranks)});
        }
      }
      now = next;
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
          CHECK(simulate(model, sharding, mask).forward.seconds ==
                Approx(forward_by_events(model, sharding, mask)).epsilon(1e-9));
        };
        check(contiguous{total}, causal{});
        check(contiguous{total}, window{15, 3});
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
  // A zigzag shard is even as a whole, its two runs are not, and they go round one after the other: in every step some rank
  // has 2 quarters to do, then 1, where the mean is 3/2 and 1/2.
  CHECK(simulate(model, zigzag{160}, causal{}).forward.efficiency() == Approx(2.0 / 3).margin(0.06));
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
