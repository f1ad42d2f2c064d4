/// \file
/// A decoder transformer over bytes whose context is spread over a ring of ranks: forward and backward on one rank's
/// tokens. Only attention and the sums at the end of a step talk to other ranks.
///
///   x = embedding[byte];  per block: x += attention(norm(x))·output;  x += feed_forward(norm(x));  loss(norm(x)·headᵀ)
/// Queries and keys have a bias, values have none.
#pragma once

#include "activations.hpp"
#include "eigen.hpp"
#include "parameters.hpp"

#include <rondo/layers.hpp>
#include <rondo/rondo.hpp>

#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

namespace train {

/// One rank's part of the model. Holds activations, no weights. \tparam Kernel says the number type: float or double.
template <rondo::Communicator Comm,
          rondo::BlockKernel Kernel = rondo::default_kernel<float, typename Comm::execution_space>>
class Model {
 public:
  using T = typename Kernel::value_type;
  using Weights = ModelParameters<const T>;
  using Gradient = ModelParameters<T>;
  static_assert(rondo::Real<T> && std::is_same_v<T, typename Kernel::accumulate_type>,
                "the layers compute in float or double, so the kernel must too");

  /// Every rank makes one with the same arguments. The context is the sharding's number of tokens.
  /// \param recompute  what is computed again in the backward pass instead of kept: to the same bits
  Model(Comm& comm, const ModelShape& shape, const rondo::any_sharding& sharding, const Kernel& kernel = {},
        const rondo::Options& options = {}, Recompute recompute = Recompute::nothing)
      : comm_(comm),
        shape_(shape),
        recompute_(recompute),
        attention_(comm,
                   rondo::Shape{.batch = 1,
                                .heads = shape.heads,
                                .kv_heads = shape.kv_heads,
                                .head_dim = static_cast<int>(shape.head_dim())},
                   sharding, kernel, options),
        norm_(shape.dim),
        rope_(attention_.shards(), comm.rank(), shape.head_dim()),
        feed_forward_(shape.dim, shape.hidden),
        cross_entropy_(shape.dim, ModelShape::vocabulary),
        scratch_(shape, attention_.tokens()),
        inputs_("train::inputs", static_cast<std::size_t>(attention_.tokens())),
        targets_("train::targets", static_cast<std::size_t>(attention_.tokens())) {
    blocks_.reserve(static_cast<std::size_t>(shape.layers));
    for (int layer = 0; layer < shape.layers; ++layer) {
      if (layer == 0) {
        blocks_.emplace_back(shape, attention_.tokens());
      } else {
        blocks_.emplace_back(shape, attention_.tokens(), recompute, blocks_.front());
      }
    }
  }

  const auto& attention() const { return attention_; }

  /// The loss over the whole context, in nats per byte, the same on all ranks.
  template <rondo::Mask MaskT = rondo::causal>
  double loss(const Weights& weights, Window window, const MaskT& mask = {}) {
    forward(weights, window, mask);
    norm_.forward(scratch_.last, weights.final_norm, scratch_.normed);
    return mean(cross_entropy_.forward(scratch_.normed, weights.head, targets_));
  }

  /// The loss, and this rank's part of `weight` times its gradient, added to `gradient`: the sum over the ranks is the
  /// whole.
  double loss_and_gradient(const Weights& weights, Window window, const Gradient& gradient, double weight = 1) {
    const rondo::causal mask;
    forward(weights, window, mask);
    norm_.forward(scratch_.last, weights.final_norm, scratch_.normed);
    const double scale = weight / static_cast<double>(attention_.shards().total_tokens());
    const rondo::LossSum losses =
        cross_entropy_.forward_backward(scratch_.normed, weights.head, targets_, scale, scratch_.grad, gradient.head);
    norm_.backward(scratch_.last, weights.final_norm, scratch_.grad, scratch_.grad, gradient.final_norm);
    for (std::size_t layer = blocks_.size(); layer-- > 0;) {
      if (layer + 1 < blocks_.size()) compute_again(blocks_[layer], weights.blocks[layer], mask);
      backward_feed_forward(blocks_[layer], weights.blocks[layer], gradient.blocks[layer]);
      backward_attention(blocks_[layer], weights.blocks[layer], gradient.blocks[layer], mask);
    }
    for (std::size_t token = 0; token < inputs_.size(); ++token) {
      matrix(gradient.embedding).row(inputs_(token)) += matrix(scratch_.grad).row(static_cast<Eigen::Index>(token));
    }
    return mean(losses);
  }

