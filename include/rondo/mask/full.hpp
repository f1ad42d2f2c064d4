/// \file
/// The full mask: every query sees every key.
#pragma once

#include <rondo/mask/concept.hpp>

#include <limits>

namespace rondo {

/// No mask at all (bidirectional attention).
struct full {
  static constexpr int code = 1;
  static constexpr bool same_for_all_heads = true;

  KOKKOS_FUNCTION constexpr Interval keys(int /*batch*/, int /*head*/, std::int64_t /*query*/) const {
    return {0, std::numeric_limits<std::int64_t>::max()};
  }
  KOKKOS_FUNCTION constexpr Coverage coverage(int /*batch*/, int /*head*/, const Run& queries, const Run& keys) const {
    return queries.count == 0 || keys.count == 0 ? Coverage::none : Coverage::all;
  }
  constexpr std::int64_t work(int /*batch*/, int /*head*/, const Run& queries, const Run& keys) const {
    return std::int64_t{queries.count} * keys.count;
  }
};

static_assert(Mask<full> && IntervalMask<full>);

}  // namespace rondo
