/// \file
/// Attention with linear biases: a penalty that grows with the distance of query and key, at another rate for every head.
#pragma once

#include <rondo/error.hpp>
#include <rondo/fingerprint.hpp>
#include <rondo/score/concept.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo {

/// The published slope of a head (Press, Smith & Lewis, arXiv 2108.12409): 2^(-8(h+1)/H) where H is a power of two.
/// Otherwise, with n the largest power of two below H, the first n heads have the slopes of n heads, and the others every
/// second slope of 2n heads, from the first on.
KOKKOS_INLINE_FUNCTION double alibi_slope(int head, int heads) {
  int power = 1;
  while (2 * power <= heads) power *= 2;
  const double exponent = head < power ? -8.0 * (head + 1) / power : -4.0 * (2 * (head - power) + 1) / power;
  return Kokkos::exp2(exponent);
}

/// score - slope · |i - j|.
struct alibi {
  int heads = 1;
  static constexpr int code = 2;

  /// \throws argument_error unless `heads` is the number of query heads
  void check_heads(int query_heads) const {
    if (heads == query_heads) return;
    throw argument_error(detail::message("alibi: made for ", heads, " heads, q has ", query_heads));
  }
  std::int64_t fingerprint() const { return heads; }

  /// One head's share.
  template <class A>
  struct OfHead {
    A slope;
    KOKKOS_FUNCTION A apply(A score, std::int64_t query, std::int64_t key) const {
      return score - slope * static_cast<A>(query > key ? query - key : key - query);
    }
    KOKKOS_FUNCTION A derivative(A, std::int64_t, std::int64_t) const { return A{1}; }
  };
  template <class A>
  KOKKOS_FUNCTION OfHead<A> of_head(int /*batch*/, int head) const {
    return {static_cast<A>(alibi_slope(head, heads))};
  }

  template <class A>
  KOKKOS_FUNCTION A apply(A score, int batch, int head, std::int64_t query, std::int64_t key) const {
    return of_head<A>(batch, head).apply(score, query, key);
  }
  template <class A>
  KOKKOS_FUNCTION A derivative(A, int /*batch*/, int /*head*/, std::int64_t /*query*/, std::int64_t /*key*/) const {
    return A{1};
  }
};

static_assert(ScoreMod<alibi>);

}  // namespace rondo
