/// \file
/// Two score functions, one after the other.
#pragma once

#include <rondo/fingerprint.hpp>
#include <rondo/score/concept.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo {
namespace detail {

/// A score function's check against the number of query heads, where it has one.
template <class S>
void check_heads(const S& score, int heads) {
  if constexpr (requires { score.check_heads(heads); }) score.check_heads(heads);
}

}  // namespace detail

/// second(first(score)). At most one of the two may have parameters with gradients.
template <ScoreMod First, ScoreMod Second>
  requires(!(LearnedScore<First> && LearnedScore<Second>))
struct chained_score {
  First first;
  Second second;
  static constexpr int code = static_cast<int>(
      (static_cast<unsigned>(First::code) * 31u + 1000003u * static_cast<unsigned>(Second::code) + 7u) >> 1);

  void check_heads(int heads) const {
    detail::check_heads(first, heads);
    detail::check_heads(second, heads);
  }
  std::int64_t fingerprint() const { return detail::mixed(detail::fingerprint(first), detail::fingerprint(second)); }

  template <class A>
  KOKKOS_FUNCTION A apply(A score, int batch, int head, std::int64_t query, std::int64_t key) const {
    return second.apply(first.apply(score, batch, head, query, key), batch, head, query, key);
  }
  template <class A>
  KOKKOS_FUNCTION A derivative(A score, int batch, int head, std::int64_t query, std::int64_t key) const {
    const A between = first.apply(score, batch, head, query, key);
    return first.derivative(score, batch, head, query, key) * second.derivative(between, batch, head, query, key);
  }

  KOKKOS_FUNCTION int parameters_per_head() const requires(LearnedScore<First> || LearnedScore<Second>) {
    if constexpr (LearnedScore<First>) {
      return first.parameters_per_head();
    } else {
      return second.parameters_per_head();
    }
  }
  KOKKOS_FUNCTION int parameter(int batch, int head, std::int64_t query, std::int64_t key) const {
    if constexpr (LearnedScore<First>) {
      return first.parameter(batch, head, query, key);
    } else {
      return second.parameter(batch, head, query, key);
    }
  }
  template <class A>
  KOKKOS_FUNCTION A parameter_derivative(A score, int batch, int head, std::int64_t query, std::int64_t key) const {
    const A between = first.apply(score, batch, head, query, key);
    if constexpr (LearnedScore<First>) {
      return first.parameter_derivative(score, batch, head, query, key) *
             second.derivative(between, batch, head, query, key);
    } else {
      return second.parameter_derivative(between, batch, head, query, key);
    }
  }
  auto gradient() const {
    if constexpr (LearnedScore<First>) {
      return first.gradient();
    } else {
      return second.gradient();
    }
  }
};

/// The score function that applies `first` and then `second`: then(softcap{30}, alibi{heads}).
template <ScoreMod First, ScoreMod Second>
constexpr chained_score<First, Second> then(const First& first, const Second& second) {
  return {first, second};
}

}  // namespace rondo
