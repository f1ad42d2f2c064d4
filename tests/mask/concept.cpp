#include "brute_force.hpp"

#include <rondo/mask/causal.hpp>
#include <rondo/mask/concept.hpp>
#include <rondo/mask/full.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

namespace {

using namespace mask_test;
using rondo::Coverage;
using rondo::IndexRange;
using rondo::Interval;

/// A user's mask, asked pair by pair: queries and keys of the same colour see each other.
struct checkers {
  std::int64_t colours = 2;
  static constexpr int code = 1000;
  bool allows(int, int, std::int64_t query, std::int64_t key) const { return (query - key) % colours == 0; }
  Coverage coverage(int, int, const Run&, const Run&) const { return Coverage::some; }
  std::int64_t work(int, int, const Run& queries, const Run& keys) const {
    return std::int64_t{queries.count} * keys.count / colours;
  }
};

/// A user's mask on intervals, of which head 0 sees the first half of what head 1 does.
struct by_head {
  static constexpr int code = 1001;
  Interval keys(int, int head, std::int64_t) const { return {0, head == 0 ? 10 : 20}; }
  Coverage coverage(int, int, const Run&, const Run&) const { return Coverage::some; }
  int work(int, int, const Run&, const Run&) const { return 0; }
};

static_assert(rondo::Mask<rondo::full> && rondo::Mask<rondo::causal>);
static_assert(rondo::IntervalMask<rondo::full> && !rondo::PairMask<rondo::full>);
static_assert(rondo::IntervalMask<rondo::causal> && !rondo::PairMask<rondo::causal>);
static_assert(rondo::Mask<checkers> && rondo::PairMask<checkers> && !rondo::IntervalMask<checkers>);
static_assert(rondo::Mask<by_head> && rondo::IntervalMask<by_head>);

// Near misses: each lacks one thing.
struct no_mask {};
struct without_pairs {
  static constexpr int code = 1;
  Coverage coverage(int, int, const Run&, const Run&) const { return Coverage::some; }
  std::int64_t work(int, int, const Run&, const Run&) const { return 0; }
};
struct without_coverage {
  static constexpr int code = 1;
  bool allows(int, int, std::int64_t, std::int64_t) const { return true; }
  std::int64_t work(int, int, const Run&, const Run&) const { return 0; }
};
struct without_work {
  static constexpr int code = 1;
  bool allows(int, int, std::int64_t, std::int64_t) const { return true; }
  Coverage coverage(int, int, const Run&, const Run&) const { return Coverage::some; }
};
struct without_code {
  bool allows(int, int, std::int64_t, std::int64_t) const { return true; }
  Coverage coverage(int, int, const Run&, const Run&) const { return Coverage::some; }
  std::int64_t work(int, int, const Run&, const Run&) const { return 0; }
};
struct covers_by_bool : without_coverage {
  bool coverage(int, int, const Run&, const Run&) const { return true; }
};
struct changes_when_asked : without_pairs {
  bool allows(int, int, std::int64_t, std::int64_t) { return true; }  // not const
};
struct allows_a_number : without_pairs {
  int allows(int, int, std::int64_t, std::int64_t) const { return 1; }
};
struct owns_memory : without_pairs {
  std::string table;
  bool allows(int, int, std::int64_t, std::int64_t) const { return true; }
};
static_assert(!rondo::Mask<no_mask> && !rondo::Mask<int>);
static_assert(!rondo::Mask<without_pairs> && !rondo::Mask<without_coverage> && !rondo::Mask<without_work> &&
              !rondo::Mask<without_code>);
static_assert(!rondo::Mask<covers_by_bool> && !rondo::Mask<changes_when_asked> && !rondo::Mask<allows_a_number>);
static_assert(!rondo::Mask<owns_memory>, "a mask travels to the device by copying its bytes");

TEST_CASE("A mask of the user's is asked pair by pair") {
  const checkers mask{3};
  for (std::int64_t query = 0; query < 10; ++query) {
    for (std::int64_t key = 0; key < 10; ++key) {
      CHECK(rondo::allows(mask, 0, 0, query, key) == (query % 3 == key % 3));
    }
  }
}

TEST_CASE("A mask on intervals allows the keys from lo to before hi, of the head it is asked for") {
  for (const int head : {0, 1}) {
    for (std::int64_t key = 0; key < 30; ++key) {
      CHECK(rondo::allows(by_head{}, 0, head, 5, key) == (key < (head == 0 ? 10 : 20)));
    }
  }
}

TEST_CASE("indices_in finds the tokens of a run that lie in an interval, for every small run and interval") {
  for (const Run& run : small_runs(5, 4, 5)) {
    const auto tokens = positions(run);
    for (std::int64_t lo = -3; lo < 24; ++lo) {
      for (std::int64_t hi = -3; hi < 24; ++hi) {
        const IndexRange range = rondo::indices_in(Interval{lo, hi}, run);
        bool right = range.begin >= 0 && range.begin <= range.end && range.end <= run.count;
        for (std::int32_t index = 0; index < run.count; ++index) {
          const std::int64_t token = tokens[static_cast<std::size_t>(index)];
          right = right && (lo <= token && token < hi) == (range.begin <= index && index < range.end);
        }
        if (!right) {
          FAIL(run.count << " from " << run.first << " by " << run.stride << " in [" << lo << ", " << hi << "): ["
                         << range.begin << ", " << range.end << ")");
        }
      }
    }
  }
  SUCCEED();
}

TEST_CASE("indices_in finds all of a run in an interval without an end") {
  constexpr std::int64_t infinite = std::numeric_limits<std::int64_t>::max();
  for (const Run& run : {Run{0, 1, 9}, Run{0, 2, 9}, Run{0, 7, 9}, Run{3, 7, 9}, Run{std::int64_t{1} << 40, 4096, 9}}) {
    for (const std::int64_t lo : {std::int64_t{0}, -infinite}) {
      INFO("from " << run.first << " by " << run.stride << ", lo " << lo);
      const IndexRange range = rondo::indices_in(Interval{lo, infinite}, run);
      CHECK(range.begin == 0);
      CHECK(range.end == run.count);
    }
  }
  // What the full mask says of any query.
  const IndexRange range = rondo::indices_in(rondo::full{}.keys(0, 0, 0), Run{0, 4, 100});
  CHECK(range.end - range.begin == 100);
}

TEST_CASE("indices_in is right at the far end of long runs") {
  const Run run{5, 4096, std::numeric_limits<std::int32_t>::max()};
  const std::int64_t last = run.first + run.stride * (std::int64_t{run.count} - 1);
  CHECK(rondo::indices_in({last, last + 1}, run).begin == run.count - 1);
  CHECK(rondo::indices_in({last, last + 1}, run).end == run.count);
  CHECK(rondo::indices_in({last + 1, last + 4096}, run).begin == run.count);
  CHECK(rondo::indices_in({0, last}, run).end == run.count - 1);
}

}  // namespace
