/// \file
/// Simulated rings whose masks leave hops out, stretch by stretch, against the same rings rank by rank; and rings of tens
/// of thousands.
#include "rank_by_rank.hpp"

#include <rondo/plan/simulator.hpp>
#include <rondo/rondo.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace rondo::test {
namespace {

using plan::RingModel;

/// Links of three speeds and as many latencies, uneven ranks: every rank has its own times.
RingModel uneven_model(int ranks, double bytes_per_second) {
  RingModel model;
  model.attention = {1, 4, 2, 16, plan::precision("bfloat16"), 2};
  model.chunk = 7;
  model.forward_flops = 1e6;
  model.step_seconds = 2e-4;
  for (int r = 0; r < ranks; ++r) {
    model.links.push_back({bytes_per_second / (1 + r % 3), 1e-4 * (1 + r % 2)});
    model.slowness.push_back(1 + 0.25 * (r * 7 % 5));
  }
  return model;
}

int compared = 0;

template <class Sharding, class Mask>
void compare(const RingModel& model, const Sharding& sharding, const Mask& mask) {
  RankByRank right(model, sharding, mask);
  if (!right.skips()) return;
  ++compared;
  const plan::Simulation found = plan::simulate(model, sharding, mask);
  for (const bool backward : {false, true}) {
    const plan::PassTime time = right.pass(backward), &mine = backward ? found.backward : found.forward;
    INFO(model.links.size() << " ranks, mask " << Mask::code << ", sharding " << Sharding::code << ", "
                            << model.links[0].bytes_per_second << " bytes/s, chunk " << model.chunk
                            << (backward ? ", backward" : ", forward"));
    CHECK(mine.seconds == time.seconds);
    CHECK(mine.compute_seconds == time.compute_seconds);
    CHECK(mine.wait_seconds == time.wait_seconds);
    CHECK(mine.bytes_sent == time.bytes_sent);
  }
}

TEST_CASE(
    "stretch by stretch, a ring takes to the last digit what it takes rank by rank, for every mask and sharding") {
  compared = 0;
  for (const int ranks : {2, 3, 4, 5, 8, 13, 64}) {
    for (const double rate : {1e3, 3e4, 1e9}) {
      for (const std::int64_t chunk : {7, 20}) {
        if (ranks == 64 && (rate != 3e4 || chunk != 7)) continue;  // what is done rank by rank takes long
        RingModel model = uneven_model(ranks, rate);
        model.chunk = chunk;
        const auto check = [&](const auto& sharding) {
          const std::int64_t total = sharding.total_tokens();
          compare(model, sharding, causal{});
          for (const std::int64_t side : {0, 1, 15, 20, 60}) {
            compare(model, sharding, window{side, 0});
            compare(model, sharding, window{0, side});
            compare(model, sharding, window{side, side / 3});
            compare(model, sharding, window{side, window::unlimited});
          }
          compare(model, sharding, window{total / 2, total / 2});
          compare(model, sharding, window{total / 3, total / 2});
          compare(model, sharding, !causal{});
          compare(model, sharding, !window{15, 3});
          compare(model, sharding, causal{} & prefix{total / 3});
          compare(model, sharding, chunked{32});
          const Documents documents{{0, 5, 13, total / 2, total}};
          compare(model, sharding, documents.mask());
          compare(model, sharding, documents.mask() & causal{});
        };
        check(contiguous{20 * ranks});
        check(striped{20 * ranks});
        check(zigzag{20 * ranks});
        check(contiguous{20 * ranks - ranks / 2});
        check(striped{20 * ranks + 1});
      }
    }
  }
  CHECK(compared > 1000);
}

TEST_CASE("tens of thousands of ranks under a window, thousands under a causal mask, are simulated while one waits") {
  RingModel model;
  model.attention = {1, 4, 2, 16, plan::precision("bfloat16"), 2};
  model.forward_flops = 1e6;
  const auto simulate = [&](int ranks, const auto& mask) {
    model.links.assign(static_cast<std::size_t>(ranks), {1e12, 1e-6});
    return plan::simulate(model, contiguous{std::int64_t{64} * ranks}, mask);
  };
  const auto window_time = simulate(65'536, window{255, 0});
  CHECK(window_time.forward.efficiency() > 0.95);
  CHECK(window_time.forward.bytes_sent == 64 * model.attention.wire_bytes(false) * (65'536 * 4.0 - 10));
  // Early ranks wait for late ones' work: half of the time is lost, whatever the number of ranks.
  CHECK(std::abs(simulate(4096, causal{}).forward.efficiency() - 0.5) < 0.01);
}

}  // namespace
}  // namespace rondo::test
