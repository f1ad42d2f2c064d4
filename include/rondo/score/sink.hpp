/// \file
/// Attention sinks: a learned extra logit per head that takes weight and gives no value.
#pragma once

#include <Kokkos_Core.hpp>

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace rondo {

/// The default: softmax over the keys alone.
struct no_sink {
  static constexpr int code = 0;
};

/// Every query's softmax has one more term, e^logit of its head, to which no value belongs (Xiao et al., arXiv 2309.17453,
/// with the logit learned). It is counted once, when all keys have been folded, and is part of lse. A query that sees no
/// key gives 0 and the logit.
template <class A>
struct head_sink {
  const A* logits = nullptr;  ///< [heads], natural units, the same on all ranks, in the kernel's memory
  /// Where backward writes the gradient, [heads], summed over all ranks; null where none is wanted.
  A* grad_logits = nullptr;
  static constexpr int code = 1;
};

/// no_sink or head_sink.
template <class S>
concept Sink = std::is_trivially_copyable_v<S> && requires {
  { S::code } -> std::convertible_to<int>;
} &&(std::is_same_v<S, no_sink> || requires(const S& sink, int head) {
  { sink.logits[head] } -> std::convertible_to<double>;
  sink.grad_logits[head] = sink.logits[head];
});

static_assert(Sink<no_sink> && Sink<head_sink<float>> && Sink<head_sink<double>>);

}  // namespace rondo
