/// \file
/// Every message of a striped or zigzag causal ring has a computation to hide behind, whatever the number of pieces.
#include <rondo/mask/causal.hpp>
#include <rondo/schedule/ring.hpp>
#include <rondo/sharding/shard_table.hpp>
#include <rondo/sharding/striped.hpp>
#include <rondo/sharding/zigzag.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>

namespace {

using namespace rondo;

/// (query, key) pairs of one step.
std::int64_t pairs(const ShardTable& table, int rank, const Piece& piece, schedule::QueryShare share) {
  const std::int64_t half = (table.tokens(rank) + 1) / 2;
  std::int64_t count = 0;
  table.for_each_token(rank, [&](std::int64_t query, std::int64_t row) {
    if (share == schedule::QueryShare::first_half && row >= half) return;
    if (share == schedule::QueryShare::second_half && row < half) return;
    for (const Part& part : piece.parts()) {
      for (int key = 0; key < part.tokens.count; ++key) count += allows(causal{}, 0, 0, query, part.tokens.at(key));
    }
  });
  return count;
}

template <class StepAt>
std::int64_t fewest_pairs(const ShardTable& table, std::int64_t chunk, std::int64_t steps, const StepAt& step_at) {
  std::int64_t fewest = table.tokens(0) * table.tokens(0);
  for (int rank = 0; rank < table.ranks(); ++rank) {
    for (std::int64_t index = 0; index < steps; ++index) {
      const schedule::Step step = step_at(rank, index);
      if (!step.pass_on && !step.send_gradient) continue;
      fewest = std::min(fewest, pairs(table, rank, table.piece(step.owner, step.piece, chunk), step.queries));
    }
  }
  return fewest;
}

TEST_CASE("every message of a balanced causal ring has at least an eighth of a piece's pairs to hide behind") {
  constexpr std::int64_t chunk = 24;
  for (const int ranks : {2, 3, 5}) {
    for (const std::int64_t pieces : {1, 2, 4}) {
      const std::int64_t tokens = ranks * pieces * chunk;
      for (const ShardTable& table : {ShardTable(striped{tokens}, ranks), ShardTable(zigzag{tokens}, ranks)}) {
        INFO(ranks << " ranks, " << pieces << " pieces, " << table.runs(0).size() << " runs");
        const std::int64_t enough = chunk * chunk / 8;
        const auto ring = [&](int rank) { return schedule::Ring(rank, ranks, pieces); };
        CHECK(fewest_pairs(table, chunk, ring(0).forward_steps(),
                           [&](int rank, std::int64_t index) { return ring(rank).forward(index); }) >= enough);
        CHECK(fewest_pairs(table, chunk, ring(0).backward_steps(),
                           [&](int rank, std::int64_t index) { return ring(rank).backward(index); }) >= enough);
      }
    }
  }
}

}  // namespace
