/// \file
/// The chunked mask: local attention within blocks of equal length.
#pragma once

#include <rondo/error.hpp>
#include <rondo/fingerprint.hpp>
#include <rondo/mask/causal.hpp>

#include <algorithm>
#include <cstdint>

namespace rondo {

/// Query i sees the keys of its own block, ⌊i / length⌋ = ⌊j / length⌋. Its coverage is exact on runs of stride 1.
struct chunked {
  static constexpr int code = 5;
  static constexpr bool same_for_all_heads = true;

  std::int64_t length = 1;

  /// \throws argument_error for a length below 1
  void check(int /*batch*/, std::int64_t /*queries*/, std::int64_t /*keys*/) const {
    if (length < 1) throw argument_error(detail::message("chunked: the length is ", length, ", it must be at least 1"));
  }
  std::int64_t fingerprint() const { return detail::mixed(length); }

  KOKKOS_FUNCTION constexpr Interval keys(int /*batch*/, int /*head*/, std::int64_t query) const {
    const std::int64_t first = query / length * length;
    return {first, first + length};
  }
  KOKKOS_FUNCTION constexpr Coverage coverage(int /*batch*/, int /*head*/, const Run& queries, const Run& keys) const {
    if (queries.count == 0 || keys.count == 0) return Coverage::none;
    const std::int64_t first_query = queries.first / length, last_query = queries.last() / length;
    const std::int64_t first_key = keys.first / length, last_key = keys.last() / length;
    if (last_query < first_key || last_key < first_query) return Coverage::none;
    return first_query == last_query && first_key == last_key ? Coverage::all : Coverage::some;
  }
  constexpr std::int64_t work(int /*batch*/, int /*head*/, const Run& queries, const Run& keys) const {
    if (queries.count == 0 || keys.count == 0) return 0;
    const std::int64_t last = std::min(queries.last(), keys.last()) / length;
    std::int64_t pairs = 0;
    for (std::int64_t block = std::max(queries.first, keys.first) / length; block <= last; ++block) {
      const std::int64_t begin = block * length, end = begin + length;
      pairs += (detail::count_below(queries, end) - detail::count_below(queries, begin)) *
               (detail::count_below(keys, end) - detail::count_below(keys, begin));
    }
    return pairs;
  }
};

static_assert(Mask<chunked> && IntervalMask<chunked>);

}  // namespace rondo
