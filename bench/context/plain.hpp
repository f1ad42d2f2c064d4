/// \file
/// Attention as it is written down, with all probabilities in memory: what blockwise attention is compared with.
#pragma once

#include <Kokkos_Core.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace bench {

/// [1, tokens, heads, head_dim] in float.
using Tensor = Kokkos::View<float****, Kokkos::LayoutRight, Kokkos::HostSpace>;
using Square = Kokkos::View<float***, Kokkos::LayoutRight, Kokkos::HostSpace>;

/// Forward and backward under a causal window of `width` keys. Keeps p and ds, [heads, tokens, tokens] each, as a
/// framework's automatic differentiation would.
inline void plain_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& out,
                            const Tensor& grad_out, const Tensor& grad_q, const Tensor& grad_k, const Tensor& grad_v,
                            std::int64_t width) {
  const std::size_t tokens = q.extent(1), heads = q.extent(2), dim = q.extent(3);
  const Square p("plain::p", heads, tokens, tokens), ds("plain::ds", heads, tokens, tokens);
  const float scale = 1 / std::sqrt(static_cast<float>(dim));
  for (const Tensor& sum : {out, grad_q, grad_k, grad_v}) Kokkos::deep_copy(sum, 0.0f);
  const auto dot = [&](const Tensor& a, std::size_t i, const Tensor& b, std::size_t j, std::size_t h) {
    float sum = 0;
    for (std::size_t d = 0; d < dim; ++d) sum += a(0, i, h, d) * b(0, j, h, d);
    return sum;
  };
  const auto add = [&](const Tensor& to, std::size_t i, float factor, const Tensor& from, std::size_t j,
                       std::size_t h) {
    for (std::size_t d = 0; d < dim; ++d) to(0, i, h, d) += factor * from(0, j, h, d);
  };
  for (std::size_t h = 0; h < heads; ++h) {
    for (std::size_t i = 0; i < tokens; ++i) {
      const std::size_t first = i + 1 > static_cast<std::size_t>(width) ? i + 1 - static_cast<std::size_t>(width) : 0;
      float most = -INFINITY, l = 0;
      for (std::size_t j = first; j <= i; ++j) most = std::max(most, p(h, i, j) = scale * dot(q, i, k, j, h));
      for (std::size_t j = first; j <= i; ++j) l += p(h, i, j) = std::exp(p(h, i, j) - most);
      for (std::size_t j = first; j <= i; ++j) add(out, i, p(h, i, j) /= l, v, j, h);
      const float delta = dot(out, i, grad_out, i, h);
      for (std::size_t j = first; j <= i; ++j) {
        ds(h, i, j) = scale * p(h, i, j) * (dot(grad_out, i, v, j, h) - delta);
        add(grad_v, j, p(h, i, j), grad_out, i, h);
        add(grad_q, i, ds(h, i, j), k, j, h);
        add(grad_k, j, ds(h, i, j), q, i, h);
      }
    }
  }
}

}  // namespace bench
