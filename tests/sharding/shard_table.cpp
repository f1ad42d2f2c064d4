#include <rondo/sharding/contiguous.hpp>
#include <rondo/sharding/shard_table.hpp>
#include <rondo/sharding/striped.hpp>
#include <rondo/sharding/zigzag.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace {

using Catch::Matchers::Message;
using rondo::argument_error;
using rondo::contiguous;
using rondo::Part;
using rondo::Piece;
using rondo::Run;
using rondo::ShardTable;
using rondo::striped;
using rondo::zigzag;

/// A user's sharding: whatever is written down for each rank.
struct written {
  std::int64_t tokens = 0;
  std::vector<std::vector<Run>> shards;
  static constexpr int code = 1000;
  std::int64_t total_tokens() const { return tokens; }
  std::vector<Run> runs(int rank, int) const { return shards.at(static_cast<std::size_t>(rank)); }
};
static_assert(rondo::Sharding<written>);

/// 13 tokens over 3 ranks: out of order, of different strides, and none on rank 1.
written uneven() { return {13, {{{6, 2, 3}, {0, 1, 4}}, {}, {{4, 1, 2}, {7, 2, 3}, {12, 5, 1}}}}; }

using Tokens = std::vector<std::pair<std::int64_t, std::int64_t>>;  // (position, row)

Tokens walk(const ShardTable& table, int rank) {
  Tokens tokens;
  table.for_each_token(rank, [&](std::int64_t position, std::int64_t row) { tokens.emplace_back(position, row); });
  return tokens;
}

template <class S>
void check_against_runs(const S& sharding, int ranks) {
  const ShardTable table(sharding, ranks);
  REQUIRE(table.ranks() == ranks);
  REQUIRE(table.total_tokens() == sharding.total_tokens());
  std::int64_t longest = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    const auto needed = sharding.runs(rank, ranks);
    const auto given = table.runs(rank);
    REQUIRE(std::equal(given.begin(), given.end(), needed.begin(), needed.end()));
    Tokens tokens;
    for (const Run& run : needed) {
      longest = std::max<std::int64_t>(longest, run.count);
      for (std::int64_t index = 0; index < run.count; ++index) {
        tokens.emplace_back(run.first + run.stride * index, static_cast<std::int64_t>(tokens.size()));
      }
    }
    REQUIRE(table.tokens(rank) == static_cast<std::int64_t>(tokens.size()));
    REQUIRE(walk(table, rank) == tokens);
    if (needed.size() == 2) longest = std::max(longest, table.tokens(rank));
  }
  REQUIRE(table.longest_piece() == longest);
}

/// Whether a part lies in one of the rank's runs, at that run's rows.
template <class S>
bool in_one_run(const S& sharding, int rank, int ranks, const Part& part) {
  std::int64_t row = 0;
  for (const Run& run : sharding.runs(rank, ranks)) {
    const std::int64_t begin = part.row - row;
    if (begin >= 0 && begin + part.tokens.count <= run.count && part.tokens == run.part(begin, part.tokens.count)) {
      return true;
    }
    row += run.count;
  }
  return false;
}

template <class S>
void check_pieces(const S& sharding, int ranks, std::int64_t chunk) {
  INFO(sharding.total_tokens() << " tokens over " << ranks << " ranks in pieces of " << chunk);
  const ShardTable table(sharding, ranks);
  std::int64_t most = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    const std::int64_t pieces = table.pieces(rank, chunk);
    most = std::max(most, pieces);
    const auto runs = sharding.runs(rank, ranks);
    std::int64_t by_runs = 0;
    for (const Run& run : runs) by_runs += (run.count + chunk - 1) / chunk;
    if (runs.size() == 2) {
      const std::int64_t fewest = (table.tokens(rank) + chunk - 1) / chunk;
      REQUIRE((pieces >= fewest && pieces <= 2 * fewest));  // twice where a share is rounded to half of itself
    } else {
      REQUIRE(pieces == by_runs);
    }
    Tokens tokens;
    for (std::int64_t index = 0; index < pieces; ++index) {
      const Piece piece = table.piece(rank, index, chunk);
      REQUIRE((piece.tokens() >= 1 && piece.tokens() <= std::min(chunk, table.longest_piece())));
      std::int64_t in_parts = 0;
      for (const Part& part : piece.parts()) {
        REQUIRE(part.tokens.count >= 1);
        REQUIRE(in_one_run(sharding, rank, ranks, part));
        for (int i = 0; i < part.tokens.count; ++i) tokens.emplace_back(part.tokens.at(i), part.row + i);
        in_parts += part.tokens.count;
      }
      REQUIRE(piece.tokens() == in_parts);
    }
    if (runs.size() == 2) std::ranges::sort(tokens, {}, &Tokens::value_type::second);  // run by run
    REQUIRE(tokens == walk(table, rank));
    // Other ranks may have more pieces: beyond its own a rank's are empty.
    for (const std::int64_t beyond : {pieces, pieces + 1, pieces + 100}) {
      const Piece none = table.piece(rank, beyond, chunk);
      REQUIRE(none.tokens() == 0);
      REQUIRE(none.parts().size() == 1);
    }
  }
  REQUIRE(table.most_pieces(chunk) == most);
}

TEST_CASE("A shard table holds the runs of its sharding, token by token") {
  for (const std::int64_t total : {0, 1, 5, 17, 100}) {
    for (const int ranks : {1, 2, 3, 7}) {
      INFO(total << " tokens over " << ranks << " ranks");
      check_against_runs(contiguous{total}, ranks);
      check_against_runs(striped{total}, ranks);
      check_against_runs(zigzag{total}, ranks);
    }
  }
  check_against_runs(uneven(), 3);
}

