#include <rondo/error.hpp>
#include <rondo/sharding/any.hpp>
#include <rondo/sharding/contiguous.hpp>
#include <rondo/sharding/striped.hpp>
#include <rondo/sharding/zigzag.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <type_traits>
#include <vector>

namespace {

using rondo::any_sharding;
using rondo::contiguous;
using rondo::Run;
using rondo::Sharding;
using rondo::striped;
using rondo::zigzag;

using Tokens = std::vector<std::int64_t>;

constexpr std::int64_t most_tokens = 100;
constexpr int most_ranks = 9;

/// The tokens of a rank in the order in which it stores them.
template <class S>
Tokens held(const S& sharding, int rank, int ranks) {
  Tokens tokens;
  for (const Run& run : sharding.runs(rank, ranks)) {
    for (std::int64_t index = 0; index < run.count; ++index) tokens.push_back(run.first + run.stride * index);
  }
  return tokens;
}

/// Calls f(total, ranks, what each rank holds) for every number of tokens and of ranks.
template <class S, class F>
void for_all_cuts(const F& f) {
  for (std::int64_t total = 0; total <= most_tokens; ++total) {
    for (int ranks = 1; ranks <= most_ranks; ++ranks) {
      std::vector<Tokens> shards;
      for (int rank = 0; rank < ranks; ++rank) shards.push_back(held(S{total}, rank, ranks));
      INFO(total << " tokens over " << ranks << " ranks");
      f(total, ranks, shards);
    }
  }
}

std::size_t spread(const std::vector<Tokens>& shards) {
  std::set<std::size_t> sizes;
  for (const Tokens& tokens : shards) sizes.insert(tokens.size());
  return *sizes.rbegin() - *sizes.begin();
}

/// A user's: contiguous shards, the last ones first.
struct backwards {
  std::int64_t tokens = 0;
  static constexpr int code = 1001;
  std::int64_t total_tokens() const { return tokens; }
  std::vector<Run> runs(int rank, int ranks) const {
    const std::int64_t begin = tokens * (ranks - 1 - rank) / ranks, end = tokens * (ranks - rank) / ranks;
    return {Run{begin, 1, static_cast<std::int32_t>(end - begin)}};
  }
};

TEMPLATE_TEST_CASE("Every token is held by exactly one rank", "", contiguous, striped, zigzag) {
  for_all_cuts<TestType>([](std::int64_t total, int, const std::vector<Tokens>& shards) {
    std::vector<int> holders(static_cast<std::size_t>(total), 0);
    bool inside = true;
    for (const Tokens& tokens : shards) {
      for (const std::int64_t token : tokens) {
        inside = inside && token >= 0 && token < total;
        if (inside) ++holders[static_cast<std::size_t>(token)];
      }
    }
    REQUIRE(inside);
    REQUIRE(std::all_of(holders.begin(), holders.end(), [](int count) { return count == 1; }));
  });
}

TEMPLATE_TEST_CASE("A rank stores its tokens in the order of the sequence, in runs that are not empty", "", contiguous,
                   striped, zigzag) {
  for_all_cuts<TestType>([](std::int64_t total, int ranks, const std::vector<Tokens>& shards) {
    for (int rank = 0; rank < ranks; ++rank) {
      const Tokens& tokens = shards[static_cast<std::size_t>(rank)];
      REQUIRE(std::is_sorted(tokens.begin(), tokens.end()));
      for (const Run& run : TestType{total}.runs(rank, ranks)) REQUIRE((run.count > 0 && run.stride > 0));
    }
  });
}

TEMPLATE_TEST_CASE("Contiguous and striped shards differ by at most one token", "", contiguous, striped) {
  for_all_cuts<TestType>([](std::int64_t, int, const std::vector<Tokens>& shards) { REQUIRE(spread(shards) <= 1); });
}

TEST_CASE("Zigzag shards differ by at most two tokens, by none when 2N divides the total") {
  for_all_cuts<zigzag>([](std::int64_t total, int ranks, const std::vector<Tokens>& shards) {
    REQUIRE(spread(shards) <= (total % (2 * ranks) == 0 ? 0u : 2u));
  });
}

TEST_CASE("A contiguous shard is one stretch, and ranks follow each other") {
  for_all_cuts<contiguous>([](std::int64_t total, int, const std::vector<Tokens>& shards) {
    Tokens all;
    for (const Tokens& tokens : shards) all.insert(all.end(), tokens.begin(), tokens.end());
    for (std::int64_t token = 0; token < total; ++token) REQUIRE(all[static_cast<std::size_t>(token)] == token);
  });
}

TEST_CASE("A striped rank holds the tokens whose number leaves its rank when divided by the number of ranks") {
  for_all_cuts<striped>([](std::int64_t total, int ranks, const std::vector<Tokens>& shards) {
    for (std::int64_t token = 0; token < total; ++token) {
      const Tokens& tokens = shards[static_cast<std::size_t>(token % ranks)];
      REQUIRE(tokens[static_cast<std::size_t>(token / ranks)] == token);
    }
  });
}

TEST_CASE("A zigzag rank holds a piece from the front and the piece as far from the back") {
  for_all_cuts<zigzag>([](std::int64_t total, int ranks, const std::vector<Tokens>& shards) {
    // Pieces in the order of the sequence: ranks 0, 1, ..., N-1, N-1, ..., 1, 0. Walking it must visit all tokens.
    std::vector<std::size_t> next(static_cast<std::size_t>(ranks), 0);
    std::int64_t token = 0;
    for (int piece = 0; piece < 2 * ranks; ++piece) {
      const auto rank = static_cast<std::size_t>(piece < ranks ? piece : 2 * ranks - 1 - piece);
      const std::int64_t length = total / (2 * ranks) + (piece < total % (2 * ranks) ? 1 : 0);
      for (std::int64_t index = 0; index < length; ++index) REQUIRE(shards[rank].at(next[rank]++) == token++);
    }
    REQUIRE(token == total);
  });
}

TEST_CASE("Shardings cut sequences of many billions of tokens without overflow") {
  constexpr std::int64_t total = (std::int64_t{1} << 40) + 5;
  constexpr int ranks = 1023;
  const auto check = [](const auto& sharding) {
    std::int64_t held_tokens = 0;
    std::int64_t last = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      for (const Run& run : sharding.runs(rank, ranks)) {
        CHECK(run.count > 0);
        held_tokens += run.count;
        last = std::max(last, run.last());
      }
    }
    CHECK(held_tokens == total);
    CHECK(last == total - 1);
  };
  check(contiguous{total});
  check(striped{total});
  check(zigzag{total});
}

