/// \file
/// The report of work, against pairs asked one by one, and the balance of the shardings.
#include <rondo/mask/algebra.hpp>
#include <rondo/mask/document.hpp>
#include <rondo/schedule/work.hpp>
#include <rondo/sharding/balanced.hpp>
#include <rondo/sharding/contiguous.hpp>
#include <rondo/sharding/striped.hpp>
#include <rondo/sharding/zigzag.hpp>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace {

using Catch::Approx;
using rondo::balanced;
using rondo::causal;
using rondo::contiguous;
using rondo::Documents;
using rondo::ShardTable;
using rondo::striped;
using rondo::zigzag;
using rondo::schedule::work_report;
using rondo::schedule::WorkReport;

/// Offsets of documents of up to `longest` tokens.
std::vector<std::int64_t> random_documents(std::int64_t tokens, std::int64_t longest, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::int64_t> offsets{0};
  while (offsets.back() < tokens) {
    const auto length = 1 + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(longest));
    offsets.push_back(std::min(tokens, offsets.back() + length));
  }
  return offsets;
}

template <class S, class M>
void check_report(const S& sharding, int ranks, std::int64_t chunk, const M& mask) {
  const ShardTable table(sharding, ranks);
  const WorkReport report = work_report(sharding, ranks, mask, 2, 3, chunk);
  for (int rank = 0; rank < ranks; ++rank) {
    std::int64_t of_steps = 0;
    for (const auto& step : report.step) of_steps += step[static_cast<std::size_t>(rank)];
    std::int64_t of_hops = 0;
    for (int hop = 0; hop < ranks; ++hop) {
      std::int64_t pairs = 0;
      table.for_each_token(rank, [&](std::int64_t i, std::int64_t) {
        table.for_each_token((rank + ranks - hop) % ranks,
                             [&](std::int64_t j, std::int64_t) { pairs += rondo::allows(mask, 0, 0, i, j) ? 6 : 0; });
      });
      REQUIRE(report.hop[static_cast<std::size_t>(hop)][static_cast<std::size_t>(rank)] == pairs);
      of_hops += pairs;
    }
    CHECK(of_steps == of_hops);
  }
}

TEST_CASE("The report's work is the number of allowed pairs, for every hop and rank") {
  const Documents documents{{0, 9, 50, 51, 90}};
  for (const int ranks : {1, 3, 4}) {
    for (const std::int64_t chunk : {7, 1000}) {
      check_report(contiguous{90}, ranks, chunk, causal{});
      check_report(zigzag{90}, ranks, chunk, causal{} & documents.mask());
      check_report(striped{90}, ranks, chunk, rondo::window{10, 3});
      check_report(balanced(90, ranks, documents.mask(), 0.03, 4), ranks, chunk, documents.mask());
    }
  }
}

TEST_CASE("Causal attention is balanced within 2 % over striped and zigzag shards, and not over contiguous ones") {
  constexpr int ranks = 8;
  constexpr std::int64_t tokens = 4096 * ranks;
  CHECK(work_report(striped{tokens}, ranks, causal{}).imbalance() <= 1.02);
  CHECK(work_report(striped{tokens}, ranks, causal{}).imbalance_of_steps() <= 1.02);
  for (const std::int64_t chunk : {std::int64_t{512}, std::int64_t{1000}, std::int64_t{4096}}) {
    const WorkReport report = work_report(zigzag{tokens}, ranks, causal{}, 1, 1, chunk);
    CHECK(report.imbalance() <= 1.02);
    CHECK(report.imbalance_of_steps() <= 1.02);
  }
  // Contiguous: with c tokens each, N - 1 hops of c² and one of half of that, over N·c²/2.
  CHECK(work_report(contiguous{tokens}, ranks, causal{}).imbalance() == Approx(15.0 / 8).epsilon(0.001));
  const WorkReport report = work_report(striped{tokens}, ranks, causal{});
  CHECK(report.total() == tokens * (tokens + 1) / 2);
  CHECK(report.tokens_sent == std::vector<std::int64_t>(ranks, 4096 * (ranks - 1)));
}

TEST_CASE("A window's report says what it costs: a little over contiguous shards, everything over striped ones") {
  constexpr std::int64_t tokens = 8000;
  const auto sent = [](const WorkReport& report) {
    std::int64_t sum = 0;
    for (const std::int64_t of_rank : report.tokens_sent) sum += of_rank;
    return sum;
  };
  CHECK(sent(work_report(contiguous{tokens}, 8, rondo::window{100, 0}, 1, 1, 100)) == 7 * 100);
  CHECK(sent(work_report(striped{tokens}, 8, rondo::window{100, 0}, 1, 1, 100)) == 7 * tokens);
}

TEST_CASE("Packed documents of random lengths are balanced within 5 % by balanced sharding") {
  for (const int ranks : {2, 5, 8}) {
    const std::int64_t tokens = 2048 * ranks + 3;
    for (const std::int64_t longest : {200, 3000, 20000}) {
      for (const std::uint64_t seed : {1, 2}) {
        const Documents documents{random_documents(tokens, longest, seed)};
        const auto mask = causal{} & documents.mask();
        const balanced sharding(tokens, ranks, mask);
        INFO(ranks << " ranks, documents of up to " << longest);
        CHECK(work_report(sharding, ranks, mask).imbalance() <= 1.05);
        for (int rank = 0; rank < ranks; ++rank) {
          const std::int64_t held = ShardTable(sharding, ranks).tokens(rank);
          CHECK(std::abs(held - tokens / ranks) <= 256);
        }
      }
    }
  }
}

TEST_CASE("Balanced sharding holds every token once, is the same every time, and says for how many ranks it is made") {
  const Documents documents{random_documents(1000, 90, 5)};
  const balanced one(1000, 3, documents.mask()), two(1000, 3, documents.mask()), other(1000, 3, causal{});
  CHECK(one.fingerprint() == two.fingerprint());
  CHECK(one.fingerprint() != other.fingerprint());
  std::vector<int> held(1000, 0);
  const ShardTable table(one, 3);
  for (int rank = 0; rank < 3; ++rank) {
    table.for_each_token(rank, [&](std::int64_t i, std::int64_t) { ++held[static_cast<std::size_t>(i)]; });
  }
  CHECK(std::all_of(held.begin(), held.end(), [](int times) { return times == 1; }));
  const auto refusal = [](const auto& f) -> std::string {
    try {
      f();
    } catch (const rondo::argument_error& refused) {
      return refused.what();
    }
    return {};
  };
  CHECK(refusal([&] { one.runs(0, 4); }) == "balanced: made for 3 ranks, the communicator has 4");
  CHECK(refusal([&] { balanced(-1, 3, causal{}); }) == "balanced: -1 tokens, there must be at least 0");
  CHECK(refusal([&] { balanced(10, 0, causal{}); }) == "balanced: 0 ranks, there must be at least 1");
  CHECK(refusal([&] { balanced(10, 2, causal{}, 0.03, 0); }) ==
        "balanced: at most 0 pieces for each rank, it must be at least 1");
  CHECK(ShardTable(balanced(0, 3, causal{}), 3).tokens(1) == 0);
  CHECK(ShardTable(balanced(2, 3, causal{}), 3).total_tokens() == 2);
}

}  // namespace
