/// \file
/// A model with its weights, gradient and optimiser: one call makes one step.
#pragma once

#include "adamw.hpp"
#include "mesh.hpp"
#include "model.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace train {

/// What a training run computes. The same values give the same curve; ranks and sharding do not belong here.
struct Recipe {
  ModelShape model;
  AdamWOptions optimiser;
  std::int64_t context = 8192;
  std::int64_t batch = 1;  ///< windows a step
  std::int64_t steps = 100;
  std::uint64_t seed = 1;
};

/// One rank's part of a run.
template <rondo::Communicator Comm,
          rondo::BlockKernel Kernel = rondo::default_kernel<float, typename Comm::execution_space>>
class Trainer {
 public:
  using T = typename Kernel::value_type;

  /// One ring of all ranks.
  Trainer(Comm& comm, const Recipe& recipe, const rondo::any_sharding& sharding, const Kernel& kernel = {},
          const rondo::Options& options = {}, Recompute recompute = Recompute::nothing)
      : Trainer(comm, comm, 1, 0, recipe, sharding, kernel, options, recompute) {}

  /// Rings side by side. The mesh has to outlive the trainer.
  Trainer(Mesh<Comm>& mesh, const Recipe& recipe, const rondo::any_sharding& sharding, const Kernel& kernel = {},
          const rondo::Options& options = {}, Recompute recompute = Recompute::nothing)
      : Trainer(mesh.whole, mesh.ring, mesh.replicas, mesh.replica, recipe, sharding, kernel, options, recompute) {}

  const ParameterLayout& layout() const { return layout_; }
  const Flat<T>& weights() const { return weights_; }
  const Flat<T>& gradient() const { return gradient_; }
  /// What a checkpoint holds: the weights and the optimiser's two moments.
  std::array<Flat<T>, 3> state() const { return {weights_, optimiser_.first_moment(), optimiser_.second_moment()}; }
  const rondo::Statistics& attention_statistics() const { return model_.attention().statistics(); }
  const rondo::WorkspaceBytes& attention_workspace() const { return model_.attention().workspace(); }

  /// Steps made, those before a resumed checkpoint included.
  std::int64_t steps_done() const { return steps_done_; }
  void set_steps_done(std::int64_t steps) { steps_done_ = steps; }

  /// The loss on a window without learning from it, under another mask if one is given.
  template <rondo::Mask MaskT = rondo::causal>
  double loss(Window window, const MaskT& mask = {}) {
    return model_.loss(bind<const T>(layout_, weights_.data()), window, mask);
  }

  /// The mean loss on windows, the same on all ranks, and its gradient, summed over the ranks in their order, in
  /// gradient(). Ring r of n takes the windows r, r + n, ...
  double loss_and_gradient(std::span<const Window> windows) {
    std::fill_n(gradient_.data(), gradient_.size(), T{0});
    const auto weights = bind<const T>(layout_, weights_.data());
    const auto gradient = bind<T>(layout_, gradient_.data());
    const double weight = 1 / static_cast<double>(windows.size());
    double loss = 0;
    for (std::size_t i = replica_; i < windows.size(); i += replicas_) {
      loss += weight * model_.loss_and_gradient(weights, windows[i], gradient, weight);
    }
    whole_.all_reduce(std::span{gradient_.data(), gradient_.size()}, rondo::Reduction::sum);
    if (replicas_ == 1) return loss;
    if (ring_.rank() != 0) loss = 0;  // a ring's ranks all know its loss
    whole_.all_reduce(std::span{&loss, 1}, rondo::Reduction::sum);
    return loss;
  }
  double loss_and_gradient(Window window) { return loss_and_gradient(std::span{&window, 1}); }

  /// Learns from windows. \return their mean loss before
  double step(std::span<const Window> windows) {
    const double loss = loss_and_gradient(windows);
    optimiser_.step(steps_done_++, recipe_.steps, weights_, gradient_);
    return loss;
  }
  double step(Window window) { return step(std::span{&window, 1}); }

 private:
  Trainer(Comm& whole, Comm& ring, int replicas, int replica, const Recipe& recipe, const rondo::any_sharding& sharding,
          const Kernel& kernel, const rondo::Options& options, Recompute recompute)
      : whole_(whole),
        ring_(ring),
        replicas_(static_cast<std::size_t>(replicas)),
        replica_(static_cast<std::size_t>(replica)),
        recipe_(recipe),
        layout_(recipe.model),
        model_(ring, recipe.model, sharding, kernel, options, recompute),
        weights_(make_flat<T>("train::weights", layout_.size())),
        gradient_(make_flat<T>("train::gradient", layout_.size())),
        optimiser_(layout_, recipe.optimiser) {
    initialise(layout_, recipe.seed, weights_.data());
  }

  Comm& whole_;
  Comm& ring_;
  std::size_t replicas_;
  std::size_t replica_;
  Recipe recipe_;
  ParameterLayout layout_;
  Model<Comm, Kernel> model_;
  Flat<T> weights_;
  Flat<T> gradient_;
  AdamW<T> optimiser_;
  std::int64_t steps_done_ = 0;
};

}  // namespace train
