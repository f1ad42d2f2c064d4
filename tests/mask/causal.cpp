#include "brute_force.hpp"

#include <rondo/mask/causal.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <random>
#include <string>

namespace {

using namespace mask_test;
using rondo::causal;
using rondo::Coverage;

/// The definition.
bool sees(std::int64_t query, std::int64_t key) { return key <= query; }

std::string text(const Run& run) {
  return std::to_string(run.count) + " from " + std::to_string(run.first) + " by " + std::to_string(run.stride);
}

__extension__ using Wide = __int128;

/// Σ over the queries of the number of keys they see, each term by division in 128 bits.
Wide work_by_rows(const Run& queries, const Run& keys) {
  Wide sum = 0;
  for (std::int64_t index = 0; index < queries.count; ++index) {
    const Wide query = Wide{queries.first} + Wide{queries.stride} * index;
    if (query < keys.first) continue;
    const Wide seen = (query - keys.first) / keys.stride + 1;
    sum += seen < keys.count ? seen : Wide{keys.count};
  }
  return sum;
}

TEST_CASE("Under the causal mask a query sees itself and what comes before, nothing after") {
  for (std::int64_t query = 0; query < 12; ++query) {
    for (std::int64_t key = 0; key < 12; ++key) {
      INFO("query " << query << ", key " << key);
      CHECK(rondo::allows(causal{}, 0, 0, query, key) == sees(query, key));
    }
  }
}

TEST_CASE("The causal mask's coverage is exact for any two runs") {
  // Positions up to 7 + 4·5 on both sides: ties, gaps, runs inside gaps, empty runs.
  const auto runs = small_runs(8, 4, 6);
  std::int64_t of_each[3] = {};
  for (const Run& queries : runs) {
    for (const Run& keys : runs) {
      const Coverage needed = count_pairs(queries, keys, sees).coverage();
      ++of_each[static_cast<int>(needed)];
      if (causal{}.coverage(0, 0, queries, keys) != needed) {
        FAIL("queries " << text(queries) << ", keys " << text(keys) << ": needed is " << static_cast<int>(needed));
      }
    }
  }
  for (const std::int64_t tiles : of_each) CHECK(tiles > 1000);
}

TEST_CASE("The causal mask's work is the number of allowed pairs for any two runs") {
  const auto runs = small_runs(8, 5, 6);
  for (const Run& queries : runs) {
    for (const Run& keys : runs) {
      const std::int64_t needed = count_pairs(queries, keys, sees).allowed;
      const std::int64_t work = causal{}.work(0, 0, queries, keys);
      if (work != needed) {
        FAIL("queries " << text(queries) << ", keys " << text(keys) << ": " << work << ", counted " << needed);
      }
    }
  }
  SUCCEED();
}

TEST_CASE("The causal mask's work of long random runs equals sums taken in 128 bits") {
  std::mt19937_64 random(7);
  const auto below = [&random](std::int64_t limit) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(limit));
  };
  for (int sample = 0; sample < 300; ++sample) {
    const auto stride = [&] { return 1 + below(sample % 2 == 0 ? 64 : 100000); };
    const Run queries{below(std::int64_t{1} << 36), stride(), static_cast<std::int32_t>(below(20000))};
    // Around the queries, so that the boundary lies inside the tile more often than not.
    const Run keys{below(queries.first + queries.stride * queries.count + 1), stride(),
                   static_cast<std::int32_t>(below(std::int64_t{1} << 30))};
    INFO("queries " << text(queries) << ", keys " << text(keys));
    CHECK(Wide{causal{}.work(0, 0, queries, keys)} == work_by_rows(queries, keys));
  }
}

TEST_CASE("The causal mask's work of sequences of a billion tokens equals the closed form") {
  constexpr std::int32_t n = 2'000'000'000;
  constexpr Wide triangle = Wide{n} * (Wide{n} + 1) / 2;
  CHECK(Wide{causal{}.work(0, 0, Run{0, 1, n}, Run{0, 1, n})} == triangle);
  // Striped over N ranks, i = a + N·x sees j = b + N·y when y < x, or y = x and b ≤ a.
  for (const std::int64_t ranks : {2, 7, 4096}) {
    const Run front{0, ranks, n};
    const Run back{ranks - 1, ranks, n};
    CHECK(Wide{causal{}.work(0, 0, back, front)} == triangle);
    CHECK(Wide{causal{}.work(0, 0, front, back)} == triangle - n);
  }
  // Keys of stride 1 under queries of stride s: query x sees min(s·x + 1, n) of them.
  constexpr std::int32_t queries = 1'000'000'000;
  constexpr Wide even = Wide{queries} * (Wide{queries} - 1) + queries;
  CHECK(Wide{causal{}.work(0, 0, Run{0, 2, queries}, Run{0, 1, n})} == even);
}

TEST_CASE("The work of all pairs of shards adds up to the work of the whole sequence") {
  constexpr std::int64_t tokens = 1000;
  for (const std::int64_t ranks : {1, 3, 8}) {
    std::int64_t sum = 0;
    for (std::int64_t a = 0; a < ranks; ++a) {
      for (std::int64_t b = 0; b < ranks; ++b) {
        const auto run = [&](std::int64_t rank) {
          return Run{rank, ranks, static_cast<std::int32_t>((tokens - rank + ranks - 1) / ranks)};
        };
        sum += causal{}.work(0, 0, run(a), run(b));
      }
    }
    CHECK(sum == tokens * (tokens + 1) / 2);
  }
}

}  // namespace
