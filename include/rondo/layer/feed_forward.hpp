/// \file
/// The feed-forward layer, computed in blocks of tokens so that its hidden activation never exists whole
/// (Liu & Abbeel, Blockwise Parallel Transformer, arXiv 2305.19370).
#pragma once

#include <rondo/layer/activation.hpp>
#include <rondo/layer/host_buffer.hpp>
#include <rondo/layer/host_tensor.hpp>
#include <rondo/layer/matrix.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace rondo {

/// The weights of a feed-forward layer, or their gradients. No biases.
template <class T>
struct FeedForwardWeights {
  HostTensor<T, 2> up;    ///< [dim, hidden]
  HostTensor<T, 2> gate;  ///< [dim, hidden]; left empty for an activation without a gate
  HostTensor<T, 2> down;  ///< [hidden, dim]

  /// The same weights, to read only.
  operator FeedForwardWeights<const T>() const requires(!std::is_const_v<T>) { return {up, gate, down}; }
};

/// Without a gate: out = f(x·up)·down. With a gate: out = (f(x·gate) ∘ (x·up))·down. f is the activation.
///
/// The hidden activation exists for `block_tokens` tokens at a time and is computed again in the backward pass, so that
/// nothing needs to be kept between the two but x. An object owns its workspace and serves one thread; matrix products
/// run on the calling thread.
template <Real T, Activation<T> A = swiglu>
class feed_forward {
 public:
  using value_type = T;
  using activation_type = A;
  using Weights = FeedForwardWeights<const T>;
  using Gradients = FeedForwardWeights<T>;

  /// \param dim           width of x and out
  /// \param hidden        width of the hidden activation
  /// \param block_tokens  tokens whose hidden activation exists at a time
  /// \throws argument_error for a size below 1
  feed_forward(std::int64_t dim, std::int64_t hidden, std::int64_t block_tokens = 256, A activation = {})
      : dim_(checked("dim", dim)),
        hidden_(checked("hidden", hidden)),
        block_tokens_(checked("block_tokens", block_tokens)),
        activation_(activation),
        up_("rondo::feed_forward::up", block_tokens * hidden),
        gate_("rondo::feed_forward::gate", A::gated ? block_tokens * hidden : 0),
        grad_("rondo::feed_forward::grad", block_tokens * hidden) {}

  /// Bytes that the layer owns: (A::gated ? 3 : 2) · block_tokens · hidden · sizeof(T), for any number of tokens.
  std::size_t workspace_bytes() const { return up_.bytes() + gate_.bytes() + grad_.bytes(); }

  /// \param x    [tokens, dim]
  /// \param out  [tokens, dim], overwritten; must not share memory with x
  /// \throws shape_error, argument_error  before anything is written
  void forward(const HostTensor<const T, 2>& x, const Weights& weights, const HostTensor<T, 2>& out) {
    const auto tokens = static_cast<std::int64_t>(x.extent(0));
    detail::check_matrix("feed_forward: x", "[tokens, dim]", x, tokens, dim_);
    detail::check_matrix("feed_forward: out", "[tokens, dim]", out, tokens, dim_);
    check(weight_names, weights);
    detail::check_apart("feed_forward: out", out, "x", x);
    for_each_block(tokens, [&](std::int64_t first, std::int64_t count) {
      hidden_products(x, weights, first, count);
      activate(count);
      detail::matrix_rows(out, first, count).noalias() = block(up_, count) * detail::matrix(weights.down);
    });
  }

