/// \file
/// The portable BlockKernel: one Kokkos source, correct on every backend, against which faster kernels are tested.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/portable/forward.hpp>
#include <rondo/kernel/portable/gradient.hpp>
#include <rondo/launch.hpp>

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>

namespace rondo {

/// Blockwise attention in plain Kokkos (TeamPolicy), for any head_dim, grouped queries and every mask.
/// \tparam T     storage type: float, double, bfloat16 or float16; sums are held in accumulate_t<T>
/// \tparam Exec  the execution space whose instances the calls are given
template <StorageType T, class Exec = Kokkos::DefaultExecutionSpace>
class portable_kernel {
 public:
  using value_type = T;
  using accumulate_type = accumulate_t<T>;
  using execution_space = Exec;
  using memory_space = typename Exec::memory_space;
  static constexpr std::uint32_t wire_format = 1;

  /// Bytes of a packed piece: its keys and its values, as they are.
  std::size_t wire_bytes(Pass /*pass*/, const Shape& shape, std::int64_t tokens) const {
    return sizeof(T) * static_cast<std::size_t>(tokens) * static_cast<std::size_t>(shape.batch) *
           static_cast<std::size_t>(shape.kv_heads) * static_cast<std::size_t>(shape.head_dim + shape.value_dim);
  }

  /// \param k  [batch, tokens, kv_heads, head_dim]
  /// \param v  [batch, tokens, kv_heads, value_dim]
  void pack(const Exec& exec, Pass /*pass*/, const Shape& shape, const Tensor<const T, 4, memory_space>& k,
            const Tensor<const T, 4, memory_space>& v, const WireView<memory_space>& wire) const {
    const std::int64_t tokens = static_cast<std::int64_t>(k.extent(1));
    using Packed = Kokkos::View<T****, Kokkos::LayoutRight, memory_space, Kokkos::MemoryTraits<Kokkos::Unmanaged>>;
    T* data = reinterpret_cast<T*>(wire.data());
    const Packed keys(data, shape.batch, shape.kv_heads, tokens, shape.head_dim);
    const Packed values(data + keys.size(), shape.batch, shape.kv_heads, tokens, shape.value_dim);
    const int head_dim = shape.head_dim, value_dim = shape.value_dim;
    detail::for_rows(
        "rondo::pack", exec, shape.batch, shape.kv_heads, tokens, head_dim,
        KOKKOS_LAMBDA(const detail::Row<Exec>& row, std::int64_t b, std::int64_t head, std::int64_t token) {
          detail::Eight<T> some;
          row.each_eight(head_dim, [&](int d, int count) {
            some.read(&k(b, token, head, d), k.stride(3), count);
            some.write(&keys(b, head, token, d), 1, count);
          });
          row.each_eight(value_dim, [&](int d, int count) {
            some.read(&v(b, token, head, d), v.stride(3), count);
            some.write(&values(b, head, token, d), 1, count);
          });
        });
  }

  /// Folds a piece into the state of the query rows `queries`.
  /// \param q  [batch, queries.count, heads, head_dim]; `state` has the same rows
  template <ProblemType P>
  void fold(const Exec& exec, const P& problem, const Shape& shape, const Tensor<const T, 4, memory_space>& q,
            const Run& queries, const WireView<memory_space>& wire, const Run& keys,
            const SoftmaxState<accumulate_type, memory_space>& state, Phase phase) const {
    using Fold = portable::ForwardFold<T, accumulate_type, Exec, P>;
    launch<Fold>("rondo::fold", exec, shape, blocks(queries) * shape.batch * shape.heads, [&](int level) {
      return Fold{problem, shape, q,           queries, portable::Wire<T>::of(wire, shape, keys),
                  keys,    state, phase.first, level};
    });
  }

  /// out = acc / l, rounded once; lse = m + ln l in natural units, both with the sink. Rows that saw no key and have none: 0
  /// and -inf.
  template <ProblemType P>
  void finish(const Exec& exec, const P& problem, const SoftmaxState<accumulate_type, memory_space>& state,
              const Tensor<T, 4, memory_space>& out, const Tensor<accumulate_type, 3, memory_space>& lse) const {
    using A = accumulate_type;
    const std::int64_t heads = static_cast<std::int64_t>(out.extent(2));
    const std::int64_t tokens = static_cast<std::int64_t>(out.extent(1));
    const int dim = static_cast<int>(out.extent(3));
    const Base2<A> base2 = base2_of<A>(problem);
    detail::for_rows(
        "rondo::finish", exec, static_cast<std::int64_t>(out.extent(0)), tokens, heads, dim,
        KOKKOS_LAMBDA(const detail::Row<Exec>& row, std::int64_t b, std::int64_t i, std::int64_t head) {
          const Finished<A> row_of =
              finished(problem, base2, static_cast<int>(head), state.m(b, head, i), state.l(b, head, i));
          const A divisor = row_of.divisor;
          row.each_eight(dim, [&](int d, int count) {
            detail::Eight<A> sums;
            sums.read(&state.acc(b, i, head, d), state.acc.stride(3), count);
            detail::Eight<T> results;
            for (int e = 0; e < count; ++e) {
              results.x[e] = static_cast<T>(divisor == A{0} ? A{0} : sums.x[e] / divisor);
            }
            results.write(&out(b, i, head, d), out.stride(3), count);
          });
          lse(b, head, i) = row_of.lse;
        });
  }