  /// After loss(): the logits of the byte that follows one of this rank's tokens.
  void logits(const Weights& weights, std::int64_t token, std::span<T> out) const {
    Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, 1>>(out.data(), static_cast<Eigen::Index>(out.size())).noalias() =
        matrix(weights.head) * matrix(scratch_.normed).row(token).transpose();
  }

 private:
  template <class MaskT>
  void forward(const Weights& weights, Window window, const MaskT& mask) {
    take_tokens(window);
    auto first = matrix(entering(0));
    for (std::size_t token = 0; token < inputs_.size(); ++token) {
      first.row(static_cast<Eigen::Index>(token)) = matrix(weights.embedding).row(inputs_(token));
    }
    for (std::size_t layer = 0; layer < blocks_.size(); ++layer) {
      forward_attention(blocks_[layer], weights.blocks[layer], mask);
      forward_feed_forward(blocks_[layer], weights.blocks[layer], entering(layer + 1));
    }
  }

  template <class MaskT>
  void forward_attention(const BlockActivations<T>& block, const BlockParameters<const T>& weights, const MaskT& mask) {
    project(block, weights);
    attention_.forward(heads(block.query), kv_heads(block.key), kv_heads(block.value), heads(block.attended), block.lse,
                       rondo::Problem{mask});
    add_attention(block, weights);
  }

  /// What the backward pass of a block needs and the blocks after it have overwritten.
  template <class MaskT>
  void compute_again(const BlockActivations<T>& block, const BlockParameters<const T>& weights, const MaskT& mask) {
    if (recompute_ == Recompute::layers) return forward_attention(block, weights, mask);
    if (recompute_ == Recompute::nothing) return;
    project(block, weights);
    add_attention(block, weights);
  }

  void project(const BlockActivations<T>& block, const BlockParameters<const T>& weights) {
    norm_.forward(block.x, weights.attention_norm, scratch_.normed);
    const auto normed = matrix(scratch_.normed);
    matrix(block.query).noalias() = normed * matrix(weights.query);
    matrix(block.key).noalias() = normed * matrix(weights.key);
    matrix(block.value).noalias() = normed * matrix(weights.value);
    matrix(block.query).rowwise() += row(weights.query_bias);
    matrix(block.key).rowwise() += row(weights.key_bias);
    rope_.forward(heads(block.query));
    rope_.forward(kv_heads(block.key));
  }

  void add_attention(const BlockActivations<T>& block, const BlockParameters<const T>& weights) {
    matrix(block.middle) = matrix(block.x);
    matrix(block.middle).noalias() += matrix(block.attended) * matrix(weights.output);
  }

  void forward_feed_forward(const BlockActivations<T>& block, const BlockParameters<const T>& weights,
                            const Matrix<T>& out) {
    norm_.forward(block.middle, weights.feed_forward_norm, scratch_.normed);
    feed_forward_.forward(scratch_.normed, weights.feed_forward, out);
    matrix(out) += matrix(block.middle);
  }

  /// scratch_.grad, the gradient of what leaves the block, becomes that of what enters its feed-forward.
  void backward_feed_forward(const BlockActivations<T>& block, const BlockParameters<const T>& weights,
                             const BlockParameters<T>& gradient) {
    norm_.forward(block.middle, weights.feed_forward_norm, scratch_.normed);
    feed_forward_.backward(scratch_.normed, weights.feed_forward, scratch_.grad, scratch_.grad_part,
                           gradient.feed_forward);
    norm_.backward(block.middle, weights.feed_forward_norm, scratch_.grad_part, scratch_.grad_part,
                   gradient.feed_forward_norm);
    matrix(scratch_.grad) += matrix(scratch_.grad_part);
  }

