/// \file
/// The calls of a BlockKernel by the passes on tensor cores, whoever's instructions they are made of.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/portable/portable.hpp>
#include <rondo/kernel/tensor_core/forward.hpp>
#include <rondo/kernel/tensor_core/gradient.hpp>
#include <rondo/launch.hpp>

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace rondo::tensor_core {

/// Blockwise attention in products of small matrices, inside a Kokkos TeamPolicy on the instance that it is given.
///
/// A head_dim up to 128 is computed with the next multiple of 64; larger ones, and values of another one, are
/// portable_kernel's, whose wire this one shares. So are the parameters of learned scores. Probabilities and the gradients
/// of scores are rounded to T before they are multiplied: in float16 the latter have to stay below 65504, which a scaled
/// loss has to see to.
/// \tparam Model  whose instructions, and which lane holds what: mfma::Model
/// \tparam T      bfloat16 or float16; sums, and the state from hop to hop, are float
/// \tparam Play   who plays the warps: on_device. The tests have a host do it
template <class Model, Element T, class Exec, class Play>
class Kernel {
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
    const auto with = [&]<int Dim>(std::integral_constant<int, Dim>) {
      using Fold = ForwardFold<Model, T, Dim, Exec, Play, P>;
      const int blocks = (queries.count + Fold::block_rows - 1) / Fold::block_rows;
      return launch(
          "rondo::fold", exec, blocks * shape.batch * shape.heads,
          Fold{problem, shape, q, queries, portable::Wire<T>::of(wire, shape, keys), keys, state, phase.first});
    };
    if (!tensor_core::for_padded_head_dim(shape, with)) {
      portable_.fold(exec, problem, shape, q, queries, wire, keys, state, phase);
    }
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
    [[maybe_unused]] const portable::GradientInput<T, float, Exec, P> input{
        problem, shape, q, grad_out, lse, delta, queries, portable::Wire<T>::of(wire, shape, keys), keys};
    [[maybe_unused]] const auto with = [&]<int Dim>(std::integral_constant<int, Dim>) {
      using ForQueries = QueryGradient<Model, T, Dim, Exec, Play, P>;
      using ForKeys = KeyValueGradient<Model, T, Dim, Exec, Play, P>;
      if (!fits<ForQueries>() || !fits<ForKeys>()) return false;
      const auto blocks = [](const Run& run, int rows) { return (run.count + rows - 1) / rows; };
      return launch("rondo::grad_q", exec, blocks(queries, ForQueries::block_rows) * shape.batch * shape.heads,
                    ForQueries{input, grad_q}) &&
             launch("rondo::grad_kv", exec, blocks(keys, ForKeys::block_rows) * shape.batch * shape.kv_heads,
                    ForKeys{input, grad_k, grad_v});
    };
    [[maybe_unused]] const bool learned = LearnedScore<typename P::score_type> && parameter_sums != nullptr;
    if constexpr (Model::template has_gradient<T>) {
      if (!learned && tensor_core::for_padded_head_dim(shape, with)) return;
    }
    portable_.fold_gradient(exec, problem, shape, q, grad_out, lse, delta, queries, wire, keys, grad_q, grad_k, grad_v,
                            parameter_sums);
  }

 private:
  template <class Functor>
  using Policy = Kokkos::TeamPolicy<Exec, Kokkos::LaunchBounds<Functor::threads, Functor::Block::teams_together>>;

  /// Two bytes an element, and room to align the first.
  template <class Functor>
  static constexpr int scratch_bytes = static_cast<int>(sizeof(T)) * Functor::shared_elements + 16;

  /// Whether the device has the shared memory for it.
  template <class Functor>
  static bool fits() {
    return scratch_bytes<Functor> <= Policy<Functor>::scratch_size_max(Play::scratch_level);
  }

  /// Runs the functor on a league of teams; false if it does not fit.
  template <class Functor>
  static bool launch(const char* name, const Exec& exec, int league, const Functor& functor) {
    if (league == 0) return true;
    if (!fits<Functor>()) return false;
    Policy<Functor> policy(exec, league, Play::team_size(Functor::threads), 1);
    policy.set_scratch_size(Play::scratch_level, Kokkos::PerTeam(scratch_bytes<Functor>));
    Kokkos::parallel_for(name, detail::with_arguments(policy), functor);
    return true;
  }

  portable_kernel<T, Exec> portable_;
};

}  // namespace rondo::tensor_core
