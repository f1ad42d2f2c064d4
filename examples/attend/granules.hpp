/// \file
/// A sharding of whole granules of tokens: what computing the same bits on every number of ranks needs.
#pragma once

#include <rondo/rondo.hpp>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace attend {

/// The granules are dealt out as `granules` has it. The last one may be shorter.
struct in_granules {
  static constexpr int code = 100;

  rondo::any_sharding granules;
  std::int64_t tokens = 0;
  std::int64_t granule = 1;

  std::int64_t total_tokens() const { return tokens; }
  std::vector<rondo::Run> runs(int rank, int ranks) const {
    std::vector<rondo::Run> result;
    for (const rondo::Run& run : granules.runs(rank, ranks)) {
      for (std::int32_t index = 0; index < run.count; ++index) {
        const std::int64_t first = run.at(index) * granule;
        const auto count = static_cast<std::int32_t>(std::min(granule, tokens - first));
        if (run.stride == 1 && index > 0) {
          result.back().count += count;
        } else {
          result.push_back({first, 1, count});
        }
      }
    }
    return result;
  }
};

static_assert(rondo::Sharding<in_granules>);

}  // namespace attend
