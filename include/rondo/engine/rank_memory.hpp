/// \file
/// A rank's workspace by purpose, and the tensors and messages that lie in it.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/engine/gradient.hpp>
#include <rondo/kernel/concept.hpp>
#include <rondo/problem.hpp>
#include <rondo/sharding/shard_table.hpp>
#include <rondo/workspace.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace rondo::detail {

/// For c tokens held and pieces of `chunk`, in bytes, each part rounded up to 128:
///   forward   2 wires of a piece, l [batch, heads, c], and acc [batch, c, heads, head_dim] where out is narrower
///   backward  2 wires of a piece, delta [batch, heads, c], grad_q likewise where narrower, 4 gradients of a piece
/// The passes share the memory: the larger counts.
template <BlockKernel Kernel>
class RankMemory {
 public:
  using T = typename Kernel::value_type;
  using A = typename Kernel::accumulate_type;
  using Space = typename Kernel::execution_space::memory_space;
  using Bytes = typename Segment<Space>::Bytes;
  /// Whether outputs are too narrow to serve as accumulators.
  static constexpr bool narrow = !std::is_same_v<T, A>;
  /// Places for packed pieces: one computed with, one arriving.
  static constexpr int slots = 2;

  RankMemory(const Kernel& kernel, const Shape& shape, std::int64_t tokens, std::int64_t chunk)
      : kernel_(kernel), shape_(shape), tokens_(tokens) {
    WorkspaceLayout forward;
    for (auto& slot : forward_slot_) slot = forward.add(kernel_.wire_bytes(Pass::forward, shape_, chunk));
    l_ = forward.add(row_bytes());
    if (narrow) acc_ = forward.add(query_bytes());
    WorkspaceLayout backward;
    for (auto& slot : backward_slot_) slot = backward.add(kernel_.wire_bytes(Pass::backward, shape_, chunk));
    delta_ = backward.add(row_bytes());
    if (narrow) grad_q_ = backward.add(query_bytes());
    for (auto& gradient : gradient_) gradient = backward.add(gradient_bytes(chunk));
    bytes_ = std::max(forward.bytes(), backward.bytes());
    workspace_ = Workspace<Space>(bytes_);
  }

  std::size_t bytes() const { return bytes_; }

  /// The softmax state of this rank's queries: out serves as acc where it is wide enough, lse as m.
  SoftmaxState<A, Space> state(const Tensor<T, 4, Space>& out, const Tensor<A, 3, Space>& lse) const {
    if constexpr (narrow) {
      return {lse, rows_at(l_), queries_at(acc_)};
    } else {
      return {lse, rows_at(l_), out};
    }
  }
  Tensor<A, 3, Space> delta() const { return rows_at(delta_); }
  /// Where grad_q is summed up.
  Tensor<A, 4, Space> query_sums(const Tensor<T, 4, Space>& grad_q) const {
    if constexpr (narrow) {
      return queries_at(grad_q_);
    } else {
      return grad_q;
    }
  }

  /// The slot of the piece of step `index`.
  std::size_t slot(Pass pass, std::int64_t index) const {
    return (pass == Pass::forward ? forward_slot_ : backward_slot_)[static_cast<std::size_t>(index % slots)];
  }
  WireView<Space> wire(Pass pass, std::int64_t index, const Piece& piece) const {
    return WireView<Space>(workspace_.template at<std::byte>(slot(pass, index)), wire_bytes(pass, piece));
  }
  Bytes wire_message(Pass pass, std::int64_t index, const Piece& piece) const {
    return workspace_.bytes(slot(pass, index), wire_bytes(pass, piece));
  }

  /// Places for gradients of pieces, to be named by who uses them.
  const std::array<std::size_t, 4>& gradient_places() const { return gradient_; }
  PieceGradient<A, Space> gradient(std::size_t place, const Piece& piece) const {
    const std::int64_t extents[] = {shape_.batch, piece.tokens.count, shape_.kv_heads, shape_.head_dim};
    A* data = workspace_.template at<A>(place);
    const auto half = gradient_bytes(piece.tokens.count) / sizeof(A) / 2;
    return {tensor<Space>(data, extents), tensor<Space>(data + half, extents)};
  }
  Bytes gradient_message(std::size_t place, const Piece& piece) const {
    return workspace_.bytes(place, gradient_bytes(piece.tokens.count));
  }

 private:
  std::size_t wire_bytes(Pass pass, const Piece& piece) const {
    return piece.tokens.count == 0 ? 0 : kernel_.wire_bytes(pass, shape_, piece.tokens.count);
  }
  std::size_t rows(std::int64_t tokens, int heads) const {
    return static_cast<std::size_t>(tokens) * static_cast<std::size_t>(shape_.batch) * static_cast<std::size_t>(heads);
  }
  std::size_t row_bytes() const { return sizeof(A) * rows(tokens_, shape_.heads); }
  std::size_t query_bytes() const { return row_bytes() * static_cast<std::size_t>(shape_.head_dim); }
  std::size_t gradient_bytes(std::int64_t tokens) const {
    return 2 * sizeof(A) * rows(tokens, shape_.kv_heads) * static_cast<std::size_t>(shape_.head_dim);
  }
  Tensor<A, 3, Space> rows_at(std::size_t offset) const {
    const std::int64_t extents[] = {shape_.batch, shape_.heads, tokens_};
    return tensor<Space>(workspace_.template at<A>(offset), extents);
  }
  Tensor<A, 4, Space> queries_at(std::size_t offset) const {
    const std::int64_t extents[] = {shape_.batch, tokens_, shape_.heads, shape_.head_dim};
    return tensor<Space>(workspace_.template at<A>(offset), extents);
  }

  Kernel kernel_;
  Shape shape_;
  std::int64_t tokens_;
  std::array<std::size_t, slots> forward_slot_{};
  std::array<std::size_t, slots> backward_slot_{};
  std::array<std::size_t, 4> gradient_{};
  std::size_t l_ = 0, acc_ = 0, delta_ = 0, grad_q_ = 0;
  std::size_t bytes_ = 0;
  Workspace<Space> workspace_;
};

}  // namespace rondo::detail
