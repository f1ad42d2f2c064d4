/// \file
/// Puts results over separate sets of keys together: attention over the union, from the outputs and log-sum-exps alone.
#pragma once

#include <rondo/error.hpp>
#include <rondo/launch.hpp>
#include <rondo/overlap.hpp>
#include <rondo/precision.hpp>
#include <rondo/tensor.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo {
namespace detail {

/// out and lse of one row joined with another's. A row without keys (lse = -inf) adds nothing.
template <class T, class A, class Space>
struct MergeRows {
  Tensor<T, 4, Space> out;
  Tensor<A, 3, Space> lse;
  Tensor<const T, 4, Space> other_out;
  Tensor<const A, 3, Space> other_lse;

  KOKKOS_FUNCTION void operator()(std::int64_t row) const {
    const auto heads = static_cast<std::int64_t>(out.extent(2));
    const auto tokens = static_cast<std::int64_t>(out.extent(1));
    const std::int64_t h = row % heads;
    const std::int64_t i = row / heads % tokens;
    const std::int64_t b = row / heads / tokens;
    const A a = lse(b, h, i), c = other_lse(b, h, i);
    const A low = a < c ? a : c, high = a < c ? c : a;
    if (low == -Kokkos::Experimental::infinity_v<A> && low == high) return;  // neither sees a key
    const A less = Kokkos::exp(low - high);
    const A of_high = A{1} / (A{1} + less), of_low = less / (A{1} + less);
    const A weight = a < c ? of_low : of_high, other_weight = a < c ? of_high : of_low;
    lse(b, h, i) = high + Kokkos::log1p(less);
    for (int d = 0; d < static_cast<int>(out.extent(3)); ++d) {
      const A own = weight == A{0} ? A{0} : weight * static_cast<A>(out(b, i, h, d));
      const A others = other_weight == A{0} ? A{0} : other_weight * static_cast<A>(other_out(b, i, h, d));
      out(b, i, h, d) = static_cast<T>(own + others);
    }
  }
};

}  // namespace detail

/// out, lse = the results over the keys of both. The key sets must not share keys, and at most one of the two results may
/// have counted the sink; dropout, scale and scores must have been the same. Local: every rank calls it for its own tokens.
/// In the accumulate type, rounded once to the outputs' type.
/// \tparam Exec  the execution space of `exec`, which can reach the tensors
/// \param out, other_out  [batch, sequence, heads, head_dim]
/// \param lse, other_lse  [batch, heads, sequence], natural units
/// \throws shape_error when extents differ; argument_error when the results to be written share memory with the others
template <StorageType T, class Exec>
void merge(const Exec& exec, const Tensor<T, 4, typename Exec::memory_space>& out,
           const Tensor<accumulate_t<T>, 3, typename Exec::memory_space>& lse,
           const Tensor<const T, 4, typename Exec::memory_space>& other_out,
           const Tensor<const accumulate_t<T>, 3, typename Exec::memory_space>& other_lse) {
  const auto extents = detail::extents_of(out);
  detail::check_extents("lse", "[batch, heads, sequence]", lse, {extents[0], extents[2], extents[1]});
  detail::check_extents("the other out", "[batch, sequence, heads, head_dim]", other_out, extents);
  detail::check_extents("the other lse", "[batch, heads, sequence]", other_lse, {extents[0], extents[2], extents[1]});
  detail::check_separate("out", out, {"lse", "the other out", "the other lse"}, lse, other_out, other_lse);
  detail::check_separate("lse", lse, {"the other out", "the other lse"}, other_out, other_lse);
  Kokkos::parallel_for(
      "rondo::merge", detail::range(exec, extents[0] * extents[1] * extents[2]),
      detail::MergeRows<T, accumulate_t<T>, typename Exec::memory_space>{out, lse, other_out, other_lse});
  exec.fence("rondo::merge");
}

}  // namespace rondo
