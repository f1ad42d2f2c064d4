/// \file
/// The prefix mask: everybody sees the first tokens, and of the others what comes before.
#pragma once

#include <rondo/error.hpp>
#include <rondo/fingerprint.hpp>
#include <rondo/mask/causal.hpp>

#include <cstdint>

namespace rondo {

/// Query i sees the keys j ≤ i and the keys j < length (a prompt that is read both ways). Its coverage is exact for any two
/// runs.
struct prefix {
  static constexpr int code = 4;
  static constexpr bool same_for_all_heads = true;

  std::int64_t length = 0;

  /// \throws argument_error for a length below 0
  void check(int /*batch*/, std::int64_t /*queries*/, std::int64_t /*keys*/) const {
    if (length < 0) throw argument_error(detail::message("prefix: the length is ", length, ", it must be at least 0"));
  }
  std::int64_t fingerprint() const { return detail::mixed(length); }

  KOKKOS_FUNCTION constexpr Interval keys(int /*batch*/, int /*head*/, std::int64_t query) const {
    return {0, query < length ? length : query + 1};
  }
  KOKKOS_FUNCTION constexpr Coverage coverage(int batch, int head, const Run& queries, const Run& keys) const {
    if (queries.count == 0 || keys.count == 0) return Coverage::none;
    if (keys.last() < length) return Coverage::all;
    const Coverage of_causal = causal{}.coverage(batch, head, queries, keys);
    return of_causal == Coverage::none && keys.first < length ? Coverage::some : of_causal;
  }
  constexpr std::int64_t work(int batch, int head, const Run& queries, const Run& keys) const {
    const std::int64_t inside = detail::count_below(keys, length);
    return inside * queries.count + causal{}.work(batch, head, queries, keys.part(inside, keys.count - inside));
  }
};

static_assert(Mask<prefix> && IntervalMask<prefix>);

}  // namespace rondo