  /// scratch_.grad becomes the gradient of what enters the block.
  template <class MaskT>
  void backward_attention(const BlockActivations<T>& block, const BlockParameters<const T>& weights,
                          const BlockParameters<T>& gradient, const MaskT& mask) {
    const auto grad = matrix(scratch_.grad);
    matrix(gradient.output).noalias() += matrix(block.attended).transpose() * grad;
    matrix(scratch_.grad_part).noalias() = grad * matrix(weights.output).transpose();
    attention_.backward(heads(block.query), kv_heads(block.key), kv_heads(block.value), heads(block.attended),
                        block.lse, heads(scratch_.grad_part), heads(scratch_.grad_query), kv_heads(scratch_.grad_key),
                        kv_heads(scratch_.grad_value), rondo::Problem{mask});
    rope_.backward(heads(scratch_.grad_query));
    rope_.backward(kv_heads(scratch_.grad_key));

    norm_.forward(block.x, weights.attention_norm, scratch_.normed);
    const auto normed = matrix(scratch_.normed);
    matrix(gradient.query).noalias() += normed.transpose() * matrix(scratch_.grad_query);
    matrix(gradient.key).noalias() += normed.transpose() * matrix(scratch_.grad_key);
    matrix(gradient.value).noalias() += normed.transpose() * matrix(scratch_.grad_value);
    add_rows(scratch_.grad_query, gradient.query_bias);
    add_rows(scratch_.grad_key, gradient.key_bias);
    auto part = matrix(scratch_.grad_part);
    part.noalias() = matrix(scratch_.grad_query) * matrix(weights.query).transpose();
    part.noalias() += matrix(scratch_.grad_key) * matrix(weights.key).transpose();
    part.noalias() += matrix(scratch_.grad_value) * matrix(weights.value).transpose();
    norm_.backward(block.x, weights.attention_norm, scratch_.grad_part, scratch_.grad_part, gradient.attention_norm);
    matrix(scratch_.grad) += matrix(scratch_.grad_part);
  }

  /// This rank's bytes of the window, and the bytes that follow them.
  void take_tokens(Window window) {
    attention_.shards().for_each_token(comm_.rank(), [&](std::int64_t position, std::int64_t row) {
      inputs_(row) = window[static_cast<std::size_t>(position)];
      targets_(row) = window[static_cast<std::size_t>(position) + 1];
    });
  }

  double mean(const rondo::LossSum& losses) {
    double sum = losses.sum;
    comm_.all_reduce(std::span{&sum, 1}, rondo::Reduction::sum);
    return sum / static_cast<double>(attention_.shards().total_tokens());
  }

  /// What enters a block; for the last layer + 1, what leaves the model.
  const Matrix<T>& entering(std::size_t layer) const {
    return layer < blocks_.size() ? blocks_[layer].x : scratch_.last;
  }
  auto heads(const Matrix<T>& x) const { return as_heads(x, shape_.heads); }
  auto kv_heads(const Matrix<T>& x) const { return as_heads(x, shape_.kv_heads); }

  Comm& comm_;
  ModelShape shape_;
  Recompute recompute_;
  rondo::RingAttention<Comm, rondo::any_sharding, Kernel> attention_;
  rondo::rms_norm<T> norm_;
  rondo::rope<T> rope_;
  rondo::feed_forward<T> feed_forward_;
  rondo::cross_entropy<T> cross_entropy_;
  std::vector<BlockActivations<T>> blocks_;
  Scratch<T> scratch_;
  Kokkos::View<std::int32_t*, Kokkos::HostSpace> inputs_;
  Kokkos::View<std::int32_t*, Kokkos::HostSpace> targets_;
};

}  // namespace train
