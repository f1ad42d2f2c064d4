/// \file
/// The exponential and the normal distribution, written so that a loop over them becomes vector code in float.
#pragma once

#include <rondo/kernel/exp2.hpp>

#include <cmath>
#include <concepts>
#include <numbers>

namespace rondo::detail {

/// e^x. In float: relative error at most (2 + |x|) · 2^-23 for results in float's normal range, 0 below it.
template <std::floating_point T>
inline T exp(T x) {
  return exp2(x * std::numbers::log2e_v<T>);
}
template <>
inline double exp(double x) {
  return std::exp(x);
}

/// 1 / (1 + e^-x) as the two numbers that a derivative needs, each with its own relative accuracy.
template <class T>
struct Logistic {
  T value;
  T complement;  ///< 1 - value

  explicit Logistic(T x) {
    const T e = exp(-std::abs(x));
    const T larger = T{1} / (T{1} + e);
    const T smaller = e * larger;
    value = x < 0 ? smaller : larger;
    complement = x < 0 ? larger : smaller;
  }
};

/// Distribution Φ(x) and density φ(x) of the standard normal distribution.
template <class T>
struct Normal {
  T distribution;
  T density;

  explicit Normal(T x);
};

/// Φ(-|x|) = e^(-x²/2)·Q(1 / (1 + p·|x|)): the form of Abramowitz & Stegun 26.2.17, with a polynomial Q fitted here by
/// Remez exchange to a relative error of 2.4e-8 over |x| <= 14, beyond which float holds 0 for either tail. In all, a
/// relative error of at most (5 + x²/2) · 2^-23 for tails in float's normal range; so the lower tail keeps its digits.
template <>
inline Normal<float>::Normal(float x) {
  const float magnitude = std::abs(x);
  const float bell = exp(-0.5f * (x * x));
  const float k = 1.0f / (1.0f + 0.27f * magnitude);
  float q = 0.0289152334f;
  q = q * k - 0.126255070f;
  q = q * k + 0.169291014f;
  q = q * k - 0.0686205437f;
  q = q * k + 0.107399143f;
  q = q * k + 0.0722404067f;
  q = q * k + 0.101759137f;
  q = q * k + 0.107550510f;
  q = q * k + 0.107720181f;
  const float tail = bell * (q * k);
  distribution = x < 0.0f ? tail : 1.0f - tail;
  density = bell * 0.398942280f;
}

template <>
inline Normal<double>::Normal(double x)
    : distribution(0.5 * std::erfc(-x / std::numbers::sqrt2)),
      density(std::exp(-0.5 * x * x) * (std::numbers::inv_sqrtpi / std::numbers::sqrt2)) {}

}  // namespace rondo::detail
