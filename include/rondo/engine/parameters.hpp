/// \file
/// Gradients of what all ranks share: a score function's parameters and the sinks' logits. Summed up in double on every rank,
/// and over the ranks in their order.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/launch.hpp>
#include <rondo/problem.hpp>
#include <rondo/tensor.hpp>

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace rondo::detail {

/// gradient[i] = sums[i], rounded. (Of its own: nvcc takes no lambda for a device from a private function.)
template <class Exec, class A>
void round_sums(const Exec& exec, const double* sums, int count, A* gradient) {
  Kokkos::parallel_for(
      "rondo::sums", range(exec, count),
      KOKKOS_LAMBDA(std::int64_t index) { gradient[index] = static_cast<A>(sums[index]); });
}

/// One rank's sums. The memory grows with what is asked for and is kept for the next call.
template <class Exec>
class ParameterSums {
 public:
  using Space = typename Exec::memory_space;

  /// Zeroed sums for the score's parameters, [heads, parameters_per_head], or null where no gradient is wanted.
  template <ProblemType P>
  double* of_score(const Exec& exec, const P& problem, const Shape& shape) {
    if constexpr (LearnedScore<typename P::score_type>) {
      if (problem.score.gradient() == nullptr) return nullptr;
      reserve(static_cast<std::size_t>(shape.heads) * static_cast<std::size_t>(problem.score.parameters_per_head()));
      Kokkos::deep_copy(exec, sums_, 0.0);
      return sums_.data();
    } else {
      return nullptr;
    }
  }

  /// Adds up the score's sums over the ranks and writes the gradient.
  template <Communicator Comm, ProblemType P>
  void finish_score(const Exec& exec, Comm& comm, const P& problem, const Shape& shape) {
    if constexpr (LearnedScore<typename P::score_type>) {
      if (problem.score.gradient() == nullptr) return;
      write(exec, comm, shape.heads * problem.score.parameters_per_head(), problem.score.gradient());
    }
  }

  /// d loss / d logit = -Σ over a head's queries of e^(logit - lse) · delta, over all ranks. \param lse, delta  [batch, heads, sequence]
  template <Communicator Comm, ProblemType P, class Rows>
  void sinks(const Exec& exec, Comm& comm, const P& problem, const Shape& shape, const Rows& lse, const Rows& delta) {
    if constexpr (P::has_sink) {
      if (problem.sink.grad_logits == nullptr) return;
      reserve(static_cast<std::size_t>(shape.heads));
      double* const sums = sums_.data();
      const auto sink = problem.sink;
      const int batch = shape.batch;
      const auto tokens = static_cast<std::int64_t>(lse.extent(2));
      Kokkos::parallel_for(
          "rondo::sinks", range(exec, shape.heads), KOKKOS_LAMBDA(std::int64_t head) {
            double sum = 0;
            for (int b = 0; b < batch; ++b) {
              for (std::int64_t i = 0; i < tokens; ++i) {
                const double weight =
                    Kokkos::exp(static_cast<double>(sink.logits[head]) - static_cast<double>(lse(b, head, i)));
                sum -= weight * static_cast<double>(delta(b, head, i));
              }
            }
            sums[head] = sum;
          });
      write(exec, comm, shape.heads, problem.sink.grad_logits);
    }
  }

 private:
  void reserve(std::size_t count) {
    if (sums_.size() >= count) return;
    sums_ = Kokkos::View<double*, Space>("rondo::sums", count);
    host_ = Kokkos::create_mirror_view(sums_);
  }

  template <Communicator Comm, class A>
  void write(const Exec& exec, Comm& comm, int count, A* gradient) {
    Kokkos::deep_copy(exec, host_, sums_);
    fence(comm, exec, "rondo::sums");
    comm.all_reduce(std::span<double>(host_.data(), static_cast<std::size_t>(count)), Reduction::sum);
    Kokkos::deep_copy(exec, sums_, host_);
    round_sums(exec, sums_.data(), count, gradient);
  }

  Kokkos::View<double*, Space> sums_;
  decltype(Kokkos::create_mirror_view(Kokkos::View<double*, Space>())) host_;
};

}  // namespace rondo::detail
