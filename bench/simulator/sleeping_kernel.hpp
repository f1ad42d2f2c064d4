/// \file
/// A kernel that sleeps for as long as a processor of its own would compute: rings of more ranks than there are cores.
#pragma once

#include <rondo/kernel/concept.hpp>

#include <Kokkos_Core.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>

namespace bench {

class sleeping_kernel {
 public:
  using value_type = float;
  using accumulate_type = float;
  using execution_space = Kokkos::DefaultHostExecutionSpace;
  using memory_space = execution_space::memory_space;
  template <class T, int Rank>
  using Tensor = rondo::Tensor<T, Rank, memory_space>;
  using Wire = rondo::WireView<memory_space>;
  static constexpr std::uint32_t wire_format = 0;

  /// \param forward, backward  seconds of a query and a key
  sleeping_kernel(double forward, double backward) : forward_(forward), backward_(backward) {}

  std::size_t wire_bytes(rondo::Pass, const rondo::Shape& shape, std::int64_t tokens) const {
    return 2 * sizeof(float) * static_cast<std::size_t>(tokens) * static_cast<std::size_t>(shape.batch) *
           static_cast<std::size_t>(shape.kv_heads) * static_cast<std::size_t>(shape.head_dim);
  }
  void pack(const execution_space&, rondo::Pass, const rondo::Shape&, const Tensor<const float, 4>&,
            const Tensor<const float, 4>&, const Wire&) const {}
  template <rondo::ProblemType P>
  void fold(const execution_space&, const P& problem, const rondo::Shape&, const Tensor<const float, 4>&,
            const rondo::Run& queries, const Wire&, const rondo::Run& keys,
            const rondo::SoftmaxState<float, memory_space>&, rondo::Phase) const {
    sleep(forward_ * static_cast<double>(problem.mask.work(0, 0, queries, keys)));
  }
  template <rondo::ProblemType P>
  void finish(const execution_space&, const P&, const rondo::SoftmaxState<float, memory_space>&,
              const Tensor<float, 4>&, const Tensor<float, 3>&) const {}
  void delta(const execution_space&, const Tensor<const float, 4>&, const Tensor<const float, 4>&,
             const Tensor<float, 3>&) const {}
  template <rondo::ProblemType P>
  void fold_gradient(const execution_space&, const P& problem, const rondo::Shape&, const Tensor<const float, 4>&,
                     const Tensor<const float, 4>&, const Tensor<const float, 3>&, const Tensor<const float, 3>&,
                     const rondo::Run& queries, const Wire&, const rondo::Run& keys, const Tensor<float, 4>&,
                     const Tensor<float, 4>&, const Tensor<float, 4>&, double* /*parameter_sums*/) const {
    sleep(backward_ * static_cast<double>(problem.mask.work(0, 0, queries, keys)));
  }

 private:
  /// What one sleep takes too long the next leaves out.
  void sleep(double seconds) const {
    const auto begin = std::chrono::steady_clock::now();
    const double left = seconds - *debt_;
    if (left > 0) std::this_thread::sleep_for(std::chrono::duration<double>(left));
    *debt_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() - seconds;
  }

  double forward_;
  double backward_;
  std::shared_ptr<double> debt_ = std::make_shared<double>(0);
};

static_assert(rondo::BlockKernel<sleeping_kernel>);

}  // namespace bench
