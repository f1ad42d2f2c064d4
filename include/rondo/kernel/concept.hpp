/// \file
/// The BlockKernel concept: the arithmetic on one pair of (a rank's queries, a visiting piece of keys and values).
#pragma once

#include <rondo/kernel/state.hpp>
#include <rondo/problem.hpp>
#include <rondo/sharding/run.hpp>
#include <rondo/tensor.hpp>

#include <Kokkos_Core.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace rondo {

/// Which pass a piece is packed for: kernels may send more, or in another order, to a backward pass.
enum class Pass { forward, backward };

/// Where a call to `fold` stands among the calls for the same query rows. `first`: the state holds nothing yet and need
/// not be read.
struct Phase {
  bool first = false;
  bool last = false;
};

/// What a kernel calls between tiles, from the thread that called it and from no other, so that messages move while it
/// computes. False: the result is not wanted any more. It must not throw, nor use the instance that the kernel runs on.
class ProgressCallback {
 public:
  ProgressCallback() = default;
  /// Calls `f`, which has to outlive this.
  template <class F>
    requires(!std::same_as<F, ProgressCallback>)
  explicit ProgressCallback(F& f) : call_([](void* context) { return (*static_cast<F*>(context))(); }), context_(&f) {}

  bool operator()() const { return call_ == nullptr || call_(context_); }

 private:
  bool (*call_)(void*) = nullptr;
  void* context_ = nullptr;
};

/// Bytes in a kernel's own format: what travels from rank to rank.
template <class MemorySpace>
using WireView = Kokkos::View<std::byte*, MemorySpace, Kokkos::MemoryTraits<Kokkos::Unmanaged>>;

namespace detail {

/// Example arguments in which the concept is spelled out.
template <class K>
struct KernelArguments {
  using T = typename K::value_type;
  using A = typename K::accumulate_type;
  using Space = typename K::execution_space::memory_space;
  typename K::execution_space exec;
  Shape shape;
  Problem<causal> problem;
  Tensor<const T, 4, Space> tensor;
  Tensor<T, 4, Space> out;
  Tensor<A, 4, Space> sums;
  Tensor<A, 3, Space> rows;
  Tensor<const A, 3, Space> const_rows;
  WireView<Space> wire;
  SoftmaxState<A, Space> state;
  Run run;
  double* parameter_sums;
};

}  // namespace detail

/// A kernel never knows that ranks exist: it sees query rows and one packed piece, each a run of tokens.
/// Everything is queued on `exec`, allocates nothing once warm, and gives the same bits for any number of threads.
/// (Kokkos takes its labels as std::string: up to 15 characters they need no memory.)
///  - wire_format: a number that two ranks must share to exchange packed pieces
///  - wire_bytes(pass, shape, tokens), pack(exec, pass, shape, k, v, wire): the owner packs a piece once
///  - fold(exec, problem, shape, q, queries, wire, keys, state, phase): folds a piece into the state of query rows
///  - finish(exec, problem, state, out, lse): the state's output and natural log-sum-exp, with the problem's sink; a row that
///    saw no key and has no sink gives 0 and -inf. acc may be out and m may be lse.
///  - delta(exec, out, grad_out, delta): rowsum(grad_out ∘ out)
///  - fold_gradient(exec, problem, shape, q, grad_out, lse, delta, queries, wire, keys, grad_q, grad_k, grad_v): adds to
///    the three gradients; grad_k and grad_v are [batch, tokens of the piece, kv_heads, head_dim] in accumulate type
///  - fold_last(fold's arguments, out, lse), if it has it: fold and finish of rows that see no further piece
///  - folds_unpacked(exec, shape, k, v) and fold_unpacked, if it has them: whether keys and values that need not travel can
///    stand in for a packed piece, and fold, or with phase.last fold_last, with them in the place of `wire`
///  - set_progress(callback), if it has it: fold and fold_gradient call that between tiles; once it has said false, they
///    may leave the rest out
template <class K>
concept BlockKernel =
    std::copyable<K> && requires(const K& kernel, const detail::KernelArguments<K>& a, Pass pass, Phase phase) {
      typename K::value_type;
      typename K::accumulate_type;
      typename K::execution_space;
      { K::wire_format } -> std::convertible_to<std::uint32_t>;
      { kernel.wire_bytes(pass, a.shape, std::int64_t{}) } -> std::convertible_to<std::size_t>;
      kernel.pack(a.exec, pass, a.shape, a.tensor, a.tensor, a.wire);
      kernel.fold(a.exec, a.problem, a.shape, a.tensor, a.run, a.wire, a.run, a.state, phase);
      kernel.finish(a.exec, a.problem, a.state, a.out, a.rows);
      kernel.delta(a.exec, a.tensor, a.tensor, a.rows);
      kernel.fold_gradient(a.exec, a.problem, a.shape, a.tensor, a.tensor, a.const_rows, a.const_rows, a.run, a.wire,
                           a.run, a.sums, a.sums, a.sums, a.parameter_sums);
    };

/// Whether a kernel lets messages move between its tiles.
template <class K>
concept ReportsProgress = requires(K& kernel, ProgressCallback progress) { kernel.set_progress(progress); };

/// Whether a kernel finishes rows with the last fold.
template <class K>
concept FinishesRows = requires(const K& kernel, const detail::KernelArguments<K>& a, Phase phase) {
  kernel.fold_last(a.exec, a.problem, a.shape, a.tensor, a.run, a.wire, a.run, a.state, phase, a.out, a.rows);
};

/// Whether a kernel can do without packing where nothing travels.
template <class K>
concept FoldsUnpacked =
    FinishesRows<K> && requires(const K& kernel, const detail::KernelArguments<K>& a, Phase phase) {
      { kernel.folds_unpacked(a.exec, a.shape, a.tensor, a.tensor) } -> std::same_as<bool>;
      kernel.fold_unpacked(a.exec, a.problem, a.shape, a.tensor, a.run, a.tensor, a.tensor, a.run, a.state, phase, a.out,
                           a.rows);
    };

}  // namespace rondo
