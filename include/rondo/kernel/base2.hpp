/// \file
/// How natural scores and those that kernels have, in base 2, become each other.
#pragma once

#include <rondo/kernel/exp2.hpp>
#include <rondo/problem.hpp>

#include <Kokkos_Core.hpp>

#include <cmath>
#include <type_traits>

namespace rondo {

inline constexpr double log2_e = 1.4426950408889634074;

/// A base-2 score is a natural one times log2(e), but not quite: what kernels multiply by is rounded to the accumulate
/// type, and where scores are large, that alone would be worth digits of lse. So lse is converted by what they did
/// multiply by, in two parts each way.
template <class A>
struct Base2 {
  A factor;  ///< base-2 scores by natural ones
  A factor_rest;
  A inverse;
  A inverse_rest;

  /// A natural score in base 2.
  KOKKOS_FUNCTION A score(A natural) const {
    return Kokkos::isfinite(natural) ? Kokkos::fma(natural, factor, natural * factor_rest) : natural;
  }

  /// The natural logarithm of Σ e^s of a finished row, from its largest base-2 score and its sum; -inf for a row that
  /// saw no key.
  KOKKOS_FUNCTION A log_sum_exp(A m, A l) const {
    if (m == -Kokkos::Experimental::infinity_v<A> && l == A{0}) return m;
    return Kokkos::fma(m, inverse, Kokkos::fma(m, inverse_rest, Kokkos::log(l)));
  }

  /// lse in base-2 units, and what 2^(score - lse2) must be multiplied by for what lse2 lost when it was rounded.
  /// (Multiplied, because subtracting it in the exponent would round every exponent once more.)
  KOKKOS_FUNCTION A lse2(A lse) const { return lse * factor; }
  KOKKOS_FUNCTION A lse2_factor(A lse) const {
    return detail::exp2(-Kokkos::fma(lse, factor_rest, Kokkos::fma(lse, factor, -lse2(lse))));
  }
};

/// The conversions for a problem's scores.
template <class A, class P>
Base2<A> base2_of(const P& problem) {
  const double scale = problem.scale;
  const double multiplied = static_cast<double>(static_cast<A>(scale * log2_e));
  const bool scaled =
      std::is_same_v<typename P::score_type, unmodified> && multiplied != 0 && std::isfinite(multiplied);
  const double numerator = scaled ? multiplied : static_cast<double>(static_cast<A>(log2_e));
  const double denominator = scaled ? scale : 1;
  const auto two_parts = [](double a, double b, A& whole, A& rest) {
    const double quotient = a / b;
    whole = static_cast<A>(quotient);
    rest = static_cast<A>((quotient - static_cast<double>(whole)) + std::fma(-quotient, b, a) / b);
  };
  Base2<A> result;
  two_parts(numerator, denominator, result.factor, result.factor_rest);
  two_parts(denominator, numerator, result.inverse, result.inverse_rest);
  return result;
}

}  // namespace rondo
