/// \file
/// The window mask: query i sees the keys from i - left to i + right.
#pragma once

#include <rondo/error.hpp>
#include <rondo/fingerprint.hpp>
#include <rondo/mask/causal.hpp>

#include <cstdint>
#include <utility>

namespace rondo {

/// Query i sees the keys i - left ≤ j ≤ i + right. Its coverage is exact for runs of equal stride, of which a window may
/// fall between the tokens.
struct window {
  /// No limit to a side.
  static constexpr std::int64_t unlimited = std::int64_t{1} << 61;
  static constexpr int code = 3;
  static constexpr bool same_for_all_heads = true;

  std::int64_t left = unlimited;
  std::int64_t right = unlimited;

  /// \throws argument_error for a side below 0
  void check(int /*batch*/, std::int64_t /*queries*/, std::int64_t /*keys*/) const {
    for (const auto& [name, side] : {std::pair{"left", left}, std::pair{"right", right}}) {
      if (side >= 0) continue;
      throw argument_error(
          detail::message("window: ", name, " is ", side, ", it must be at least 0 (window::unlimited for no limit)"));
    }
  }
  std::int64_t fingerprint() const { return detail::mixed(reach(left), reach(right)); }

  KOKKOS_FUNCTION constexpr Interval keys(int /*batch*/, int /*head*/, std::int64_t query) const {
    return {query - reach(left), query + reach(right) + 1};
  }
  KOKKOS_FUNCTION constexpr Coverage coverage(int /*batch*/, int /*head*/, const Run& queries, const Run& keys) const {
    if (queries.count == 0 || keys.count == 0) return Coverage::none;
    // How far keys lie ahead of queries: from nearest to farthest, in steps of the stride where both have the same.
    const std::int64_t nearest = keys.first - queries.last();
    const std::int64_t farthest = keys.last() - queries.first;
    if (farthest < -reach(left) || nearest > reach(right)) return Coverage::none;
    if (nearest >= -reach(left) && farthest <= reach(right)) return Coverage::all;
    if (queries.stride == keys.stride && keys.stride > 1 && nearest < -reach(left) && farthest > reach(right)) {
      const std::int64_t steps = (-reach(left) - nearest + keys.stride - 1) / keys.stride;
      if (nearest + steps * keys.stride > reach(right)) return Coverage::none;
    }
    return Coverage::some;
  }
  constexpr std::int64_t work(int /*batch*/, int /*head*/, const Run& queries, const Run& keys) const {
    // Those up to i + right, less those before i - left.
    const auto up_to = [&](std::int64_t ahead) {
      return causal{}.work(0, 0, Run{queries.first + ahead, queries.stride, queries.count}, keys);
    };
    return up_to(reach(right)) - up_to(-reach(left) - 1);
  }

 private:
  KOKKOS_FUNCTION static constexpr std::int64_t reach(std::int64_t side) { return side < unlimited ? side : unlimited; }
};

static_assert(Mask<window> && IntervalMask<window>);

}  // namespace rondo