TEST_CASE("Pieces cover each shard in the order of its rows, and no part of one crosses a run") {
  for (const std::int64_t chunk : {1, 2, 3, 4, 7, 16, 1000}) {
    for (const std::int64_t total : {0, 1, 5, 17, 100}) {
      for (const int ranks : {1, 2, 3, 7}) {
        check_pieces(contiguous{total}, ranks, chunk);
        check_pieces(striped{total}, ranks, chunk);
        check_pieces(zigzag{total}, ranks, chunk);
      }
    }
    check_pieces(uneven(), 3, chunk);
  }
}

TEST_CASE("Pieces of a shard of two runs take of both what is in proportion to their lengths") {
  const auto parts = [](const ShardTable& table, int rank, std::int64_t index, std::int64_t chunk) {
    std::vector<Run> runs;
    for (const Part& part : table.piece(rank, index, chunk).parts()) runs.push_back(part.tokens);
    return runs;
  };
  const ShardTable even(zigzag{64}, 4);  // 8 to 15 and 48 to 55 on rank 1
  CHECK(parts(even, 1, 0, 8) == std::vector<Run>{{8, 1, 4}, {48, 1, 4}});
  CHECK(parts(even, 1, 1, 8) == std::vector<Run>{{12, 1, 4}, {52, 1, 4}});
  CHECK(parts(even, 1, 0, 100) == std::vector<Run>{{8, 1, 8}, {48, 1, 8}});
  CHECK(parts(even, 1, 9, 1) == std::vector<Run>{{49, 1, 1}});  // a token at a time, run by run
  const ShardTable uneven(written{16, {{{0, 1, 4}, {4, 1, 12}}}}, 1);
  CHECK(parts(uneven, 0, 0, 8) == std::vector<Run>{{0, 1, 2}, {4, 1, 6}});
  CHECK(parts(uneven, 0, 1, 8) == std::vector<Run>{{2, 1, 2}, {10, 1, 6}});
}

TEST_CASE("A table without ranks or tokens is empty") {
  CHECK(ShardTable{}.ranks() == 0);
  CHECK(ShardTable{}.longest_piece() == 0);
  const ShardTable table(contiguous{0}, 3);
  CHECK(table.longest_piece() == 0);
  CHECK(table.most_pieces(4) == 0);
}

TEST_CASE("A shard table refuses a number of ranks or tokens that makes no sense, saying it") {
  CHECK_THROWS_MATCHES(ShardTable(contiguous{10}, 0), argument_error,
                       Message("a sharding needs at least 1 rank, given 0"));
  CHECK_THROWS_MATCHES(ShardTable(contiguous{10}, -3), argument_error,
                       Message("a sharding needs at least 1 rank, given -3"));
  CHECK_THROWS_MATCHES(ShardTable(striped{-1}, 2), argument_error,
                       Message("a sequence of -1 tokens: must not be negative"));
  CHECK_THROWS_MATCHES(ShardTable(zigzag{std::int64_t{1} << 40}, 2), argument_error,
                       Message("1099511627776 tokens over 2 ranks: a run holds at most 2^31 - 2"));
}

TEST_CASE("The longest run that is accepted holds what it says") {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  const ShardTable table(contiguous{2 * most - 1}, 2);
  CHECK(table.tokens(0) == most);
  CHECK(table.tokens(1) == most - 1);
  CHECK_THROWS_AS(ShardTable(contiguous{2 * most}, 2), argument_error);
}

TEST_CASE("A shard table refuses a user's sharding whose runs do not add up") {
  written too_few = uneven();
  too_few.shards[0].pop_back();
  CHECK_THROWS_MATCHES(ShardTable(too_few, 3), argument_error,
                       Message("the sharding's runs hold 9 tokens, the sequence has 13"));
  written too_many = uneven();
  too_many.shards[1].push_back({0, 1, 2});
  CHECK_THROWS_MATCHES(ShardTable(too_many, 3), argument_error,
                       Message("the sharding's runs hold 15 tokens, the sequence has 13"));
  CHECK_NOTHROW(ShardTable(uneven(), 3));
}

TEST_CASE("A shard table refuses a user's sharding whose runs leave the sequence") {
  const auto refused = [](const Run& run, const char* text) {
    // 13 tokens in all, so that only the place is wrong.
    const written outside{13, {{{0, 1, 13 - run.count}}, {run}}};
    CHECK_THROWS_MATCHES(ShardTable(outside, 2), argument_error, Message(text));
  };
  refused({12, 1, 2}, "rank 1 holds a run of 2 tokens from 12 by 1: it leaves the sequence of 13 tokens");
  refused({3, 6, 3}, "rank 1 holds a run of 3 tokens from 3 by 6: it leaves the sequence of 13 tokens");
  refused({-1, 1, 2}, "rank 1 holds a run of 2 tokens from -1 by 1: it leaves the sequence of 13 tokens");
  refused({9, -1, 2}, "rank 1 holds a run of 2 tokens from 9 by -1: it leaves the sequence of 13 tokens");
  refused({9, 0, 2}, "rank 1 holds a run of 2 tokens from 9 by 0: it leaves the sequence of 13 tokens");
  refused({0, 1, -3}, "rank 0 holds a run of 16 tokens from 0 by 1: it leaves the sequence of 13 tokens");
  CHECK_NOTHROW(ShardTable(written{13, {{{0, 1, 11}}, {{11, 1, 2}}}}, 2));
}

TEST_CASE("Asking a table for a rank that does not exist throws") {
  const ShardTable table(contiguous{10}, 2);
  CHECK_THROWS(table.tokens(2));
  CHECK_THROWS(table.tokens(-1));
  CHECK_THROWS(table.runs(2));
}

}  // namespace
