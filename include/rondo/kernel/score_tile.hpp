/// \file
/// What happens to one score between the two products, and its derivative: scale, score function, mask, base-2
/// exponential. Every kernel calls this, so that they differ in their loops and not in arithmetic.
#pragma once

#include <rondo/kernel/exp2.hpp>
#include <rondo/problem.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo {

inline constexpr double log2_e = 1.4426950408889634074;
inline constexpr double ln_2 = 0.69314718055994530942;

namespace detail {

/// x as a number of its own: a compiler must not fuse the product that x is with a sum that follows. Forward and backward
/// pass then round the same score the same way, and their errors cancel in s - lse. (Only -inf changes, to the lowest
/// number; NaN stays.)
template <class A>
KOKKOS_FUNCTION A rounded(A x) {
  constexpr A lowest = Kokkos::Experimental::finite_min_v<A>;
  return lowest > x ? lowest : x;
}

}  // namespace detail

/// The scores of one (batch, head), in accumulate type A. Scores come out in base-2 units, so that e^s = 2^score.
template <ProblemType P, class A>
class ScoreTile {
 public:
  /// No score function: a base-2 score is dot · scale2().
  static constexpr bool plain = std::is_same_v<typename P::score_type, unmodified>;
  /// The mask is an interval of keys per query.
  static constexpr bool has_intervals = IntervalMask<typename P::mask_type>;

  KOKKOS_FUNCTION ScoreTile(const P& problem, int batch, int head)
      : problem_(problem),
        batch_(batch),
        head_(head),
        scale_(static_cast<A>(problem.scale)),
        scale2_(static_cast<A>(problem.scale * log2_e)) {}

  KOKKOS_FUNCTION A scale() const { return scale_; }
  KOKKOS_FUNCTION A scale2() const { return scale2_; }

  /// lse in base-2 units, in two parts: where scores are large, one alone would cost digits of every probability.
  KOKKOS_FUNCTION static A lse2(A lse) { return lse * static_cast<A>(log2_e); }
  KOKKOS_FUNCTION static A lse2_low(A lse) {
    constexpr A low = static_cast<A>(log2_e - static_cast<double>(static_cast<A>(log2_e)));
    return Kokkos::fma(lse, static_cast<A>(log2_e), -lse2(lse)) + lse * low;
  }

  /// The base-2 score of query i and key j from their inner product.
  KOKKOS_FUNCTION A score(A dot, std::int64_t i, std::int64_t j) const {
    if constexpr (plain) {
      return dot * scale2_;
    } else {
      return problem_.score.apply(dot * scale_, batch_, head_, i, j) * static_cast<A>(log2_e);
    }
  }

  /// p = e^(s - lse) from the inner product and lse2 in its two parts. A row with lse = -inf saw no key: 0.
  KOKKOS_FUNCTION A probability(A dot, A lse2, A lse2_low, std::int64_t i, std::int64_t j) const {
    if (lse2 == -Kokkos::Experimental::infinity_v<A>) return A{0};
    return detail::exp2(detail::rounded(score(dot, i, j)) - lse2 - lse2_low);
  }

  /// d score / d (scale · dot), both in natural units.
  KOKKOS_FUNCTION A derivative(A dot, std::int64_t i, std::int64_t j) const {
    if constexpr (plain) {
      return A{1};
    } else {
      return problem_.score.derivative(dot * scale_, batch_, head_, i, j);
    }
  }

  /// d loss / d (q·k) from p, dp = grad_out·v and delta = rowsum(grad_out ∘ out).
  KOKKOS_FUNCTION A gradient(A p, A dp, A delta, A dot, std::int64_t i, std::int64_t j) const {
    const A grad_score = p * (dp - delta) * scale_;
    if constexpr (plain) {
      return grad_score;
    } else {
      return grad_score * derivative(dot, i, j);
    }
  }

  /// May query i see key j?
  KOKKOS_FUNCTION bool allowed(std::int64_t i, std::int64_t j) const {
    return rondo::allows(problem_.mask, batch_, head_, i, j);
  }

  /// Which keys of a run query i may see; all of them when the mask has no intervals and must be asked pair by pair.
  KOKKOS_FUNCTION IndexRange keys(std::int64_t i, const Run& keys) const {
    if constexpr (has_intervals) {
      return indices_in(problem_.mask.keys(batch_, head_, i), keys);
    } else {
      return {0, keys.count};
    }
  }

  KOKKOS_FUNCTION Coverage coverage(const Run& queries, const Run& keys) const {
    return problem_.mask.coverage(batch_, head_, queries, keys);
  }

 private:
  const P& problem_;
  int batch_;
  int head_;
  A scale_;
  A scale2_;
};

}  // namespace rondo
