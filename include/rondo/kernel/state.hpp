/// \file
/// The running-softmax state of a rank's queries (Milakov & Gimelshein, arXiv 1805.02867): what is known of
/// softmax(s)·v after some of the keys, in a form that further keys can be folded into.
#pragma once

#include <rondo/kernel/score_tile.hpp>
#include <rondo/launch.hpp>
#include <rondo/precision.hpp>
#include <rondo/tensor.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo {

/// Per query row: the largest score m (base-2 units), the sum l = Σ 2^(s - m), and acc = Σ 2^(s - m)·v.
/// Nothing folded yet is m = -inf, l = 0, acc = 0. Held in the accumulate type A; narrower outputs are rounded once,
/// at the end, so that the error does not grow with the number of blocks.
template <class A, class MemorySpace>
struct SoftmaxState {
  Tensor<A, 3, MemorySpace> m;    ///< [batch, heads, sequence]
  Tensor<A, 3, MemorySpace> l;    ///< [batch, heads, sequence]
  Tensor<A, 4, MemorySpace> acc;  ///< [batch, sequence, heads, value_dim]

  /// The state of query rows [first, first + count).
  SoftmaxState rows(std::int64_t first, std::int64_t count) const {
    return {detail::token_columns(m, first, count), detail::token_columns(l, first, count),
            detail::token_rows(acc, first, count)};
  }
};

namespace detail {

template <class A>
inline constexpr A minus_infinity = -Kokkos::Experimental::infinity_v<A>;

/// m, or 0 for a row that has seen no key yet, so that s - m is never inf - inf.
template <class A>
KOKKOS_FUNCTION A finite_maximum(A m) {
  return m == minus_infinity<A> ? A{0} : m;
}

}  // namespace detail

/// How a query's state becomes its output: out = acc / divisor, and lse.
template <class A>
struct Finished {
  A divisor;
  A lse;
};

/// Joins the sink to a query's sums, if there is one, and the dropped probabilities' share to its divisor.
/// \param base2  that of the problem
/// \param m, l   the largest base-2 score and the sum of a head's query; no key seen: -inf and 0
template <class A, ProblemType P>
KOKKOS_FUNCTION Finished<A> finished(const P& problem, const Base2<A>& base2, int head, A m, A l) {
  Finished<A> result{l, A{0}};
  if constexpr (P::has_sink) {
    const A logit = base2.score(static_cast<A>(problem.sink.logits[head]));
    const A top = logit > m ? logit : m;
    if (top != detail::minus_infinity<A>) {
      const A shrink = detail::exp2(m - top);
      l = l * shrink + detail::exp2(logit - top);
      m = top;
      result.divisor = l / shrink;  // infinite where the sink has all the weight
    }
  }
  if constexpr (P::has_dropout) result.divisor *= static_cast<A>(1 - problem.dropout.probability);
  result.lse = base2.log_sum_exp(m, l);
  return result;
}

/// A state that nothing has been folded into.
template <class Exec, class A>
void make_empty(const Exec& exec, const SoftmaxState<A, typename Exec::memory_space>& state) {
  const auto heads = static_cast<std::int64_t>(state.m.extent(1));
  const auto tokens = static_cast<std::int64_t>(state.m.extent(2));
  const int dim = static_cast<int>(state.acc.extent(3));
  detail::for_rows(
      "rondo::empty", exec, static_cast<std::int64_t>(state.m.extent(0)), tokens, heads, dim,
      KOKKOS_LAMBDA(const detail::Row<Exec>& row, std::int64_t b, std::int64_t i, std::int64_t head) {
        state.m(b, head, i) = detail::minus_infinity<A>;
        state.l(b, head, i) = A{0};
        row.each_eight(dim, [&](int d, int count) {
          detail::Eight<A>{}.write(&state.acc(b, i, head, d), state.acc.stride(3), count);
        });
      });
}

}  // namespace rondo
