/// \file
/// The optimiser: AdamW (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2), with a warm-up, a cosine decay of the
/// learning rate, and clipping of the gradient's norm.
#pragma once

#include "parameters.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace train {

struct AdamWOptions {
  double learning_rate = 4e-3;
  std::int64_t warmup = 10;  ///< steps in which the learning rate rises to that
  double final_share = 0.1;  ///< of it that is left after the last step
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;  ///< on matrices, not on norms and biases
  double clip = 1.0;          ///< largest norm of the gradient
};

/// Learning rate of step `step` (from 0) of `steps`.
inline double learning_rate(const AdamWOptions& options, std::int64_t step, std::int64_t steps) {
  const double warm =
      std::min(1.0, static_cast<double>(step + 1) / static_cast<double>(std::max<std::int64_t>(1, options.warmup)));
  const double progress = static_cast<double>(step) / static_cast<double>(std::max<std::int64_t>(1, steps));
  const double cosine = 0.5 * (1 + std::cos(std::numbers::pi * progress));
  return options.learning_rate * warm * (options.final_share + (1 - options.final_share) * cosine);
}

/// Every rank holds all weights and both moments and updates all of them: the gradient has been summed over the ranks,
/// so they compute the same bits, and nothing needs to be sent after an update. (Where weights are what fills the
/// memory, each rank would hold and update a part; here the context does.)
template <class T>
class AdamW {
 public:
  AdamW(const ParameterLayout& layout, const AdamWOptions& options)
      : layout_(layout),
        options_(options),
        first_(make_flat<T>("train::first_moment", layout.size())),
        second_(make_flat<T>("train::second_moment", layout.size())) {}

  const Flat<T>& first_moment() const { return first_; }
  const Flat<T>& second_moment() const { return second_; }

  /// Makes step number `step` (from 0) of `steps`. \return the norm of the gradient before clipping
  double step(std::int64_t step, std::int64_t steps, const Flat<T>& weights, const Flat<T>& gradient) {
    double squares = 0;
    for (std::size_t i = 0; i < gradient.size(); ++i)
      squares += static_cast<double>(gradient(i)) * static_cast<double>(gradient(i));
    const double norm = std::sqrt(squares);
    const T shrink = static_cast<T>(norm > options_.clip ? options_.clip / norm : 1.0);

    const double rate = learning_rate(options_, step, steps);
    const double bias1 = 1 - std::pow(options_.beta1, static_cast<double>(step + 1));
    const double bias2 = 1 - std::pow(options_.beta2, static_cast<double>(step + 1));
    for (const TensorPlace& place : layout_.tensors()) {
      const double decay = place.decays() ? options_.weight_decay : 0.0;
      update(place, static_cast<T>(1 - rate * decay), static_cast<T>(rate / bias1),
             static_cast<T>(1 / std::sqrt(bias2)), shrink, weights, gradient);
    }
    return norm;
  }

 private:
  void update(const TensorPlace& place, T keep, T rate, T scale, T shrink, const Flat<T>& weights,
              const Flat<T>& gradient) {
    const T beta1 = static_cast<T>(options_.beta1);
    const T beta2 = static_cast<T>(options_.beta2);
    const T epsilon = static_cast<T>(options_.epsilon);
    T* w = weights.data() + place.offset;
    T* m = first_.data() + place.offset;
    T* v = second_.data() + place.offset;
    const T* g = gradient.data() + place.offset;
    for (std::int64_t i = 0; i < place.rows * place.columns; ++i) {
      const T clipped = g[i] * shrink;
      m[i] = beta1 * m[i] + (1 - beta1) * clipped;
      v[i] = beta2 * v[i] + (1 - beta2) * clipped * clipped;
      w[i] = keep * w[i] - rate * m[i] / (std::sqrt(v[i]) * scale + epsilon);
    }
  }

  ParameterLayout layout_;
  AdamWOptions options_;
  Flat<T> first_;
  Flat<T> second_;
};

}  // namespace train
