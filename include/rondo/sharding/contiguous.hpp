/// \file
/// Contiguous sharding: rank r holds the r-th stretch of the sequence.
#pragma once

#include <rondo/sharding/concept.hpp>

namespace rondo {

/// Neighbouring tokens stay together. Best for windows; under a causal mask early ranks have little to do.
/// Lengths need not divide: the first `tokens % ranks` ranks hold one token more.
struct contiguous {
  std::int64_t tokens = 0;
  static constexpr int code = 1;

  constexpr std::int64_t total_tokens() const { return tokens; }

  std::vector<Run> runs(int rank, int ranks) const {
    const std::int64_t first = detail::even_cut(tokens, ranks, rank);
    const std::int64_t end = detail::even_cut(tokens, ranks, rank + 1);
    if (first == end) return {};
    return {Run{first, 1, static_cast<std::int32_t>(end - first)}};
  }
};

static_assert(Sharding<contiguous>);

}  // namespace rondo
