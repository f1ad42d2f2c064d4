/// \file
/// Which of a rank's rows see a piece at all: under windows and documents a few of very many.
#pragma once

#include <rondo/mask/concept.hpp>
#include <rondo/sharding/run.hpp>

#include <algorithm>
#include <cstdint>

namespace rondo::detail {

/// Parts are multiples of what kernels take at a time, so that cutting them off changes no bits.
inline constexpr std::int64_t seen_rows_step = 768;

/// Calls f(run, row) for what is left of `queries`, which begin at `row`, without the rows at both ends that see nothing.
template <Mask M, class F>
void for_seen_rows(const M& mask, int batch, int heads, const Run& queries, std::int64_t row, const Run& keys,
                   const F& f) {
  const std::int64_t steps = (queries.count + seen_rows_step - 1) / seen_rows_step;
  const auto part = [&](std::int64_t first, std::int64_t last) {
    const std::int64_t begin = first * seen_rows_step;
    return queries.part(begin, std::min<std::int64_t>(last * seen_rows_step, queries.count) - begin);
  };
  const auto nothing = [&](std::int64_t first, std::int64_t last) {
    return first == last || !sees_some(mask, batch, heads, part(first, last), keys);
  };
  if (queries.count == 0 || keys.count == 0 || nothing(0, steps)) return;
  // The longest beginning that sees nothing, and then the longest end.
  const auto longest = [&](const auto& blind) {
    std::int64_t low = 0, high = steps;
    while (high - low > 1) {
      const std::int64_t middle = low + (high - low) / 2;
      (blind(middle) ? low : high) = middle;
    }
    return low;
  };
  const std::int64_t begin = longest([&](std::int64_t count) { return nothing(0, count); });
  const std::int64_t end = steps - longest([&](std::int64_t count) { return nothing(steps - count, steps); });
  const Run seen = part(begin, end);
  f(seen, row + begin * seen_rows_step);
}

}  // namespace rondo::detail
