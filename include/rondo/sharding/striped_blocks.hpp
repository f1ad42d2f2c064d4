/// \file
/// Striped sharding in blocks: block i of the sequence is held by rank i mod N.
#pragma once

#include <rondo/sharding/concept.hpp>

#include <algorithm>

namespace rondo {

/// Blocks of `block` tokens, dealt out in turns; the last may be shorter. Each is a run of stride 1, so that masks know whole
/// blocks, and none ever straddles two ranks: what ReproducibleAttention needs.
struct striped_blocks {
  std::int64_t tokens = 0;
  std::int64_t block = 512;
  static constexpr int code = 5;

  constexpr std::int64_t total_tokens() const { return tokens; }

  std::vector<Run> runs(int rank, int ranks) const {
    std::vector<Run> result;
    for (std::int64_t first = rank * block; block > 0 && first < tokens; first += ranks * block) {
      result.push_back(Run{first, 1, static_cast<std::int32_t>(std::min(block, tokens - first))});
    }
    return result;
  }
};

static_assert(Sharding<striped_blocks>);

}  // namespace rondo