TEST_CASE("Part of a run are its tokens from begin on") {
  const Run run{7, 3, 10};
  const Run part = run.part(4, 5);
  CHECK(part.count == 5);
  for (std::int64_t index = 0; index < 5; ++index) CHECK(part.at(index) == 7 + 3 * (4 + index));
  CHECK(run.last() == 34);
  CHECK(run.part(0, 10) == run);
}

TEMPLATE_TEST_CASE("any_sharding holds the runs of what it was made of, under its name too", "", contiguous, striped,
                   zigzag) {
  const char* const name = std::is_same_v<TestType, contiguous> ? "contiguous"
                           : std::is_same_v<TestType, striped>  ? "striped"
                                                                : "zigzag";
  for (const std::int64_t total : {0, 1, 5, 101}) {
    const any_sharding given = TestType{total}, named = any_sharding::named(name, total);
    for (const any_sharding& sharding : {given, named}) {
      CHECK(sharding.kind() == TestType::code);
      CHECK(sharding.total_tokens() == total);
      for (int ranks = 1; ranks <= most_ranks; ++ranks) {
        for (int rank = 0; rank < ranks; ++rank) {
          CHECK(sharding.runs(rank, ranks) == TestType{total}.runs(rank, ranks));
        }
      }
    }
  }
}

TEST_CASE("any_sharding holds a user's, and none until it is given one") {
  any_sharding sharding;
  CHECK(sharding.total_tokens() == 0);
  CHECK(sharding.runs(0, 1).empty());
  sharding = backwards{10};
  CHECK(sharding.kind() == backwards::code);
  CHECK(held(sharding, 0, 3) == Tokens{6, 7, 8, 9});
  const any_sharding copy = sharding;  // not one that holds one
  CHECK(copy.kind() == backwards::code);
}

TEST_CASE("a name that no sharding has is refused") {
  CHECK_THROWS_MATCHES(any_sharding::named("stripes", 10), rondo::argument_error,
                       Catch::Matchers::Message("a sharding named stripes: it must be contiguous, striped or zigzag"));
}

// Concepts.
static_assert(Sharding<contiguous> && Sharding<striped> && Sharding<zigzag> && Sharding<any_sharding>);
static_assert(contiguous::code != striped::code && striped::code != zigzag::code && contiguous::code != zigzag::code);

struct user_sharding {
  static constexpr int code = 1000;
  std::int64_t total_tokens() const { return 0; }
  std::vector<Run> runs(int, int) const { return {}; }
};
struct without_total {
  static constexpr int code = 1;
  std::vector<Run> runs(int, int) const { return {}; }
};
struct without_runs {
  static constexpr int code = 1;
  std::int64_t total_tokens() const { return 0; }
};
struct without_code {
  std::int64_t total_tokens() const { return 0; }
  std::vector<Run> runs(int, int) const { return {}; }
};
struct runs_of_numbers : without_runs {
  std::vector<std::int64_t> runs(int, int) const { return {}; }
};
struct dangling_runs : without_runs {
  std::span<const Run> runs(int, int) const { return {}; }
};
struct changes_when_asked : without_runs {
  std::vector<Run> runs(int, int) { return {}; }  // not const
};
static_assert(Sharding<user_sharding>);
static_assert(!Sharding<without_total> && !Sharding<without_runs> && !Sharding<without_code>);
static_assert(!Sharding<runs_of_numbers> && !Sharding<dangling_runs> && !Sharding<changes_when_asked>);
static_assert(!Sharding<int> && !Sharding<std::vector<Run>>);

}  // namespace
