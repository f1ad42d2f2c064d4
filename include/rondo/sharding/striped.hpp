/// \file
/// Striped sharding: token i is held by rank i mod N (Brandon et al., arXiv 2311.09431).
#pragma once

#include <rondo/sharding/concept.hpp>

namespace rondo {

/// Shares causal work evenly: every pair of ranks has about half of its query-key pairs allowed.
/// Every rank needs every key, so a narrow window saves no traffic under it.
struct striped {
  std::int64_t tokens = 0;
  static constexpr int code = 2;

  constexpr std::int64_t total_tokens() const { return tokens; }

  std::vector<Run> runs(int rank, int ranks) const {
    const std::int64_t count = (tokens - rank + ranks - 1) / ranks;
    if (count <= 0) return {};
    return {Run{rank, ranks, static_cast<std::int32_t>(count)}};
  }
};

static_assert(Sharding<striped>);

}  // namespace rondo
