/// \file
/// The BlockKernel for the tensor cores and tensor copies of NVIDIA Hopper devices (sm_90a), for bfloat16 and float16.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/hopper/forward.hpp>
#include <rondo/kernel/hopper/gradient.hpp>
#include <rondo/kernel/mma/mma.hpp>

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace rondo {

/// Blockwise attention with wgmma and tensor copies, launched on the stream of the instance that it is given.
///
/// For head_dim 64 and 128; everything else (other head_dims, values of another one, parameters of learned scores, a device
/// that is no Hopper, a program without machine code for sm_90a, tensors whose rows are not aligned to 16 bytes) is the other
/// kernel's, whose wire this one shares. Forward, queries may have any strides.
/// \tparam T      bfloat16 or float16; sums, and the state from hop to hop, are float
/// \tparam Play   who plays the blocks: on_device. The tests have a host do it
/// \tparam Other  the kernel that does the rest
template <mma::Element T, class Exec = Kokkos::DefaultExecutionSpace, class Play = hopper::on_device,
          class Other = mma_kernel<T, Exec>>
class hopper_kernel {
  static_assert(mma::has_tensor_cores<Exec> || !std::is_same_v<Play, hopper::on_device>,
                "hopper_kernel runs on Kokkos::Cuda; on other execution spaces take default_kernel");

 public:
  using value_type = T;
  using accumulate_type = float;
  using execution_space = Exec;
  using memory_space = typename Exec::memory_space;
  static constexpr std::uint32_t wire_format = Other::wire_format;

  /// Whether this kernel's own instructions are used on an instance: on a Hopper device, by a program that has machine
  /// code for sm_90a. If not, everything is the other kernel's.
  static bool available(const Exec& exec) { return Play::has_instructions(exec); }

  std::size_t wire_bytes(Pass pass, const Shape& shape, std::int64_t tokens) const {
    return other_.wire_bytes(pass, shape, tokens);
  }

  /// \param k, v  [batch, tokens, kv_heads, head_dim]
  void pack(const Exec& exec, Pass pass, const Shape& shape, const Tensor<const T, 4, memory_space>& k,
            const Tensor<const T, 4, memory_space>& v, const WireView<memory_space>& wire) const {
    other_.pack(exec, pass, shape, k, v, wire);
  }

  /// Folds a piece into the state of the query rows `queries`.
  /// \param q  [batch, queries.count, heads, head_dim]; `state` has the same rows
  template <ProblemType P>
  void fold(const Exec& exec, const P& problem, const Shape& shape, const Tensor<const T, 4, memory_space>& q,
            const Run& queries, const WireView<memory_space>& wire, const Run& keys,
            const SoftmaxState<float, memory_space>& state, Phase phase) const {
    phase.last = false;
    if (queries.count == 0 || fold_packed(exec, problem, shape, q, queries, wire, keys, state, phase, {}, {})) return;
    other_.fold(exec, problem, shape, q, queries, wire, keys, state, phase);
  }

  /// The same for the last piece, with finish for these rows, whose state is not written if it need not be.
  /// \param out  [batch, queries.count, heads, head_dim]; `lse` has the same rows
  template <ProblemType P>
  void fold_last(const Exec& exec, const P& problem, const Shape& shape, const Tensor<const T, 4, memory_space>& q,
                 const Run& queries, const WireView<memory_space>& wire, const Run& keys,
                 const SoftmaxState<float, memory_space>& state, Phase phase, const Tensor<T, 4, memory_space>& out,
                 const Tensor<float, 3, memory_space>& lse) const {
    if (queries.count == 0 || fold_packed(exec, problem, shape, q, queries, wire, keys, state, phase, out, lse)) return;
    other_.fold(exec, problem, shape, q, queries, wire, keys, state, phase);
    other_.finish(exec, problem, state, out, lse);
  }

  /// Whether fold_unpacked takes a rank's own keys and values as they are: those that tensor copies can read.
  bool folds_unpacked(const Exec& exec, const Shape& shape, const Tensor<const T, 4, memory_space>& k,
                      const Tensor<const T, 4, memory_space>& v) const {
    return available(exec) && for_head_dim(shape, [&](auto) {
             return hopper::source_of(k, 1).can_be_copied() && hopper::source_of(v, 1).can_be_copied();
           });
  }

  /// fold, or with phase.last fold_last, of keys and values that have not been packed.
  template <ProblemType P>
  void fold_unpacked(const Exec& exec, const P& problem, const Shape& shape, const Tensor<const T, 4, memory_space>& q,
                     const Run& queries, const Tensor<const T, 4, memory_space>& k,
                     const Tensor<const T, 4, memory_space>& v, const Run& keys,
                     const SoftmaxState<float, memory_space>& state, Phase phase, const Tensor<T, 4, memory_space>& out,
                     const Tensor<float, 3, memory_space>& lse) const {
    if (queries.count == 0 || fold_rows(exec, problem, shape, q, queries, k, v, keys, state, phase, out, lse)) return;
    throw error("hopper_kernel could not be launched with keys and values that it said it could read");
  }

  /// out = acc / l, rounded once; lse = m + ln l in natural units, both with the sink.
  template <ProblemType P>
  void finish(const Exec& exec, const P& problem, const SoftmaxState<float, memory_space>& state,
              const Tensor<T, 4, memory_space>& out, const Tensor<float, 3, memory_space>& lse) const {
    other_.finish(exec, problem, state, out, lse);
  }

  /// delta[b, h, i] = Σ over d of out · grad_out.
  void delta(const Exec& exec, const Tensor<const T, 4, memory_space>& out,
             const Tensor<const T, 4, memory_space>& grad_out, const Tensor<float, 3, memory_space>& delta) const {
    other_.delta(exec, out, grad_out, delta);
  }

  /// Adds what this pair of (queries, piece) contributes to the three gradients.
  /// \param grad_q          [batch, queries.count, heads, head_dim]
  /// \param grad_k, grad_v  [batch, keys.count, kv_heads, head_dim]
  /// \param parameter_sums  [heads, parameters_per_head] of a score function with parameters, or null
  template <ProblemType P>
  void fold_gradient(const Exec& exec, const P& problem, const Shape& shape, const Tensor<const T, 4, memory_space>& q,
                     const Tensor<const T, 4, memory_space>& grad_out, const Tensor<const float, 3, memory_space>& lse,
                     const Tensor<const float, 3, memory_space>& delta, const Run& queries,
                     const WireView<memory_space>& wire, const Run& keys, const Tensor<float, 4, memory_space>& grad_q,
                     const Tensor<float, 4, memory_space>& grad_k, const Tensor<float, 4, memory_space>& grad_v,
                     double* parameter_sums = nullptr) const {
    const auto with = [&]<int Dim>(std::integral_constant<int, Dim>) {
      using ForQueries = hopper::QueryGradient<T, Dim, Exec, P>;
      using ForKeys = hopper::KeyValueGradient<T, Dim, Exec, P>;
      const portable::GradientInput<T, float, Exec, P> input{
          problem, shape, q, grad_out, lse, delta, queries, portable::Wire<T>::of(wire, shape, keys), keys};
      const hopper::CopySource of_q = hopper::source_of(q, ForKeys::tile_rows);
      const hopper::CopySource of_grad_out = hopper::source_of(grad_out, ForKeys::tile_rows);
      const hopper::CopySource of_k =
          hopper::source_of(portable::keys_of<memory_space>(input.wire), ForQueries::tile_rows);
      const hopper::CopySource of_v =
          hopper::source_of(portable::values_of<memory_space>(input.wire), ForQueries::tile_rows);
      if (!of_q.can_be_copied() || !of_grad_out.can_be_copied() || !of_k.can_be_copied() || !of_v.can_be_copied()) {
        return false;
      }
      if (!Play::launch(exec, blocks_of(keys, ForKeys::block_rows) * shape.batch * shape.kv_heads,
                        ForKeys{input, grad_k, grad_v}, {of_q, of_grad_out})) {
        return false;
      }
      if (!Play::launch(exec, blocks_of(queries, ForQueries::block_rows) * shape.batch * shape.heads,
                        ForQueries{input, grad_q}, {of_k, of_v})) {
        throw error("hopper_kernel could launch one half of its backward pass and not the other");
      }
      return true;
    };
    const bool learned = LearnedScore<typename P::score_type> && parameter_sums != nullptr;
    if (learned || !available(exec) || !for_head_dim(shape, with)) {
      other_.fold_gradient(exec, problem, shape, q, grad_out, lse, delta, queries, wire, keys, grad_q, grad_k, grad_v,
                           parameter_sums);
    }
  }

 private:
  /// Calls f(head_dim); false where there is none or f says so.
  template <class F>
  static bool for_head_dim(const Shape& shape, const F& f) {
    if (shape.value_dim != shape.head_dim) return false;
    if (shape.head_dim == 64) return f(std::integral_constant<int, 64>{});
    if (shape.head_dim == 128) return f(std::integral_constant<int, 128>{});
    return false;
  }

  /// False where this kernel does not do it.
  template <ProblemType P>
  bool fold_packed(const Exec& exec, const P& problem, const Shape& shape, const Tensor<const T, 4, memory_space>& q,
                   const Run& queries, const WireView<memory_space>& wire, const Run& keys,
                   const SoftmaxState<float, memory_space>& state, Phase phase, const Tensor<T, 4, memory_space>& out,
                   const Tensor<float, 3, memory_space>& lse) const {
    const auto packed = portable::Wire<T>::of(wire, shape, keys);
    return available(exec) && fold_rows(exec, problem, shape, q, queries, portable::keys_of<memory_space>(packed),
                                        portable::values_of<memory_space>(packed), keys, state, phase, out, lse);
  }

  template <ProblemType P>
  bool fold_rows(const Exec& exec, const P& problem, const Shape& shape, const Tensor<const T, 4, memory_space>& q,
                 const Run& queries, const Tensor<const T, 4, memory_space>& k,
                 const Tensor<const T, 4, memory_space>& v, const Run& keys,
                 const SoftmaxState<float, memory_space>& state, Phase phase, const Tensor<T, 4, memory_space>& out,
                 const Tensor<float, 3, memory_space>& lse) const {
    return for_head_dim(shape, [&]<int Dim>(std::integral_constant<int, Dim>) {
      using Fold = hopper::ForwardFold<T, Dim, Exec, P>;
      const hopper::CopySource of_k = hopper::source_of(k, Fold::tile_rows),
                               of_v = hopper::source_of(v, Fold::tile_rows);
      return of_k.can_be_copied() && of_v.can_be_copied() &&
             Play::launch(
                 exec, blocks_of(queries, Fold::block_rows) * shape.batch * shape.heads,
                 Fold{problem, shape, q, queries, of_v, keys, state, phase, out, lse, base2_of<float>(problem)},
                 {of_k, of_v});
    });
  }

  static int blocks_of(const Run& run, int rows) { return (run.count + rows - 1) / rows; }

  Other other_;
};

#ifdef KOKKOS_ENABLE_CUDA
static_assert(BlockKernel<hopper_kernel<bfloat16, Kokkos::Cuda>> && BlockKernel<hopper_kernel<float16, Kokkos::Cuda>>);
static_assert(FoldsUnpacked<hopper_kernel<bfloat16, Kokkos::Cuda>>);
#endif

}  // namespace rondo
