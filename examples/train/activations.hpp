/// \file
/// What the forward pass keeps for the backward pass, for the tokens of one rank.
#pragma once

#include "parameters.hpp"

#include <rondo/plan/memory.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>
#include <string>

namespace train {

using rondo::plan::Recompute;

template <class T>
using Matrix = Kokkos::View<T**, Kokkos::LayoutRight, Kokkos::HostSpace>;

template <class T>
Matrix<T> make_matrix(const std::string& label, std::int64_t rows, std::int64_t columns) {
  return Matrix<T>(Kokkos::view_alloc(Kokkos::WithoutInitializing, label), static_cast<std::size_t>(rows),
                   static_cast<std::size_t>(columns));
}

/// The same memory as [1, tokens, heads, head_dim], which is what attention and rope take.
template <class T>
auto as_heads(const Matrix<T>& x, int heads) {
  const auto tokens = static_cast<std::int64_t>(x.extent(0));
  const auto dim = static_cast<std::int64_t>(x.extent(1));
  return rondo::tensor<Kokkos::HostSpace>(x.data(), {std::int64_t{1}, tokens, std::int64_t{heads}, dim / heads});
}

/// Of one block: what enters it, what enters its feed-forward, and what attention's backward pass needs. The norms and
/// the feed-forward's hidden activation are computed again, and whatever else is asked for: that lies in memory which all
/// blocks share. rondo::plan::block_bytes counts it.
template <class T>
struct BlockActivations {
  using Lse = Kokkos::View<T***, Kokkos::LayoutRight, Kokkos::HostSpace>;

  Matrix<T> x;           ///< [tokens, dim]
  Matrix<T> attended;    ///< [tokens, heads · head_dim]
  Lse lse;               ///< [1, heads, tokens]
  Matrix<T> query;       ///< [tokens, heads · head_dim]
  Matrix<T> key, value;  ///< [tokens, kv_heads · head_dim]
  Matrix<T> middle;      ///< [tokens, dim], x plus the attention's part

  /// The first block, with memory for everything.
  BlockActivations(const ModelShape& shape, std::int64_t tokens)
      : BlockActivations(shape, tokens, Recompute::nothing, BlockActivations{}) {}

  /// Another block, which shares with the first one what is computed again.
  BlockActivations(const ModelShape& shape, std::int64_t tokens, Recompute recompute, const BlockActivations& first)
      : BlockActivations(first) {
    x = make_matrix<T>("train::x", tokens, shape.dim);
    if (recompute == Recompute::layers) return;
    attended = make_matrix<T>("train::attended", tokens, shape.dim);
    lse = Lse(Kokkos::view_alloc(Kokkos::WithoutInitializing, "train::lse"), 1, static_cast<std::size_t>(shape.heads),
              static_cast<std::size_t>(tokens));
    if (recompute == Recompute::all_but_attention) return;
    query = make_matrix<T>("train::query", tokens, shape.dim);
    key = make_matrix<T>("train::key", tokens, shape.kv_dim());
    value = make_matrix<T>("train::value", tokens, shape.kv_dim());
    middle = make_matrix<T>("train::middle", tokens, shape.dim);
  }

 private:
  BlockActivations() = default;
};

/// Of which every model needs one, whatever its depth.
template <class T>
struct Scratch {
  Matrix<T> last;                         ///< [tokens, dim], what leaves the last block
  Matrix<T> normed;                       ///< [tokens, dim]
  Matrix<T> grad, grad_part, grad_query;  ///< [tokens, dim]
  Matrix<T> grad_key, grad_value;         ///< [tokens, kv_heads · head_dim]

  Scratch(const ModelShape& shape, std::int64_t tokens)
      : last(make_matrix<T>("train::last", tokens, shape.dim)),
        normed(make_matrix<T>("train::normed", tokens, shape.dim)),
        grad(make_matrix<T>("train::grad", tokens, shape.dim)),
        grad_part(make_matrix<T>("train::grad_part", tokens, shape.dim)),
        grad_query(make_matrix<T>("train::grad_query", tokens, shape.dim)),
        grad_key(make_matrix<T>("train::grad_key", tokens, shape.kv_dim())),
        grad_value(make_matrix<T>("train::grad_value", tokens, shape.kv_dim())) {}
};

}  // namespace train
