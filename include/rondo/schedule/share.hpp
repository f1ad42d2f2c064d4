/// \file
/// The runs of a rank's queries that a step computes with.
#pragma once

#include <rondo/schedule/ring.hpp>
#include <rondo/sharding/shard_table.hpp>

#include <algorithm>
#include <cstdint>

namespace rondo::schedule {

/// Calls f(run, first row) for each run of a rank's tokens, cut to a share of its rows; runs of which nothing is left are
/// passed over.
template <class F>
void for_share(const ShardTable& table, int rank, QueryShare share, const F& f) {
  const std::int64_t half = (table.tokens(rank) + 1) / 2;
  const std::int64_t begin = share == QueryShare::second_half ? half : 0;
  const std::int64_t end = share == QueryShare::first_half ? half : table.tokens(rank);
  std::int64_t row = 0;
  for (const Run& run : table.runs(rank)) {
    const std::int64_t from = std::max(begin, row);
    const std::int64_t to = std::min(end, row + run.count);
    if (from < to) f(run.part(from - row, to - from), from);
    row += run.count;
  }
}

}  // namespace rondo::schedule
