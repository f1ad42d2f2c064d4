#include "brute_force.hpp"

#include <rondo/mask/full.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <limits>

namespace {

using namespace mask_test;
using rondo::Coverage;
using rondo::full;

TEST_CASE("Under the full mask every query may see every key") {
  for (const std::int64_t query : {std::int64_t{0}, std::int64_t{5}, std::int64_t{1} << 60}) {
    for (const std::int64_t key : {std::int64_t{0}, std::int64_t{5}, std::int64_t{1} << 60}) {
      CHECK(rondo::allows(full{}, 1, 2, query, key));
    }
  }
}

TEST_CASE("The full mask's coverage and work are those of counting, for every pair of small runs") {
  const auto runs = small_runs(3, 3, 4);
  for (const Run& queries : runs) {
    for (const Run& keys : runs) {
      const Count count = count_pairs(queries, keys, [](std::int64_t, std::int64_t) { return true; });
      const bool right = full{}.coverage(0, 0, queries, keys) == count.coverage() &&
                         full{}.work(0, 0, queries, keys) == count.allowed;
      if (!right) FAIL("queries from " << queries.first << ", " << queries.count << " by " << keys.count << " keys");
    }
  }
  SUCCEED();
}

TEST_CASE("The full mask's work does not overflow for the longest runs") {
  constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();
  constexpr std::int64_t pairs = 4611686014132420609;  // (2^31 - 1)^2
  CHECK(full{}.work(0, 0, Run{0, 1, most}, Run{7, 3, most}) == pairs);
}

}  // namespace
