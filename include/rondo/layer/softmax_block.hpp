/// \file
/// The running softmax of a block of tokens over a vocabulary that arrives in blocks, and its gradient.
#pragma once

#include <rondo/layer/elementary.hpp>
#include <rondo/layer/host_buffer.hpp>
#include <rondo/layer/matrix.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace rondo::detail {

/// Per row: m, the largest logit so far; l, the sum of e^(logit - m), in double; the target and its logit. Folding a
/// block: m' = max(m, max logit), l = l·e^(m - m') + Σ e^(logit - m') (Milakov & Gimelshein, arXiv 1805.02867).
template <class T>
class SoftmaxBlock {
 public:
  SoftmaxBlock(std::int64_t rows, std::int64_t columns)
      : logits_("rondo::cross_entropy::logits", rows * columns),
        largest_("rondo::cross_entropy::largest", rows),
        sum_("rondo::cross_entropy::sum", rows),
        target_("rondo::cross_entropy::target", rows),
        target_logit_("rondo::cross_entropy::target_logit", rows) {}

  std::size_t bytes() const {
    return logits_.bytes() + largest_.bytes() + sum_.bytes() + target_.bytes() + target_logit_.bytes();
  }

  /// Starts a row anew.
  void begin(std::int64_t row, std::int32_t target) {
    largest_.data()[row] = -std::numeric_limits<T>::infinity();
    sum_.data()[row] = 0;
    target_.data()[row] = target;
  }

  /// Room for the logits of a block of the vocabulary, [count, classes].
  MatrixMap<T> logits(std::int64_t count, std::int64_t classes) const { return matrix(logits_.data(), count, classes); }

  /// Folds the logits of classes [first, first + classes) in; they become e^(logit - m).
  void fold(std::int64_t first, std::int64_t classes, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      auto values = row(logits_.data() + i * classes, classes);
      const std::int64_t target = target_.data()[i] - first;
      if (0 <= target && target < classes) target_logit_.data()[i] = values[target];
      T& m = largest_.data()[i];
      const T block_max = values.maxCoeff();
      if (block_max > m) {
        sum_.data()[i] *= static_cast<double>(exp(m - block_max));
        m = block_max;
      }
      exponentiate_row(values.data(), classes, m);
      sum_.data()[i] += static_cast<double>(values.sum());
    }
  }

  /// Logits become e^(logit - m), after all blocks were folded.
  void exponentiate(std::int64_t classes, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) {
      exponentiate_row(logits_.data() + i * classes, classes, largest_.data()[i]);
    }
  }

  /// e^(logit - m) becomes scale · (softmax - [class is the target]), the gradient with respect to the logit.
  void differentiate(std::int64_t first, std::int64_t classes, std::int64_t count, T scale) {
    for (std::int64_t i = 0; i < count; ++i) {
      auto values = row(logits_.data() + i * classes, classes);
      values *= static_cast<T>(static_cast<double>(scale) / sum_.data()[i]);
      const std::int64_t target = target_.data()[i] - first;
      if (0 <= target && target < classes) values[target] -= scale;
    }
  }

  /// m + ln l - logit of the target, in nats.
  double loss(std::int64_t row) const {
    return (static_cast<double>(largest_.data()[row]) - static_cast<double>(target_logit_.data()[row])) +
           std::log(sum_.data()[row]);
  }

 private:
  static void exponentiate_row(T* values, std::int64_t size, T m) {
    for (std::int64_t i = 0; i < size; ++i) values[i] = exp(values[i] - m);
  }

  HostBuffer<T> logits_;
  HostBuffer<T> largest_;
  HostBuffer<double> sum_;
  HostBuffer<std::int32_t> target_;
  HostBuffer<T> target_logit_;
};

}  // namespace rondo::detail
