/// \file
/// Zigzag sharding: 2N pieces, of which rank r holds the r-th from the front and the r-th from the back.
#pragma once

#include <rondo/sharding/concept.hpp>

namespace rondo {

/// Shares causal work evenly while tokens stay in two contiguous stretches. Lengths need not divide by 2N: the first
/// `tokens % 2N` pieces hold one token more.
struct zigzag {
  std::int64_t tokens = 0;
  static constexpr int code = 3;

  constexpr std::int64_t total_tokens() const { return tokens; }

  std::vector<Run> runs(int rank, int ranks) const {
    std::vector<Run> result;
    for (const std::int64_t piece : {std::int64_t{rank}, std::int64_t{2} * ranks - 1 - rank}) {
      const std::int64_t first = detail::even_cut(tokens, 2 * ranks, piece);
      const std::int64_t end = detail::even_cut(tokens, 2 * ranks, piece + 1);
      if (first != end) result.push_back(Run{first, 1, static_cast<std::int32_t>(end - first)});
    }
    return result;
  }
};

static_assert(Sharding<zigzag>);

}  // namespace rondo
