/// \file
/// Gradients of a piece's keys and values on their way round the ring: zeroed, added up, rounded once at home.
#pragma once

#include <rondo/launch.hpp>
#include <rondo/tensor.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo::detail {

/// grad_k and grad_v of one piece, [batch, tokens, kv_heads, head_dim or value_dim], contiguous, one behind the other.
template <class A, class MemorySpace>
struct PieceGradient {
  Tensor<A, 4, MemorySpace> k;
  Tensor<A, 4, MemorySpace> v;
};

/// Of `count` of the piece's tokens from its `first` one on.
template <class A, class Space>
PieceGradient<A, Space> part_of(const PieceGradient<A, Space>& piece, std::int64_t first, std::int64_t count) {
  return {token_rows(piece.k, first, count), token_rows(piece.v, first, count)};
}

template <class Exec, class A, class Space>
void zero(const Exec& exec, const PieceGradient<A, Space>& gradient) {
  Kokkos::deep_copy(exec, gradient.k, A{0});
  Kokkos::deep_copy(exec, gradient.v, A{0});
}

/// sum += term, in accumulate type.
template <class Exec, class A, class Space>
void add(const Exec& exec, const PieceGradient<A, Space>& sum, const PieceGradient<A, Space>& term) {
  A* to = sum.k.data();
  const A* from = term.k.data();
  const auto count = static_cast<std::int64_t>(sum.k.size() + sum.v.size());
  Kokkos::parallel_for(
      "rondo::add", range(exec, count), KOKKOS_LAMBDA(std::int64_t i) { to[i] += from[i]; });
}

/// target = values, rounded to target's type. Both [batch, tokens, heads, head_dim].
template <class Exec, class Values, class Target>
void round_to(const Exec& exec, const Values& values, const Target& target) {
  using T = typename Target::non_const_value_type;
  const auto tokens = static_cast<std::int64_t>(values.extent(1));
  const auto heads = static_cast<std::int64_t>(values.extent(2));
  const int dim = static_cast<int>(values.extent(3));
  const auto batch = static_cast<std::int64_t>(values.extent(0));
  const bool whole_rows = is_host<Exec> && values.stride(3) == 1 && target.stride(3) == 1;
  for_rows(
      "rondo::round", exec, batch, tokens, heads, dim,
      KOKKOS_LAMBDA(const Row<Exec>& row, std::int64_t b, std::int64_t token, std::int64_t head) {
        if (whole_rows) {
          const auto* const from = &values(b, token, head, 0);
          T* const to = &target(b, token, head, 0);
          for (int d = 0; d < dim; ++d) to[d] = static_cast<T>(from[d]);
          return;
        }
        row.each_eight(dim, [&](int d, int count) {
          Eight<typename Values::non_const_value_type> from;
          from.read(&values(b, token, head, d), values.stride(3), count);
          Eight<T> to;
          for (int i = 0; i < count; ++i) to.x[i] = static_cast<T>(from.x[i]);
          to.write(&target(b, token, head, d), target.stride(3), count);
        });
      });
}

}  // namespace rondo::detail
