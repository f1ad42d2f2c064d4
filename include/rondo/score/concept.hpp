/// \file
/// The ScoreMod concept: a function applied to every score between the scaling and the mask.
#pragma once

#include <Kokkos_Core.hpp>

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace rondo {

/// `apply` maps a scaled score (natural units, accumulate type) to a new one; `derivative` is d apply / d score at the
/// same scaled score. Pure functions of the score and of positions, callable on the device. Ranks compare `code`.
/// One that has `of_head<A>(batch, head)` is asked for it once, and what it returns for apply(score, i, j) and
/// derivative(score, i, j). `check_heads(heads)` may refuse what does not fit.
template <class S>
concept ScoreMod = std::is_trivially_copyable_v<S> &&
    requires(const S& mod, float x, double y, int batch, int head, std::int64_t i) {
  { mod.apply(x, batch, head, i, i) } -> std::same_as<float>;
  { mod.apply(y, batch, head, i, i) } -> std::same_as<double>;
  { mod.derivative(x, batch, head, i, i) } -> std::same_as<float>;
  { mod.derivative(y, batch, head, i, i) } -> std::same_as<double>;
  { S::code } -> std::convertible_to<int>;
};

/// A score function with parameters that have gradients. Each score follows from one of its head's parameters, whose number
/// in [0, parameters_per_head()) `parameter` says, and `parameter_derivative` is d apply / d that parameter. `gradient`
/// is where backward writes the gradient, [heads, parameters_per_head()], or null.
template <class S>
concept LearnedScore = ScoreMod<S> && requires(const S& mod, double x, int batch, int head, std::int64_t i) {
  { mod.parameters_per_head() } -> std::convertible_to<int>;
  { mod.parameter(batch, head, i, i) } -> std::convertible_to<int>;
  { mod.parameter_derivative(x, batch, head, i, i) } -> std::same_as<double>;
  *mod.gradient() = 0;
};

/// The default: scores stay as they are, and kernels skip the call.
struct unmodified {
  static constexpr int code = 0;

  template <class A>
  KOKKOS_FUNCTION A apply(A score, int /*batch*/, int /*head*/, std::int64_t /*query*/, std::int64_t /*key*/) const {
    return score;
  }
  template <class A>
  KOKKOS_FUNCTION A derivative(A, int /*batch*/, int /*head*/, std::int64_t /*query*/, std::int64_t /*key*/) const {
    return A{1};
  }
};

static_assert(ScoreMod<unmodified>);

}  // namespace rondo
