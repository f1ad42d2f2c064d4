/// \file
/// Gradients of a piece's keys and values on their way round the ring: zeroed, added up, rounded once at home.
#pragma once

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
      "rondo::add", Kokkos::RangePolicy<Exec, Kokkos::IndexType<std::int64_t>>(exec, 0, count),
      KOKKOS_LAMBDA(std::int64_t i) { to[i] += from[i]; });
}

/// target = values, rounded to target's type. Both [batch, tokens, heads, head_dim].
template <class Exec, class Values, class Target>
void round_to(const Exec& exec, const Values& values, const Target& target) {
  using T = typename Target::non_const_value_type;
  const auto tokens = static_cast<std::int64_t>(values.extent(1));
  const auto heads = static_cast<std::int64_t>(values.extent(2));
  const int dim = static_cast<int>(values.extent(3));
  const std::int64_t rows = static_cast<std::int64_t>(values.extent(0)) * tokens * heads;
  Kokkos::parallel_for(
      "rondo::round", Kokkos::RangePolicy<Exec, Kokkos::IndexType<std::int64_t>>(exec, 0, rows),
      KOKKOS_LAMBDA(std::int64_t row) {
        const std::int64_t head = row % heads;
        const std::int64_t token = row / heads % tokens;
        const std::int64_t b = row / heads / tokens;
        for (int d = 0; d < dim; ++d) target(b, token, head, d) = static_cast<T>(values(b, token, head, d));
      });
}

}  // namespace rondo::detail
