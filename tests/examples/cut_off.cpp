#include "../../examples/train/cut_off.hpp"

#include "../mask/brute_force.hpp"

#include <rondo/sharding/shard_table.hpp>

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using mask_test::count_pairs;
using rondo::Coverage;
using rondo::Run;

/// Which rank holds each token, asked of the table of shards.
template <class ShardingT>
std::vector<int> owners(const ShardingT& sharding, int ranks) {
  const rondo::ShardTable table(sharding, ranks);
  std::vector<int> owner(static_cast<std::size_t>(sharding.total_tokens()), -1);
  for (int rank = 0; rank < ranks; ++rank) {
    table.for_each_token(
        rank, [&](std::int64_t position, std::int64_t) { owner[static_cast<std::size_t>(position)] = rank; });
  }
  return owner;
}

template <class ShardingT>
void check_cut_off(std::int64_t tokens, int ranks) {
  INFO("code " << ShardingT::code << ", " << tokens << " tokens on " << ranks << " ranks");
  const ShardingT sharding{tokens};
  const std::vector<int> owner = owners(sharding, ranks);
  const train::own_rank_only mask(sharding, ranks);
  const auto sees = [&](std::int64_t query, std::int64_t key) {
    return key <= query && owner[static_cast<std::size_t>(query)] == owner[static_cast<std::size_t>(key)];
  };
  for (std::int64_t query = 0; query < tokens; ++query) {
    for (std::int64_t key = 0; key < tokens; ++key) {
      if (mask.allows(0, 0, query, key) != sees(query, key)) FAIL_CHECK("query " << query << ", key " << key);
    }
  }
  // On the runs that ranks hold, coverage need not be sharp, but never wrong; of other ranks' it must be none.
  const rondo::ShardTable table(sharding, ranks);
  for (int mine = 0; mine < ranks; ++mine) {
    for (int theirs = 0; theirs < ranks; ++theirs) {
      for (const Run& queries : table.runs(mine)) {
        for (const Run& keys : table.runs(theirs)) {
          const auto count = count_pairs(queries, keys, sees);
          const Coverage told = mask.coverage(0, 0, queries, keys);
          if (told != Coverage::some) CHECK(told == count.coverage());
          if (mine != theirs) CHECK(told == Coverage::none);
          CHECK(mask.work(0, 0, queries, keys) == count.allowed);
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("Cut off from the others, a query sees the keys before it that its own rank holds, and no other") {
  for (const std::int64_t tokens : {1, 2, 7, 16, 45}) {
    for (const int ranks : {1, 2, 3, 4, 7}) {
      check_cut_off<rondo::contiguous>(tokens, ranks);
      check_cut_off<rondo::striped>(tokens, ranks);
      check_cut_off<rondo::zigzag>(tokens, ranks);
    }
  }
}
