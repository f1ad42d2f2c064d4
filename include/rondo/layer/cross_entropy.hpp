/// \file
/// The loss of a language model's head, computed in blocks of tokens and of vocabulary so that its logits never exist
/// whole.
#pragma once

#include <rondo/layer/host_buffer.hpp>
#include <rondo/layer/host_tensor.hpp>
#include <rondo/layer/matrix.hpp>
#include <rondo/layer/softmax_block.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace rondo {

/// Losses of one call, or of several added up.
struct LossSum {
  double sum = 0;          ///< nats, over the tokens counted
  std::int64_t count = 0;  ///< tokens with a target

  /// Nats per token; 0 for no tokens.
  double mean() const { return count == 0 ? 0 : sum / static_cast<double>(count); }

  LossSum& operator+=(const LossSum& other) {
    sum += other.sum;
    count += other.count;
    return *this;
  }
};

/// The loss of a token with hidden state x and target t is ln Σ_j e^(x·weight_j) - x·weight_t.
///
/// Logits exist for block_tokens × block_vocab at a time; the sum runs along with the largest logit seen (the online
/// softmax of Milakov & Gimelshein, arXiv 1805.02867) and in double. A token with a negative target is ignored: it adds
/// nothing, its gradient is 0 and its row of x is not read. Passes over the vocabulary are one product each: 1 for
/// forward; 4 for backward and forward_backward, 3 where one block holds the vocabulary.
/// An object owns its workspace and serves one thread; matrix products run on the calling thread.
template <Real T>
class cross_entropy {
 public:
  using value_type = T;
  using Targets = HostTensor<const std::int32_t, 1>;

  /// \param dim           width of the hidden states
  /// \param vocab         number of classes
  /// \param block_tokens  tokens whose logits exist at a time
  /// \param block_vocab   classes whose logits exist at a time; more than vocab means vocab
  /// \throws argument_error for a size below 1
  cross_entropy(std::int64_t dim, std::int64_t vocab, std::int64_t block_tokens = 256, std::int64_t block_vocab = 4096)
      : dim_(checked("dim", dim)),
        vocab_(checked("vocab", vocab)),
        block_tokens_(checked("block_tokens", block_tokens)),
        block_vocab_(std::min(checked("block_vocab", block_vocab), vocab)),
        rows_("rondo::cross_entropy::rows", block_tokens * dim),
        grad_rows_("rondo::cross_entropy::grad_rows", block_tokens * dim),
        tokens_("rondo::cross_entropy::tokens", block_tokens),
        softmax_(block_tokens, block_vocab_) {}

  /// Bytes that the layer owns, for any number of tokens:
  /// block_tokens · ((2·dim + block_vocab + 2)·sizeof(T) + 20), block_vocab being at most vocab.
  std::size_t workspace_bytes() const {
    return rows_.bytes() + grad_rows_.bytes() + tokens_.bytes() + softmax_.bytes();
  }

  /// \param x        [tokens, dim], hidden states
  /// \param weight   [vocab, dim], the head
  /// \param targets  [tokens]; negative: ignored
  /// \param losses   [tokens], overwritten with each token's loss (0 where ignored); empty: not wanted
  /// \return the sum of the losses, in nats, and the number of tokens counted
  /// \throws shape_error, argument_error (a target outside the vocabulary)  before anything is written
  LossSum forward(const HostTensor<const T, 2>& x, const HostTensor<const T, 2>& weight, const Targets& targets,
                  const HostTensor<T, 1>& losses = {}) {
    check(x, weight, targets, losses);
    return for_each_block(x, targets, losses, [&](std::int64_t count) { accumulate(weight, count); });
  }

  /// The gradient of scale · (sum of the losses); scale is 1 / count for the gradient of the mean.
  /// \param x            [tokens, dim], as given to forward
  /// \param weight       [vocab, dim]
  /// \param targets      [tokens]; negative: ignored
  /// \param grad_x       [tokens, dim], overwritten; must not share memory with x
  /// \param grad_weight  [vocab, dim]; the gradient is ADDED to what is there
  /// \throws shape_error, argument_error (a target outside the vocabulary, a scale that is not finite)  before anything
  ///         is written
  void backward(const HostTensor<const T, 2>& x, const HostTensor<const T, 2>& weight, const Targets& targets,
                double scale, const HostTensor<T, 2>& grad_x, const HostTensor<T, 2>& grad_weight) {
    forward_backward(x, weight, targets, scale, grad_x, grad_weight);
  }

  /// forward and backward in one, at the cost of backward alone.
  LossSum forward_backward(const HostTensor<const T, 2>& x, const HostTensor<const T, 2>& weight,
                           const Targets& targets, double scale, const HostTensor<T, 2>& grad_x,
                           const HostTensor<T, 2>& grad_weight, const HostTensor<T, 1>& losses = {}) {
    check(x, weight, targets, losses);
    if (!std::isfinite(scale)) {
      throw argument_error(detail::message("cross_entropy: scale is ", scale, ", it must be finite"));
    }
    detail::check_matrix("cross_entropy: grad_x", "[tokens, dim]", grad_x, tokens_of(x), dim_);
    detail::check_matrix("cross_entropy: grad_weight", "[vocab, dim]", grad_weight, vocab_, dim_);
    detail::check_apart("cross_entropy: grad_x", grad_x, "x", x);
    for (std::int64_t token = 0; token < tokens_of(x); ++token) {
      detail::row(detail::row_pointer(grad_x, token), dim_).setZero();
    }
    return for_each_block(x, targets, losses, [&](std::int64_t count) {
      accumulate(weight, count);
      differentiate(weight, grad_weight, static_cast<T>(scale), count);
      for (std::int64_t i = 0; i < count; ++i) {
        detail::row(detail::row_pointer(grad_x, tokens_.data()[i]), dim_) =
            detail::row(grad_rows_.data() + i * dim_, dim_);
      }
    });
  }

