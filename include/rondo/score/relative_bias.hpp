/// \file
/// A learned bias for every head and every distance of query and key.
#pragma once

#include <rondo/error.hpp>
#include <rondo/fingerprint.hpp>
#include <rondo/score/concept.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo {

/// score + table[head][clamp(j - i, -reach, reach) + reach]: distances beyond the reach share its ends' biases. The table
/// is the same on all ranks and lies in the kernel's memory.
template <class A>
struct relative_bias {
  const A* table = nullptr;  ///< [heads, 2 · reach + 1]
  int reach = 0;
  /// Where backward writes the gradient, [heads, 2 · reach + 1], summed over all ranks; null where none is wanted.
  A* grad_table = nullptr;
  static constexpr int code = 4;

  /// \throws argument_error without a table or with a reach below 0
  void check_heads(int /*query_heads*/) const {
    if (reach < 0)
      throw argument_error(detail::message("relative_bias: the reach is ", reach, ", it must be at least 0"));
    if (table == nullptr) throw argument_error("relative_bias: there is no table");
  }
  std::int64_t fingerprint() const { return detail::mixed(reach, grad_table != nullptr); }

  template <class X>
  KOKKOS_FUNCTION X apply(X score, int batch, int head, std::int64_t query, std::int64_t key) const {
    return score +
           static_cast<X>(table[std::int64_t{head} * parameters_per_head() + parameter(batch, head, query, key)]);
  }
  template <class X>
  KOKKOS_FUNCTION X derivative(X, int /*batch*/, int /*head*/, std::int64_t /*query*/, std::int64_t /*key*/) const {
    return X{1};
  }

  KOKKOS_FUNCTION int parameters_per_head() const { return 2 * reach + 1; }
  KOKKOS_FUNCTION int parameter(int /*batch*/, int /*head*/, std::int64_t query, std::int64_t key) const {
    const std::int64_t distance = key - query;
    return static_cast<int>(distance < -reach ? 0 : (distance > reach ? 2 * std::int64_t{reach} : distance + reach));
  }
  template <class X>
  KOKKOS_FUNCTION X parameter_derivative(X, int, int, std::int64_t, std::int64_t) const {
    return X{1};
  }
  A* gradient() const { return grad_table; }
};

static_assert(ScoreMod<relative_bias<float>> && LearnedScore<relative_bias<float>>);

}  // namespace rondo
