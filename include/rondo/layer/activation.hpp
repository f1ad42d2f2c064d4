/// \file
/// The Activation concept: what a feed-forward layer applies to its hidden units, and its derivative; GELU and SwiGLU.
#pragma once

#include <rondo/layer/elementary.hpp>

#include <concepts>
#include <type_traits>

namespace rondo {

/// `value` is the function f, `derivative` is f', at one hidden unit. With `gated`, the layer multiplies f of one
/// product with another product (see feed_forward). Both are called in a loop over a block, side by side in the
/// backward pass: code without branches and calls becomes vector code, and what the two have in common is computed once.
template <class A, class T>
concept Activation = std::copyable<A> && std::default_initializable<A> && requires(const A& activation, T x) {
  { A::gated } -> std::convertible_to<bool>;
  { activation.value(x) } -> std::same_as<T>;
  { activation.derivative(x) } -> std::same_as<T>;
};

/// x·Φ(x), with Φ the standard normal distribution in its exact (erf) form (Hendrycks & Gimpel, arXiv 1606.08415).
struct gelu {
  static constexpr bool gated = false;

  template <class T>
  T value(T x) const {
    return x * detail::Normal<T>(x).distribution;
  }
  template <class T>
  T derivative(T x) const {
    const detail::Normal<T> normal(x);
    return normal.distribution + x * normal.density;
  }
};

/// A gate of silu(x) = x / (1 + e^-x), as in SwiGLU (Shazeer, arXiv 2002.05202).
struct swiglu {
  static constexpr bool gated = true;

  template <class T>
  T value(T x) const {
    return x * detail::Logistic<T>(x).value;
  }
  template <class T>
  T derivative(T x) const {
    const detail::Logistic<T> logistic(x);
    return logistic.value * (T{1} + x * logistic.complement);
  }
};

static_assert(Activation<gelu, float> && Activation<gelu, double>);
static_assert(Activation<swiglu, float> && Activation<swiglu, double>);

}  // namespace rondo