  /// Gradients of a loss whose gradient with respect to `out` is `grad_out`.
  /// \param x             [tokens, dim], as given to forward
  /// \param grad_out      [tokens, dim]
  /// \param grad_x        [tokens, dim], overwritten; must not share memory with x or grad_out
  /// \param grad_weights  shapes of the weights; the gradients are ADDED to what is there
  /// \throws shape_error, argument_error  before anything is written
  void backward(const HostTensor<const T, 2>& x, const Weights& weights, const HostTensor<const T, 2>& grad_out,
                const HostTensor<T, 2>& grad_x, const Gradients& grad_weights) {
    const auto tokens = static_cast<std::int64_t>(x.extent(0));
    detail::check_matrix("feed_forward: x", "[tokens, dim]", x, tokens, dim_);
    detail::check_matrix("feed_forward: grad_out", "[tokens, dim]", grad_out, tokens, dim_);
    detail::check_matrix("feed_forward: grad_x", "[tokens, dim]", grad_x, tokens, dim_);
    check(weight_names, weights);
    check(gradient_names, grad_weights);
    detail::check_apart("feed_forward: grad_x", grad_x, "x", x);
    detail::check_apart("feed_forward: grad_x", grad_x, "grad_out", grad_out);
    for_each_block(tokens, [&](std::int64_t first, std::int64_t count) {
      const auto x_rows = detail::matrix_rows(x, first, count);
      const auto grad_rows = detail::matrix_rows(grad_out, first, count);
      auto grad_x_rows = detail::matrix_rows(grad_x, first, count);
      hidden_products(x, weights, first, count);
      block(grad_, count).noalias() = grad_rows * detail::matrix(weights.down).transpose();
      differentiate(count);
      if constexpr (A::gated) {  // the buffers now hold up: grad of x·up; gate: grad of x·gate; grad: the activation
        detail::matrix(grad_weights.down).noalias() += block(grad_, count).transpose() * grad_rows;
        detail::matrix(grad_weights.up).noalias() += x_rows.transpose() * block(up_, count);
        detail::matrix(grad_weights.gate).noalias() += x_rows.transpose() * block(gate_, count);
        grad_x_rows.noalias() = block(up_, count) * detail::matrix(weights.up).transpose();
        grad_x_rows.noalias() += block(gate_, count) * detail::matrix(weights.gate).transpose();
      } else {  // up: the activation; grad: grad of x·up
        detail::matrix(grad_weights.down).noalias() += block(up_, count).transpose() * grad_rows;
        detail::matrix(grad_weights.up).noalias() += x_rows.transpose() * block(grad_, count);
        grad_x_rows.noalias() = block(grad_, count) * detail::matrix(weights.up).transpose();
      }
    });
  }

 private:
  static std::int64_t checked(const char* name, std::int64_t value) {
    detail::check_positive("feed_forward", name, value);
    return value;
  }

  struct Names {
    const char* up;
    const char* gate;
    const char* down;
  };
  static constexpr Names weight_names{"feed_forward: up", "feed_forward: gate", "feed_forward: down"};
  static constexpr Names gradient_names{"feed_forward: grad_up", "feed_forward: grad_gate", "feed_forward: grad_down"};

  void check(const Names& names, const Weights& weights) const {
    detail::check_matrix(names.up, "[dim, hidden]", weights.up, dim_, hidden_);
    detail::check_matrix(names.down, "[hidden, dim]", weights.down, hidden_, dim_);
    if constexpr (A::gated) {
      detail::check_matrix(names.gate, "[dim, hidden]", weights.gate, dim_, hidden_);
    } else if (weights.gate.size() != 0) {
      throw shape_error(detail::message(names.gate, " has shape ", detail::shape_text(detail::extents_of(weights.gate)),
                                        ", but this activation has no gate: leave it empty"));
    }
  }

  template <class F>
  void for_each_block(std::int64_t tokens, F&& f) const {
    for (std::int64_t first = 0; first < tokens; first += block_tokens_) {
      f(first, std::min(block_tokens_, tokens - first));
    }
  }

  detail::MatrixMap<T> block(const detail::HostBuffer<T>& buffer, std::int64_t count) const {
    return detail::matrix(buffer.data(), count, hidden_);
  }

  void hidden_products(const HostTensor<const T, 2>& x, const Weights& weights, std::int64_t first,
                       std::int64_t count) {
    const auto x_rows = detail::matrix_rows(x, first, count);
    block(up_, count).noalias() = x_rows * detail::matrix(weights.up);
    if constexpr (A::gated) block(gate_, count).noalias() = x_rows * detail::matrix(weights.gate);
  }

  /// up becomes the hidden activation.
  void activate(std::int64_t count) {
    const A activation = activation_;
    T* up = up_.data();
    const T* gate = gate_.data();
    for (std::int64_t i = 0; i < count * hidden_; ++i) {
      if constexpr (A::gated) {
        up[i] *= activation.value(gate[i]);
      } else {
        up[i] = activation.value(up[i]);
      }
    }
  }

  /// From x·up (and x·gate) and the gradient of the hidden activation to the activation and the products' gradients;
  /// which buffer then holds which is said in backward.
  void differentiate(std::int64_t count) {
    const A activation = activation_;
    T* up = up_.data();
    T* gate = gate_.data();
    T* grad = grad_.data();
    for (std::int64_t i = 0; i < count * hidden_; ++i) {
      const T source = A::gated ? gate[i] : up[i];
      const T value = activation.value(source);
      const T derivative = activation.derivative(source);
      if constexpr (A::gated) {
        const T product = up[i];
        up[i] = grad[i] * value;
        gate[i] = grad[i] * product * derivative;
        grad[i] = product * value;
      } else {
        up[i] = value;
        grad[i] *= derivative;
      }
    }
  }

  std::int64_t dim_;
  std::int64_t hidden_;
  std::int64_t block_tokens_;
  A activation_;
  detail::HostBuffer<T> up_;
  detail::HostBuffer<T> gate_;
  detail::HostBuffer<T> grad_;
};

}  // namespace rondo
