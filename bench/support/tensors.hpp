/// \file
/// Random tensors for benchmarks.
#pragma once

#include <rondo/precision.hpp>

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>
#include <random>

namespace bench {

template <class T>
using Tensor4 = Kokkos::View<T****, Kokkos::LayoutRight, Kokkos::HostSpace>;
template <class T>
using Matrix = Kokkos::View<T**, Kokkos::LayoutRight, Kokkos::HostSpace>;
template <class T>
using Tensor3 = Kokkos::View<T***, Kokkos::LayoutRight, Kokkos::HostSpace>;

/// Normally distributed numbers, [1, tokens, heads, head_dim].
template <class T>
Tensor4<T> random_tensor(std::int64_t tokens, int heads, int head_dim, std::uint32_t seed) {
  Tensor4<T> x("random", 1, tokens, heads, head_dim);
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  for (std::size_t i = 0; i < x.size(); ++i) x.data()[i] = static_cast<T>(normal(generator));
  return x;
}

/// Normally distributed numbers with a standard deviation of `scale`, [rows, columns].
template <class T>
Matrix<T> random_matrix(std::int64_t rows, std::int64_t columns, std::uint32_t seed, T scale = 1) {
  Matrix<T> x("random", rows, columns);
  std::mt19937 generator(seed);
  std::normal_distribution<T> normal(0, scale);
  for (std::size_t i = 0; i < x.size(); ++i) x.data()[i] = normal(generator);
  return x;
}

/// Useful floating-point operations of attention's forward pass; the backward pass has 2.5 times as many.
inline double attention_flops(bool causal, double tokens, int heads, int head_dim) {
  const double pairs = causal ? tokens * (tokens + 1) / 2 : tokens * tokens;
  return 4.0 * pairs * heads * head_dim;
}

}  // namespace bench