  /// delta[b, h, i] = Σ over d of out · grad_out.
  void delta(const Exec& exec, const Tensor<const T, 4, memory_space>& out,
             const Tensor<const T, 4, memory_space>& grad_out,
             const Tensor<accumulate_type, 3, memory_space>& delta) const {
    using A = accumulate_type;
    const std::int64_t heads = static_cast<std::int64_t>(out.extent(2));
    const std::int64_t tokens = static_cast<std::int64_t>(out.extent(1));
    const int dim = static_cast<int>(out.extent(3));
    detail::for_rows(
        "rondo::delta", exec, static_cast<std::int64_t>(out.extent(0)), tokens, heads, dim,
        KOKKOS_LAMBDA(const detail::Row<Exec>& row, std::int64_t b, std::int64_t i, std::int64_t head) {
          delta(b, head, i) = portable::row_product<Exec, A>(row, &out(b, i, head, 0), out.stride(3),
                                                             &grad_out(b, i, head, 0), grad_out.stride(3), dim);
        });
  }

  /// Adds what this pair of (queries, piece) contributes to the three gradients.
  /// \param grad_q          [batch, queries.count, heads, head_dim]
  /// \param grad_k          [batch, keys.count, kv_heads, head_dim]
  /// \param grad_v          [batch, keys.count, kv_heads, value_dim]
  /// \param parameter_sums  [heads, parameters_per_head] of a score function with parameters, or null
  template <ProblemType P>
  void fold_gradient(const Exec& exec, const P& problem, const Shape& shape, const Tensor<const T, 4, memory_space>& q,
                     const Tensor<const T, 4, memory_space>& grad_out,
                     const Tensor<const accumulate_type, 3, memory_space>& lse,
                     const Tensor<const accumulate_type, 3, memory_space>& delta, const Run& queries,
                     const WireView<memory_space>& wire, const Run& keys,
                     const Tensor<accumulate_type, 4, memory_space>& grad_q,
                     const Tensor<accumulate_type, 4, memory_space>& grad_k,
                     const Tensor<accumulate_type, 4, memory_space>& grad_v, double* parameter_sums = nullptr) const {
    using Input = portable::GradientInput<T, accumulate_type, Exec, P>;
    using ForQueries = portable::QueryGradient<T, accumulate_type, Exec, P>;
    using ForKeys = portable::KeyValueGradient<T, accumulate_type, Exec, P>;
    const Input input{problem, shape, q, grad_out, lse, delta, queries, portable::Wire<T>::of(wire, shape, keys), keys};
    const auto at_level = [&](int level) {
      Input copy = input;
      copy.level = level;
      return copy;
    };
    double* team_sums = nullptr;
    if constexpr (LearnedScore<typename P::score_type>) {
      if (parameter_sums != nullptr) team_sums = room_for_teams(exec, problem, shape, queries);
    }
    launch<ForQueries>("rondo::grad_q", exec, shape, blocks(queries) * shape.batch * shape.heads, [&](int level) {
      return ForQueries{at_level(level), grad_q, team_sums};
    });
    if constexpr (LearnedScore<typename P::score_type>) {
      if (parameter_sums != nullptr) {
        portable::add_teams(exec, shape, problem.score.parameters_per_head(), blocks(queries), team_sums,
                            parameter_sums);
      }
    }
    launch<ForKeys>("rondo::grad_kv", exec, shape, blocks(keys) * shape.batch * shape.kv_heads, [&](int level) {
      return ForKeys{at_level(level), grad_k, grad_v};
    });
  }

 private:
  /// Zeroed sums of every team of the gradient for queries, [teams, parameters_per_head].
  template <ProblemType P>
  double* room_for_teams(const Exec& exec, const P& problem, const Shape& shape, const Run& queries) const {
    const auto needed = static_cast<std::size_t>(blocks(queries)) *
                        static_cast<std::size_t>(shape.batch * shape.heads) *
                        static_cast<std::size_t>(problem.score.parameters_per_head());
    if (team_sums_.size() < needed) team_sums_ = Kokkos::View<double*, memory_space>("rondo::sums", needed);
    Kokkos::deep_copy(exec, team_sums_, 0.0);
    return team_sums_.data();
  }

  static int blocks(const Run& run) { return (run.count + portable::lanes - 1) / portable::lanes; }

  /// Runs the functor that make(level) returns on a league of teams, its scratch in the fastest memory that holds it.
  template <class Functor, class Make>
  static void launch(const char* name, const Exec& exec, const Shape& shape, int league, const Make& make) {
    if (league == 0) return;
    // A device's warp shares a team's lanes; on a host a team is one thread.
    Kokkos::TeamPolicy<Exec, Kokkos::Schedule<Kokkos::Dynamic>> policy(exec, league, 1, detail::is_host<Exec> ? 1 : 32);
    const auto bytes = static_cast<int>(portable::LaneScratch<accumulate_type>::bytes(Functor::scratch_rows(shape)));
    const int level = bytes <= Kokkos::TeamPolicy<Exec>::scratch_size_max(0) ? 0 : 1;
    policy.set_scratch_size(level, Kokkos::PerTeam(bytes));
    Kokkos::parallel_for(name, detail::with_arguments(policy), make(level));
  }

  mutable Kokkos::View<double*, memory_space> team_sums_;  ///< grows with what is asked for
};

static_assert(BlockKernel<portable_kernel<float>> && BlockKernel<portable_kernel<double>> &&
              BlockKernel<portable_kernel<bfloat16>> && BlockKernel<portable_kernel<float16>>);

}  // namespace rondo
