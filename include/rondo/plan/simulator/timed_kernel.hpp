/// \file
/// A kernel that computes nothing and keeps the time of all ranks at once.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/plan/simulator/clocks.hpp>
#include <rondo/plan/simulator/step_work.hpp>
#include <rondo/precision.hpp>

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace rondo::plan {

/// What computing takes.
struct KernelTime {
  double forward_pair_seconds = 0;  ///< a query and a key, over all heads
  double backward_pair_seconds = 0;
  double step_seconds = 0;   ///< of a step, whatever is in it
  int backward_tensors = 2;  ///< Attention::backward_tensors
};

/// Sees one element of the keys' width: memory is small, and messages are measured in that.
template <StorageType T>
class timed_kernel {
 public:
  using value_type = T;
  using accumulate_type = accumulate_t<T>;
  using execution_space = Kokkos::DefaultHostExecutionSpace;
  using memory_space = execution_space::memory_space;
  using A = accumulate_type;
  static constexpr std::uint32_t wire_format = 0;

  timed_kernel(std::shared_ptr<Clocks> clocks, std::shared_ptr<const StepWork> work, const KernelTime& time)
      : clocks_(std::move(clocks)), work_(std::move(work)), time_(time) {}

  std::size_t wire_bytes(Pass pass, const Shape& /*shape*/, std::int64_t tokens) const {
    const int tensors = pass == Pass::forward ? 2 : time_.backward_tensors;
    return static_cast<std::size_t>(tensors) * sizeof(T) * static_cast<std::size_t>(tokens);
  }
  void pack(const execution_space&, Pass, const Shape&, const Tensor<const T, 4, memory_space>&,
            const Tensor<const T, 4, memory_space>&, const WireView<memory_space>&) const {}
  template <ProblemType P>
  void fold(const execution_space&, const P& problem, const Shape&, const Tensor<const T, 4, memory_space>&,
            const Run& queries, const WireView<memory_space>&, const Run& keys, const SoftmaxState<A, memory_space>&,
            Phase) const {
    compute(problem, queries, keys, time_.forward_pair_seconds);
  }
  template <ProblemType P>
  void finish(const execution_space&, const P&, const SoftmaxState<A, memory_space>&, const Tensor<T, 4, memory_space>&,
              const Tensor<A, 3, memory_space>&) const {}
  void delta(const execution_space&, const Tensor<const T, 4, memory_space>&, const Tensor<const T, 4, memory_space>&,
             const Tensor<A, 3, memory_space>&) const {}
  template <ProblemType P>
  void fold_gradient(const execution_space&, const P& problem, const Shape&, const Tensor<const T, 4, memory_space>&,
                     const Tensor<const T, 4, memory_space>&, const Tensor<const A, 3, memory_space>&,
                     const Tensor<const A, 3, memory_space>&, const Run& queries, const WireView<memory_space>&,
                     const Run& keys, const Tensor<A, 4, memory_space>&, const Tensor<A, 4, memory_space>&,
                     const Tensor<A, 4, memory_space>&, double* /*parameter_sums*/) const {
    compute(problem, queries, keys, time_.backward_pair_seconds);
  }

 private:
  template <ProblemType P>
  void compute(const P& problem, const Run& queries, const Run& keys, double pair_seconds) const {
    // A step may come in several calls, each with a part of rank 0's queries.
    const double share = static_cast<double>(queries.count) / static_cast<double>(work_->table().tokens(0));
    work_->for_ranks(problem.mask, clocks_->hop, keys, [&](int first, int last, double pairs, double part) {
      clocks_->compute(first, last, share * (pairs * pair_seconds + part * time_.step_seconds));
    });
  }

  std::shared_ptr<Clocks> clocks_;
  std::shared_ptr<const StepWork> work_;
  KernelTime time_;
};

static_assert(BlockKernel<timed_kernel<float>>);

}  // namespace rondo::plan
