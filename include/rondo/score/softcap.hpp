/// \file
/// Soft capping of scores: cap · tanh(score / cap).
#pragma once

#include <rondo/error.hpp>
#include <rondo/score/concept.hpp>

#include <bit>
#include <cmath>
#include <cstdint>

namespace rondo {

/// Keeps every score within (-cap, cap) (Gemma 2, arXiv 2408.00118, section 2). `cap` must be positive.
struct softcap {
  double cap = 50;
  static constexpr int code = 1;

  /// \throws argument_error unless the cap is positive and finite
  void check_heads(int /*query_heads*/) const {
    if (cap > 0 && std::isfinite(cap)) return;
    throw argument_error(detail::message("softcap: the cap is ", cap, ", it must be positive and finite"));
  }
  /// What ranks compare: the cap.
  std::int64_t fingerprint() const { return static_cast<std::int64_t>(std::bit_cast<std::uint64_t>(cap) >> 2); }

  template <class A>
  KOKKOS_FUNCTION A apply(A score, int /*batch*/, int /*head*/, std::int64_t /*query*/, std::int64_t /*key*/) const {
    return static_cast<A>(cap) * Kokkos::tanh(score / static_cast<A>(cap));
  }
  template <class A>
  KOKKOS_FUNCTION A derivative(A score, int /*batch*/, int /*head*/, std::int64_t /*query*/, std::int64_t) const {
    const A t = Kokkos::tanh(score / static_cast<A>(cap));
    return A{1} - t * t;
  }
};

static_assert(ScoreMod<softcap>);

}  // namespace rondo
