/// \file
/// Soft capping and linear biases, each of which may be left out while the program runs.
#pragma once

#include <rondo/score/alibi.hpp>
#include <rondo/score/softcap.hpp>

#include <Kokkos_Core.hpp>

#include <cmath>
#include <cstdint>

namespace rondo {

/// cap · tanh(score / cap) - slope · |i - j|: one type for what a user asks for at run time. A cap of 0 is none, 0 heads
/// are no biases.
struct softcap_alibi {
  double cap = 0;
  int heads = 0;
  static constexpr int code = 3;

  /// \throws argument_error for a cap below 0 or infinite, and for biases of another number of heads
  void check_heads(int query_heads) const {
    if (!(cap >= 0) || !std::isfinite(cap)) {
      throw argument_error(
          detail::message("softcap: the cap is ", cap, ", it must be positive and finite, or 0 for none"));
    }
    if (heads != 0) alibi{heads}.check_heads(query_heads);
  }
  std::int64_t fingerprint() const { return detail::mixed(softcap{cap}.fingerprint(), heads); }

  template <class A>
  struct OfHead {
    A cap;
    A slope;
    KOKKOS_FUNCTION A apply(A score, std::int64_t query, std::int64_t key) const {
      const A capped = cap > A{0} ? cap * Kokkos::tanh(score / cap) : score;
      return slope > A{0} ? typename alibi::template OfHead<A>{slope}.apply(capped, query, key) : capped;
    }
    KOKKOS_FUNCTION A derivative(A score, std::int64_t, std::int64_t) const {
      if (!(cap > A{0})) return A{1};
      const A t = Kokkos::tanh(score / cap);
      return A{1} - t * t;
    }
  };
  template <class A>
  KOKKOS_FUNCTION OfHead<A> of_head(int /*batch*/, int head) const {
    return {static_cast<A>(cap), heads > 0 ? static_cast<A>(alibi_slope(head, heads)) : A{0}};
  }

  template <class A>
  KOKKOS_FUNCTION A apply(A score, int batch, int head, std::int64_t query, std::int64_t key) const {
    return of_head<A>(batch, head).apply(score, query, key);
  }
  template <class A>
  KOKKOS_FUNCTION A derivative(A score, int batch, int head, std::int64_t query, std::int64_t key) const {
    return of_head<A>(batch, head).derivative(score, query, key);
  }
};

static_assert(ScoreMod<softcap_alibi>);

}  // namespace rondo
