/// \file
/// What happens to one score between the two products, and its derivative: scale, score function, mask, base-2
/// exponential. Every kernel calls this, so that they differ in their loops and not in arithmetic.
#pragma once

#include <rondo/kernel/base2.hpp>
#include <rondo/kernel/exp2.hpp>
#include <rondo/problem.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>
#include <type_traits>
#include <utility>

namespace rondo {

namespace detail {

/// A score function bound to one (batch, head): asked for it once where it can be, else passed on every time.
template <class S, class A>
struct BoundScore {
  const S& mod;
  int batch;
  int head;
  KOKKOS_FUNCTION A apply(A score, std::int64_t i, std::int64_t j) const { return mod.apply(score, batch, head, i, j); }
  KOKKOS_FUNCTION A derivative(A score, std::int64_t i, std::int64_t j) const {
    return mod.derivative(score, batch, head, i, j);
  }
};
template <class A, class S>
KOKKOS_FUNCTION auto bound_score(const S& mod, int batch, int head) {
  if constexpr (requires { mod.template of_head<A>(batch, head); }) {
    return mod.template of_head<A>(batch, head);
  } else {
    return BoundScore<S, A>{mod, batch, head};
  }
}
/// Dropout bound to one (batch, head), or nothing.
struct NoDraws {};
template <class D>
KOKKOS_FUNCTION auto bound_dropout(const D& dropout, int batch, int head) {
  if constexpr (std::is_same_v<D, no_dropout>) {
    return NoDraws{};
  } else {
    return dropout.of_head(batch, head);
  }
}

}  // namespace detail

/// The scores of one (batch, head), in accumulate type A. Scores come out in base-2 units, so that e^s = 2^score.
///
/// Where there is no score function, a score is only ever used less some reference, as dot · scale2 - reference: one
/// rounding where the processor fuses the two (and compilers are left free to), instead of another one of a large product.
/// Forward and backward pass do the same, so that their errors cancel in s - lse.
template <ProblemType P, class A>
class ScoreTile {
 public:
  /// No score function: a base-2 score is dot · scale2().
  static constexpr bool plain = std::is_same_v<typename P::score_type, unmodified>;
  /// The score function has parameters with gradients.
  static constexpr bool learned = LearnedScore<typename P::score_type>;
  /// Probabilities may be dropped.
  static constexpr bool drops = P::has_dropout;
  /// The mask is an interval of keys per query.
  static constexpr bool has_intervals = IntervalMask<typename P::mask_type>;

  KOKKOS_FUNCTION ScoreTile(const P& problem, int batch, int head)
      : problem_(problem),
        batch_(batch),
        head_(head),
        scale_(static_cast<A>(problem.scale)),
        scale2_(static_cast<A>(problem.scale * log2_e)),
        score_(detail::bound_score<A>(problem.score, batch, head)),
        draws_(detail::bound_dropout(problem.dropout, batch, head)),
        sign_(!plain || scale2_ > A{0} ? A{1} : (scale2_ < A{0} ? A{-1} : A{0})),
        slope_(!plain || scale2_ == A{0} ? A{1} : sign_ * scale2_) {}

  KOKKOS_FUNCTION A scale() const { return scale_; }
  KOKKOS_FUNCTION A scale2() const { return scale2_; }

  /// What forward passes multiply the elements of q by, exactly: the scale's sign. `slope` is then positive, so that it
  /// keeps the order of numbers, and -inf.
  KOKKOS_FUNCTION A sign() const { return sign_; }
  KOKKOS_FUNCTION A slope() const { return slope_; }
  /// What forward passes keep of an inner product of such a query: itself, or its base-2 score under a score function.
  KOKKOS_FUNCTION A kept(A dot, std::int64_t i, std::int64_t j) const {
    if constexpr (plain) {
      return dot;
    } else {
      return score(dot, i, j);
    }
  }
  /// The base-2 score of what was kept.
  KOKKOS_FUNCTION A base2(A kept) const { return kept * slope_; }
  /// The same less a reference.
  KOKKOS_FUNCTION A above(A kept, A reference) const { return kept * slope_ - reference; }

  /// The base-2 score of query i and key j from their inner product.
  KOKKOS_FUNCTION A score(A dot, std::int64_t i, std::int64_t j) const {
    if constexpr (plain) {
      return dot * scale2_;
    } else {
      return score_.apply(dot * scale_, i, j) * static_cast<A>(log2_e);
    }
  }

  /// p = e^(s - lse) from the inner product, lse2 and its factor. A row with lse = -inf saw no key: 0.
  KOKKOS_FUNCTION A probability(A dot, A lse2, A factor, std::int64_t i, std::int64_t j) const {
    if (lse2 == -Kokkos::Experimental::infinity_v<A>) return A{0};
    if constexpr (plain) {
      return detail::exp2(dot * scale2_ - lse2) * factor;
    } else {
      return detail::exp2(score(dot, i, j) - lse2) * factor;
    }
  }

  /// d score / d (scale · dot), both in natural units.
  KOKKOS_FUNCTION A derivative(A dot, std::int64_t i, std::int64_t j) const {
    if constexpr (plain) {
      return A{1};
    } else {
      return score_.derivative(dot * scale_, i, j);
    }
  }

  /// Whether the probability of query i and key j counts.
  KOKKOS_FUNCTION bool keeps(std::int64_t i, std::int64_t j) const {
    if constexpr (drops) {
      return draws_.keeps(i, j);
    } else {
      return true;
    }
  }
  /// What probabilities that count are multiplied by.
  KOKKOS_FUNCTION A keep_factor() const {
    if constexpr (drops) {
      return static_cast<A>(1 / (1 - problem_.dropout.probability));
    } else {
      return A{1};
    }
  }

  /// Adds d loss / d parameter of one score, from d loss / d score, to its head's sums [parameters_per_head].
  template <class Sum>
  KOKKOS_FUNCTION void add_parameter(Sum* sums, A grad_score, A dot, std::int64_t i, std::int64_t j) const {
    if constexpr (learned) {
      const auto& mod = problem_.score;
      sums[mod.parameter(batch_, head_, i, j)] +=
          static_cast<Sum>(grad_score * mod.parameter_derivative(dot * scale_, batch_, head_, i, j));
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
  decltype(detail::bound_score<A>(std::declval<const typename P::score_type&>(), 0, 0)) score_;
  decltype(detail::bound_dropout(std::declval<const typename P::dropout_type&>(), 0, 0)) draws_;
  A sign_;
  A slope_;
};

}  // namespace rondo
