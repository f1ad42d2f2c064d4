/// \file
/// The sequence in granules of fixed length, in the order in which reproducible attention takes them.
#pragma once

#include <rondo/error.hpp>
#include <rondo/sharding/shard_table.hpp>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace rondo::detail {

/// A granule, who holds it, and where in the holder's tensors.
struct Granule {
  int owner = 0;
  Part part;
};

/// All granules in the order of the sequence. \throws argument_error where a rank holds part of one
inline std::vector<Granule> granules_of(const ShardTable& table, std::int64_t length) {
  std::vector<Granule> granules;
  for (int rank = 0; rank < table.ranks(); ++rank) {
    std::int64_t row = 0;
    for (const Run& run : table.runs(rank)) {
      if (run.count == 0) continue;
      const bool whole =
          run.first % length == 0 && ((run.last() + 1) % length == 0 || run.last() + 1 == table.total_tokens());
      if (run.stride != 1 || !whole) {
        throw argument_error(message("reproducible: rank ", rank, " holds a run of ", run.count, " tokens from ",
                                     run.first, " by ", run.stride, ": runs must be whole granules of ", length,
                                     " tokens (striped_blocks gives such)"));
      }
      for (std::int64_t at = 0; at < run.count; at += length) {
        granules.push_back({rank, {run.part(at, std::min(length, run.count - at)), row + at}});
      }
      row += run.count;
    }
  }
  std::sort(granules.begin(), granules.end(),
            [](const Granule& a, const Granule& b) { return a.part.tokens.first < b.part.tokens.first; });
  return granules;
}

}  // namespace rondo::detail
