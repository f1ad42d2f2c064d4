/// \file
/// A model with its weights, gradient and optimiser: one call makes one step.
#pragma once

#include "adamw.hpp"
#include "model.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

namespace train {

/// What a training run computes. The same values give the same curve; ranks and sharding do not belong here.
struct Recipe {
  ModelShape model;
  AdamWOptions optimiser;
  std::int64_t context = 8192;
  std::int64_t steps = 100;
  std::uint64_t seed = 1;
};

/// One rank's part of a run.
template <rondo::Communicator Comm, rondo::Sharding ShardingT,
          rondo::BlockKernel Kernel = rondo::default_kernel<float, typename Comm::execution_space>>
class Trainer {
 public:
  using T = typename Kernel::value_type;

  Trainer(Comm& comm, const Recipe& recipe, const ShardingT& sharding, const Kernel& kernel = {},
          const rondo::Options& options = {})
      : comm_(comm),
        recipe_(recipe),
        layout_(recipe.model),
        model_(comm, recipe.model, sharding, kernel, options),
        weights_(make_flat<T>("train::weights", layout_.size())),
        gradient_(make_flat<T>("train::gradient", layout_.size())),
        optimiser_(layout_, recipe.optimiser) {
    initialise(layout_, recipe.seed, weights_.data());
  }

  const ParameterLayout& layout() const { return layout_; }
  const Flat<T>& weights() const { return weights_; }
  const Flat<T>& gradient() const { return gradient_; }
  /// What a checkpoint holds: the weights and the optimiser's two moments.
  std::array<Flat<T>, 3> state() const { return {weights_, optimiser_.first_moment(), optimiser_.second_moment()}; }
  const rondo::Statistics& attention_statistics() const { return model_.attention().statistics(); }

  /// Steps made, those before a resumed checkpoint included.
  std::int64_t steps_done() const { return steps_done_; }
  void set_steps_done(std::int64_t steps) { steps_done_ = steps; }

  /// The loss on a window without learning from it, under another mask if one is given.
  template <rondo::Mask MaskT = rondo::causal>
  double loss(Window window, const MaskT& mask = {}) {
    return model_.loss(bind<const T>(layout_, weights_.data()), window, mask);
  }

  /// The loss on a window, and its gradient, summed over the ranks in their order, in gradient().
  double loss_and_gradient(Window window) {
    std::fill_n(gradient_.data(), gradient_.size(), T{0});
    const double loss =
        model_.loss_and_gradient(bind<const T>(layout_, weights_.data()), window, bind<T>(layout_, gradient_.data()));
    comm_.all_reduce(std::span{gradient_.data(), gradient_.size()}, rondo::Reduction::sum);
    return loss;
  }

  /// Learns from a window. \return the loss on it before
  double step(Window window) {
    const double loss = loss_and_gradient(window);
    optimiser_.step(steps_done_++, recipe_.steps, weights_, gradient_);
    return loss;
  }

 private:
  Comm& comm_;
  Recipe recipe_;
  ParameterLayout layout_;
  Model<Comm, ShardingT, Kernel> model_;
  Flat<T> weights_;
  Flat<T> gradient_;
  AdamW<T> optimiser_;
  std::int64_t steps_done_ = 0;
};

}  // namespace train
