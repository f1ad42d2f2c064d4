/// \file
/// A rank's workspace by purpose, and the tensors and messages that lie in it.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/engine/gradient.hpp>
#include <rondo/engine/rank_layout.hpp>
#include <rondo/kernel/concept.hpp>
#include <rondo/problem.hpp>
#include <rondo/sharding/shard_table.hpp>
#include <rondo/workspace.hpp>
#include <rondo/workspace_layout.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace rondo::detail {

/// Elements of [batch, tokens, heads, head_dim], or of [batch, heads, tokens] for a head_dim of 1.
inline std::size_t elements(const Shape& shape, std::int64_t tokens, int heads, int head_dim) {
  return static_cast<std::size_t>(tokens) * static_cast<std::size_t>(shape.batch) * static_cast<std::size_t>(heads) *
         static_cast<std::size_t>(head_dim);
}

/// Bytes of the largest packed piece: of `chunk` tokens in one part, or of two parts where shards have two runs.
template <BlockKernel Kernel>
std::size_t largest_wire(const Kernel& kernel, Pass pass, const Shape& shape, const ShardTable& keys,
                         std::int64_t chunk) {
  std::size_t largest = kernel.wire_bytes(pass, shape, chunk);
  for (int rank = 0; rank < keys.ranks(); ++rank) {
    const auto shares = keys.shares_of_two_runs(rank, chunk);
    if (!shares) continue;
    largest = std::max(largest, WorkspaceLayout::after(kernel.wire_bytes(pass, shape, (*shares)[0])) +
                                    kernel.wire_bytes(pass, shape, (*shares)[1]));
  }
  return largest;
}

/// The layout of the workspace for c = `tokens` held and pieces of `chunk` of all ranks' keys.
template <BlockKernel Kernel>
RankLayout rank_layout(const Kernel& kernel, const Shape& shape, std::int64_t tokens, const ShardTable& keys,
                       std::int64_t chunk, bool with_backward) {
  using A = typename Kernel::accumulate_type;
  constexpr bool narrow = !std::is_same_v<typename Kernel::value_type, A>;
  return RankLayout(
      RankSizes{.forward_wire = largest_wire(kernel, Pass::forward, shape, keys, chunk),
                .backward_wire = largest_wire(kernel, Pass::backward, shape, keys, chunk),
                .rows = sizeof(A) * elements(shape, tokens, shape.heads, 1),
                .out = narrow ? sizeof(A) * elements(shape, tokens, shape.heads, shape.value_dim) : 0,
                .queries = narrow ? sizeof(A) * elements(shape, tokens, shape.heads, shape.head_dim) : 0,
                .gradient = sizeof(A) * elements(shape, chunk, shape.kv_heads, shape.head_dim + shape.value_dim)},
      with_backward);
}

/// One allocation, laid out by RankLayout, whose size is known before it is made.
template <BlockKernel Kernel>
class RankMemory {
 public:
  using T = typename Kernel::value_type;
  using A = typename Kernel::accumulate_type;
  using Space = typename Kernel::execution_space::memory_space;
  using Bytes = typename Segment<Space>::Bytes;
  /// Whether outputs are too narrow to serve as accumulators.
  static constexpr bool narrow = !std::is_same_v<T, A>;

  RankMemory(const Kernel& kernel, const Shape& shape, std::int64_t tokens, const ShardTable& keys, std::int64_t chunk,
             bool with_backward)
      : kernel_(kernel),
        shape_(shape),
        tokens_(tokens),
        layout_(rank_layout(kernel, shape, tokens, keys, chunk, with_backward)),
        workspace_(layout_.bytes.total()) {}

  const WorkspaceBytes& bytes() const { return layout_.bytes; }

  /// The softmax state of this rank's queries: out serves as acc where it is wide enough, lse as m.
  SoftmaxState<A, Space> state(const Tensor<T, 4, Space>& out, const Tensor<A, 3, Space>& lse) const {
    if constexpr (narrow) {
      return {lse, rows_at(layout_.l), queries_at(layout_.acc, shape_.value_dim)};
    } else {
      return {lse, rows_at(layout_.l), out};
    }
  }
  Tensor<A, 3, Space> delta() const { return rows_at(layout_.delta); }
  /// Where grad_q is summed up.
  Tensor<A, 4, Space> query_sums(const Tensor<T, 4, Space>& grad_q) const {
    if constexpr (narrow) {
      return queries_at(layout_.grad_q, shape_.head_dim);
    } else {
      return grad_q;
    }
  }

  /// The slot of the piece of step `index`.
  std::size_t slot(Pass pass, std::int64_t index) const {
    const auto& slots = pass == Pass::forward ? layout_.forward_slot : layout_.backward_slot;
    return slots[static_cast<std::size_t>(index % RankLayout::slots)];
  }
  /// Where the number-th part of the piece of step `index` lies, packed.
  WireView<Space> wire(Pass pass, std::int64_t index, const Piece& piece, std::size_t number) const {
    const std::size_t place = number == 0 ? 0 : WorkspaceLayout::after(wire_bytes(pass, piece.parts()[0]));
    return WireView<Space>(workspace_.template at<std::byte>(slot(pass, index) + place),
                           wire_bytes(pass, piece.parts()[number]));
  }
  Bytes wire_message(Pass pass, std::int64_t index, const Piece& piece) const {
    return workspace_.bytes(slot(pass, index), wire_bytes(pass, piece));
  }

  /// Places for gradients of pieces, to be named by who uses them.
  const std::array<std::size_t, 4>& gradient_places() const { return layout_.gradient; }
  PieceGradient<A, Space> gradient(std::size_t place, const Piece& piece) const {
    const std::int64_t keys[] = {shape_.batch, piece.tokens(), shape_.kv_heads, shape_.head_dim};
    const std::int64_t values[] = {shape_.batch, piece.tokens(), shape_.kv_heads, shape_.value_dim};
    A* data = workspace_.template at<A>(place);
    return {tensor<Space>(data, keys),
            tensor<Space>(data + elements(shape_, piece.tokens(), shape_.kv_heads, shape_.head_dim), values)};
  }
  Bytes gradient_message(std::size_t place, const Piece& piece) const {
    return workspace_.bytes(place, gradient_bytes(piece.tokens()));
  }

 private:
  std::size_t wire_bytes(Pass pass, const Part& part) const {
    return part.tokens.count == 0 ? 0 : kernel_.wire_bytes(pass, shape_, part.tokens.count);
  }
  std::size_t wire_bytes(Pass pass, const Piece& piece) const {
    const auto parts = piece.parts();
    const std::size_t first = wire_bytes(pass, parts[0]);
    return parts.size() == 1 ? first : WorkspaceLayout::after(first) + wire_bytes(pass, parts[1]);
  }
  std::size_t gradient_bytes(std::int64_t tokens) const {
    return sizeof(A) * elements(shape_, tokens, shape_.kv_heads, shape_.head_dim + shape_.value_dim);
  }
  Tensor<A, 3, Space> rows_at(std::size_t offset) const {
    const std::int64_t extents[] = {shape_.batch, shape_.heads, tokens_};
    return tensor<Space>(workspace_.template at<A>(offset), extents);
  }
  Tensor<A, 4, Space> queries_at(std::size_t offset, int width) const {
    const std::int64_t extents[] = {shape_.batch, tokens_, shape_.heads, width};
    return tensor<Space>(workspace_.template at<A>(offset), extents);
  }

  Kernel kernel_;
  Shape shape_;
  std::int64_t tokens_;
  RankLayout layout_;
  Workspace<Space> workspace_;
};

}  // namespace rondo::detail