 private:
  static std::int64_t checked(const char* name, std::int64_t value) {
    detail::check_positive("cross_entropy", name, value);
    return value;
  }
  static std::int64_t tokens_of(const HostTensor<const T, 2>& x) { return static_cast<std::int64_t>(x.extent(0)); }

  void check(const HostTensor<const T, 2>& x, const HostTensor<const T, 2>& weight, const Targets& targets,
             const HostTensor<T, 1>& losses) const {
    const std::int64_t tokens = tokens_of(x);
    detail::check_matrix("cross_entropy: x", "[tokens, dim]", x, tokens, dim_);
    detail::check_matrix("cross_entropy: weight", "[vocab, dim]", weight, vocab_, dim_);
    detail::check_extents("cross_entropy: targets", "[tokens]", targets, {tokens});
    if (losses.size() != 0) detail::check_extents("cross_entropy: losses", "[tokens]", losses, {tokens});
    for (std::int64_t token = 0; token < tokens; ++token) {
      if (targets(token) >= vocab_) {
        throw argument_error(detail::message("cross_entropy: targets[", token, "] is ", targets(token),
                                             ", the vocabulary has ", vocab_, " entries"));
      }
    }
  }

  /// Gathers the tokens with a target, block_tokens at a time, calls work(count) and reads their losses.
  template <class F>
  LossSum for_each_block(const HostTensor<const T, 2>& x, const Targets& targets, const HostTensor<T, 1>& losses,
                         F&& work) {
    LossSum total;
    std::int64_t count = 0;
    for (std::int64_t token = 0; token < tokens_of(x); ++token) {
      if (losses.size() != 0) losses(token) = 0;
      if (targets(token) >= 0) {
        detail::row(rows_.data() + count * dim_, dim_) = detail::row(detail::row_pointer(x, token), dim_);
        softmax_.begin(count, targets(token));
        tokens_.data()[count++] = token;
      }
      if (count == block_tokens_ || (token + 1 == tokens_of(x) && count != 0)) {
        work(count);
        for (std::int64_t i = 0; i < count; ++i) {
          const double loss = softmax_.loss(i);
          if (losses.size() != 0) losses(tokens_.data()[i]) = static_cast<T>(loss);
          total += {loss, 1};
        }
        count = 0;
      }
    }
    return total;
  }

  template <class F>
  void for_each_vocab_block(F&& f) const {
    for (std::int64_t first = 0; first < vocab_; first += block_vocab_) {
      f(first, std::min(block_vocab_, vocab_ - first));
    }
  }

  auto rows(const detail::HostBuffer<T>& buffer, std::int64_t count) const {
    return detail::matrix(buffer.data(), count, dim_);
  }

  void logits(const HostTensor<const T, 2>& weight, std::int64_t first, std::int64_t classes, std::int64_t count) {
    softmax_.logits(count, classes).noalias() =
        rows(rows_, count) * detail::matrix_rows(weight, first, classes).transpose();
  }

  /// The running softmax of the gathered rows, over the whole vocabulary.
  void accumulate(const HostTensor<const T, 2>& weight, std::int64_t count) {
    for_each_vocab_block([&](std::int64_t first, std::int64_t classes) {
      logits(weight, first, classes, count);
      softmax_.fold(first, classes, count);
    });
  }

  /// After accumulate: the gradients of the gathered rows and of the weight. With one vocabulary block its exponentials
  /// are still there.
  void differentiate(const HostTensor<const T, 2>& weight, const HostTensor<T, 2>& grad_weight, T scale,
                     std::int64_t count) {
    auto grad_rows = rows(grad_rows_, count);
    grad_rows.setZero();
    for_each_vocab_block([&](std::int64_t first, std::int64_t classes) {
      if (classes < vocab_) {
        logits(weight, first, classes, count);
        softmax_.exponentiate(classes, count);
      }
      softmax_.differentiate(first, classes, count, scale);
      const auto grad_logits = softmax_.logits(count, classes);
      grad_rows.noalias() += grad_logits * detail::matrix_rows(weight, first, classes);
      detail::matrix_rows(grad_weight, first, classes).noalias() += grad_logits.transpose() * rows(rows_, count);
    });
  }

  std::int64_t dim_;
  std::int64_t vocab_;
  std::int64_t block_tokens_;
  std::int64_t block_vocab_;
  detail::HostBuffer<T> rows_;
  detail::HostBuffer<T> grad_rows_;
  detail::HostBuffer<std::int64_t> tokens_;
  detail::SoftmaxBlock<T> softmax_;
};

}  // namespace rondo
