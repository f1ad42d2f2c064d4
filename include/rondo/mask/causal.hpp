/// \file
/// The causal mask: query i sees the keys j ≤ i.
#pragma once

#include <rondo/mask/concept.hpp>

namespace rondo {
namespace detail {

/// Σ over x in [0, n) of ⌊(a·x + b) / m⌋, for a, b ≥ 0 and m > 0, in O(log) steps of Euclid's algorithm.
constexpr std::int64_t floor_sum(std::int64_t n, std::int64_t m, std::int64_t a, std::int64_t b) {
  std::int64_t sum = 0;
  while (n > 0) {
    sum += n * (n - 1) / 2 * (a / m) + n * (b / m);
    a %= m;
    b %= m;
    const std::int64_t top = a * n + b;
    if (top < m) break;
    n = top / m;
    b = top % m;
    const std::int64_t swap = m;
    m = a;
    a = swap;
  }
  return sum;
}

/// Number of x in [0, limit) with first + stride·x < bound.
constexpr std::int64_t count_below(const Run& run, std::int64_t bound) {
  if (bound <= run.first) return 0;
  return std::min<std::int64_t>(run.count, (bound - run.first + run.stride - 1) / run.stride);
}

}  // namespace detail

/// Query i sees the keys at positions j ≤ i. Its coverage is exact for any two runs.
struct causal {
  static constexpr int code = 2;
  static constexpr bool same_for_all_heads = true;

  KOKKOS_FUNCTION constexpr Interval keys(int /*batch*/, int /*head*/, std::int64_t query) const {
    return {0, query + 1};
  }
  KOKKOS_FUNCTION constexpr Coverage coverage(int /*batch*/, int /*head*/, const Run& queries, const Run& keys) const {
    if (queries.count == 0 || keys.count == 0 || keys.first > queries.last()) return Coverage::none;
    return keys.last() <= queries.first ? Coverage::all : Coverage::some;
  }
  constexpr std::int64_t work(int /*batch*/, int /*head*/, const Run& queries, const Run& keys) const {
    if (coverage(0, 0, queries, keys) == Coverage::none) return 0;
    // Queries before keys.first see nothing; those from keys.last() on see every key; between, query i sees
    // ⌊(i - keys.first) / keys.stride⌋ + 1 of them.
    const std::int64_t begin = detail::count_below(queries, keys.first);
    const std::int64_t end = detail::count_below(queries, keys.last());
    const std::int64_t partial = detail::floor_sum(end - begin, keys.stride, queries.stride,
                                                   queries.at(begin) - keys.first + keys.stride);
    return partial + (queries.count - end) * keys.count;
  }
};

static_assert(Mask<causal> && IntervalMask<causal>);

}  // namespace rondo
