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
template <class S>
concept ScoreMod =
    std::is_trivially_copyable_v<S> && requires(const S& mod, float x, double y, int batch, int head, std::int64_t i) {
      { mod.apply(x, batch, head, i, i) } -> std::same_as<float>;
      { mod.apply(y, batch, head, i, i) } -> std::same_as<double>;
      { mod.derivative(x, batch, head, i, i) } -> std::same_as<float>;
      { mod.derivative(y, batch, head, i, i) } -> std::same_as<double>;
      { S::code } -> std::convertible_to<int>;
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
