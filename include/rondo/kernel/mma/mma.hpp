/// \file
/// The BlockKernel for the tensor cores of NVIDIA devices (sm_80 and later), for bfloat16 and float16.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/mma/forward.hpp>
#include <rondo/kernel/mma/gradient.hpp>
#include <rondo/kernel/portable/portable.hpp>

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace rondo {
namespace mma {

/// Whether an execution space has these instructions.
template <class Exec>
inline constexpr bool has_tensor_cores = false;
#ifdef KOKKOS_ENABLE_CUDA
template <>
inline constexpr bool has_tensor_cores<Kokkos::Cuda> = true;
#endif

}  // namespace mma

/// Blockwise attention with mma.sync (m16n8k16, sums in float), on the stream of the instance that it is given.
///
/// A head_dim up to 128 is computed with the next multiple of 64; larger ones, and values of another one, are
/// portable_kernel's, whose wire this one shares. So are the parameters of learned scores. Probabilities and the gradients
/// of scores are rounded to T before they are multiplied: in float16 the latter have to stay below 65504, which a scaled
/// loss has to see to.
/// \tparam T     bfloat16 or float16; sums, and the state from hop to hop, are float
/// \tparam Play  who plays the warps: on_device. The tests have a host do it
template <mma::Element T, class Exec = Kokkos::DefaultExecutionSpace, class Play = mma::on_device>
class mma_kernel {
  static_assert(mma::has_tensor_cores<Exec> || !std::is_same_v<Play, mma::on_device>,
                "mma_kernel runs on Kokkos::Cuda; on other execution spaces take default_kernel");

 public:
  using value_type = T;
  using accumulate_type = float;
  using execution_space = Exec;
  using memory_space = typename Exec::memory_space;
  static constexpr std::uint32_t wire_format = portable_kernel<T, Exec>::wire_format;

  std::size_t wire_bytes(Pass pass, const Shape& shape, std::int64_t tokens) const {
    return portable_.wire_bytes(pass, shape, tokens);
  }

  /// \param k, v  [batch, tokens, kv_heads, head_dim]
  void pack(const Exec& exec, Pass pass, const Shape& shape, const Tensor<const T, 4, memory_space>& k,
            const Tensor<const T, 4, memory_space>& v, const WireView<memory_space>& wire) const {
    portable_.pack(exec, pass, shape, k, v, wire);
  }

  /// Folds a piece into the state of the query rows `queries`.
  /// \param q  [batch, queries.count, heads, head_dim]; `state` has the same rows
  template <ProblemType P>
  void fold(const Exec& exec, const P& problem, const Shape& shape, const Tensor<const T, 4, memory_space>& q,
            const Run& queries, const WireView<memory_space>& wire, const Run& keys,
            const SoftmaxState<float, memory_space>& state, Phase phase) const {
    phase.last = false;
    if (fold_packed(exec, problem, shape, q, queries, wire, keys, state, phase, {}, {})) return;
    portable_.fold(exec, problem, shape, q, queries, wire, keys, state, phase);
  }

  /// The same for the last piece, with finish for these rows, whose state is not written if it need not be.
  /// \param out  [batch, queries.count, heads, head_dim]; `lse` has the same rows
  template <ProblemType P>
  void fold_last(const Exec& exec, const P& problem, const Shape& shape, const Tensor<const T, 4, memory_space>& q,
                 const Run& queries, const WireView<memory_space>& wire, const Run& keys,
                 const SoftmaxState<float, memory_space>& state, Phase phase, const Tensor<T, 4, memory_space>& out,
                 const Tensor<float, 3, memory_space>& lse) const {
    if (fold_packed(exec, problem, shape, q, queries, wire, keys, state, phase, out, lse)) return;
    portable_.fold(exec, problem, shape, q, queries, wire, keys, state, phase);
    portable_.finish(exec, problem, state, out, lse);
  }

  /// Whether fold_unpacked takes a rank's own keys and values as they are: those whose rows are copied 16 bytes at a time.
  bool folds_unpacked(const Exec& /*exec*/, const Shape& shape, const Tensor<const T, 4, memory_space>& k,
                      const Tensor<const T, 4, memory_space>& v) const {
    const auto in_groups = [](const Tensor<const T, 4, memory_space>& x) {
      return x.stride(0) % 8 == 0 && x.stride(2) % 8 == 0 && tensor_core::rows_of(x, 0, 0, 0).in_groups();
    };
    return in_groups(k) && in_groups(v) && tensor_core::for_padded_head_dim(shape, [](auto) { return true; });
  }

  /// fold, or with phase.last fold_last, of keys and values that have not been packed.
  template <ProblemType P>
  void fold_unpacked(const Exec& exec, const P& problem, const Shape& shape, const Tensor<const T, 4, memory_space>& q,
                     const Run& queries, const Tensor<const T, 4, memory_space>& k,
                     const Tensor<const T, 4, memory_space>& v, const Run& keys,
                     const SoftmaxState<float, memory_space>& state, Phase phase, const Tensor<T, 4, memory_space>& out,
                     const Tensor<float, 3, memory_space>& lse) const {
    if (fold_rows(exec, problem, shape, q, queries, k, v, keys, state, phase, out, lse)) return;
    throw error("mma_kernel could not be launched: the device has not the shared memory");
  }

  /// out = acc / l, rounded once; lse = m + ln l in natural units, both with the sink.
  template <ProblemType P>
  void finish(const Exec& exec, const P& problem, const SoftmaxState<float, memory_space>& state,
              const Tensor<T, 4, memory_space>& out, const Tensor<float, 3, memory_space>& lse) const {
    portable_.finish(exec, problem, state, out, lse);
  }

  /// delta[b, h, i] = Σ over d of out · grad_out.
  void delta(const Exec& exec, const Tensor<const T, 4, memory_space>& out,
             const Tensor<const T, 4, memory_space>& grad_out, const Tensor<float, 3, memory_space>& delta) const {
    portable_.delta(exec, out, grad_out, delta);
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
    const portable::GradientInput<T, float, Exec, P> input{
        problem, shape, q, grad_out, lse, delta, queries, portable::Wire<T>::of(wire, shape, keys), keys};
    const auto with = [&]<int Dim>(std::integral_constant<int, Dim>) {
      using ForQueries = mma::QueryGradient<T, Dim, Exec, Play, P>;
      using ForKeys = mma::KeyValueGradient<T, Dim, Exec, Play, P>;
      const auto blocks = [](const Run& run, int rows) { return (run.count + rows - 1) / rows; };
      return launch("rondo::grad_q", exec, blocks(queries, ForQueries::block_rows) * shape.batch * shape.heads,
                    ForQueries{input, grad_q}) &&
             launch("rondo::grad_kv", exec, blocks(keys, ForKeys::block_rows) * shape.batch * shape.kv_heads,
                    ForKeys{input, grad_k, grad_v});
    };
    const bool learned = LearnedScore<typename P::score_type> && parameter_sums != nullptr;
    if (learned || !tensor_core::for_padded_head_dim(shape, with)) {
      portable_.fold_gradient(exec, problem, shape, q, grad_out, lse, delta, queries, wire, keys, grad_q, grad_k,
                              grad_v, parameter_sums);
    }
  }

 private:
  template <ProblemType P>
  bool fold_packed(const Exec& exec, const P& problem, const Shape& shape, const Tensor<const T, 4, memory_space>& q,
                   const Run& queries, const WireView<memory_space>& wire, const Run& keys,
                   const SoftmaxState<float, memory_space>& state, Phase phase, const Tensor<T, 4, memory_space>& out,
                   const Tensor<float, 3, memory_space>& lse) const {
    const auto packed = portable::Wire<T>::of(wire, shape, keys);
    return fold_rows(exec, problem, shape, q, queries, portable::keys_of<memory_space>(packed),
                     portable::values_of<memory_space>(packed), keys, state, phase, out, lse);
  }

  /// False where this kernel does not do it.
  template <ProblemType P>
  bool fold_rows(const Exec& exec, const P& problem, const Shape& shape, const Tensor<const T, 4, memory_space>& q,
                 const Run& queries, const Tensor<const T, 4, memory_space>& k,
                 const Tensor<const T, 4, memory_space>& v, const Run& keys,
                 const SoftmaxState<float, memory_space>& state, Phase phase, const Tensor<T, 4, memory_space>& out,
                 const Tensor<float, 3, memory_space>& lse) const {
    return tensor_core::for_padded_head_dim(shape, [&]<int Dim>(std::integral_constant<int, Dim>) {
      using Fold = mma::ForwardFold<T, Dim, Exec, Play, P>;
      const int blocks = (queries.count + Fold::block_rows - 1) / Fold::block_rows;
      return launch("rondo::fold", exec, blocks * shape.batch * shape.heads,
                    Fold{problem, shape, q, queries, k, v, keys, state, phase, out, lse, base2_of<float>(problem)});
    });
  }

  /// Runs the functor on a league of teams; false if the device has not the shared memory for it.
  template <class Functor>
  static bool launch(const char* name, const Exec& exec, int league, const Functor& functor) {
    constexpr int bytes = static_cast<int>(sizeof(T)) * Functor::shared_elements;
    return league == 0 || Play::launch(name, exec, league, bytes, functor);
  }

  portable_kernel<T, Exec> portable_;
};

#ifdef KOKKOS_ENABLE_CUDA
static_assert(BlockKernel<mma_kernel<bfloat16, Kokkos::Cuda>> && BlockKernel<mma_kernel<float16, Kokkos::Cuda>>);
#endif

}  // namespace rondo
