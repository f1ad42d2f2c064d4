/// \file
/// Counting the allowed pairs of a tile where there is no closed form: for masks that are put together, and users' own.
#pragma once

#include <rondo/mask/concept.hpp>

#include <cstdint>

namespace rondo::detail {

/// Number of allowed pairs: query by query where every query sees an interval, else pair by pair, leaving out what
/// coverage decides. Host only; up to queries.count · keys.count steps for a mask that only says `some`.
template <class M>
std::int64_t count_allowed(const M& mask, int batch, int head, const Run& queries, const Run& keys) {
  const Coverage coverage = mask.coverage(batch, head, queries, keys);
  if (coverage == Coverage::none) return 0;
  if (coverage == Coverage::all) return std::int64_t{queries.count} * keys.count;
  std::int64_t count = 0;
  if constexpr (IntervalMask<M>) {
    for (std::int32_t i = 0; i < queries.count; ++i) {
      const IndexRange seen = indices_in(mask.keys(batch, head, queries.at(i)), keys);
      count += seen.end - seen.begin;
    }
  } else if (std::int64_t{queries.count} * keys.count <= 4096) {
    for (std::int32_t i = 0; i < queries.count; ++i) {
      for (std::int32_t j = 0; j < keys.count; ++j)
        count += mask.allows(batch, head, queries.at(i), keys.at(j)) ? 1 : 0;
    }
  } else {
    const bool cut_queries = queries.count >= keys.count;
    const Run& longer = cut_queries ? queries : keys;
    const std::int32_t half = longer.count / 2;
    const Run front = longer.part(0, half);
    const Run back = longer.part(half, longer.count - half);
    count +=
        cut_queries ? count_allowed(mask, batch, head, front, keys) : count_allowed(mask, batch, head, queries, front);
    count +=
        cut_queries ? count_allowed(mask, batch, head, back, keys) : count_allowed(mask, batch, head, queries, back);
  }
  return count;
}

}  // namespace rondo::detail
