/// \file
/// How far results are from the oracle, in units of what plain arithmetic of the same precision is away from it.
#pragma once

#include <support/whole.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

namespace rondo::test {

/// Root mean square and maximum of the differences between two tensors. Equal infinities differ by nothing; NaN on
/// either side, or an infinity on one, differs infinitely.
struct Difference {
  double rms = 0;
  double max = 0;
};

template <class A, class B>
Difference difference(const Whole<A>& a, const Whole<B>& b) {
  using Wide = long double;
  if (a.values().size() != b.values().size()) {
    return {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
  }
  Wide sum = 0;
  Wide most = 0;
  for (std::size_t i = 0; i < a.values().size(); ++i) {
    const Wide x = a.values()[i];
    const Wide y = b.values()[i];
    if (x == y) continue;
    Wide gap = std::abs(x - y);
    if (!std::isfinite(gap)) gap = std::numeric_limits<Wide>::infinity();
    sum += gap * gap;
    most = std::max(most, gap);
  }
  const auto count = static_cast<Wide>(std::max<std::size_t>(1, a.values().size()));
  return {static_cast<double>(std::sqrt(sum / count)), static_cast<double>(most)};
}

/// The root mean square of a tensor's finite entries.
template <class A>
double root_mean_square(const Whole<A>& a) {
  long double sum = 0;
  for (const A& x : a.values()) {
    if (std::isfinite(x)) sum += static_cast<long double>(x) * x;
  }
  return static_cast<double>(std::sqrt(sum / std::max<std::size_t>(1, a.values().size())));
}

/// A tensor's error against the oracle, divided by plain arithmetic's error.
struct ErrorRatio {
  std::string tensor;
  double rms = 0;
  double max = 0;

  /// DESIGN's promise: RMS at most 1.5 times, maximum at most 2 times. 1 is just kept, more is broken.
  double of_promise() const { return std::max(rms / 1.5, max / 2); }
};

/// The error ratios of the five results, and the largest.
struct ErrorRatios {
  std::array<ErrorRatio, 5> tensors;

  double of_promise() const {
    double worst = 0;
    for (const auto& ratio : tensors) worst = std::max(worst, ratio.of_promise());
    return worst;
  }
  std::string text() const {
    std::string text;
    for (const auto& ratio : tensors) {
      text += ratio.tensor + ": rms " + std::to_string(ratio.rms) + ", max " + std::to_string(ratio.max) + "\n";
    }
    return text;
  }
};

/// Plain arithmetic's error on some problem.
struct ErrorUnits {
  std::array<Difference, 5> tensors;

  /// The errors of several evaluations (in several orders of summation, say) as one: the root of their mean square, and
  /// the largest.
  friend ErrorUnits pooled(const std::vector<ErrorUnits>& evaluations) {
    ErrorUnits all;
    for (std::size_t i = 0; i < all.tensors.size(); ++i) {
      double squares = 0;
      for (const ErrorUnits& one : evaluations) {
        squares += one.tensors[i].rms * one.tensors[i].rms;
        all.tensors[i].max = std::max(all.tensors[i].max, one.tensors[i].max);
      }
      all.tensors[i].rms = std::sqrt(squares / static_cast<double>(evaluations.size()));
    }
    return all;
  }
};

template <class Exact, class Plain>
ErrorUnits error_units(const Results<Plain>& plain, const Results<Exact>& exact) {
  ErrorUnits units;
  std::size_t index = 0;
  for_each_result([&](const char*, const auto& p, const auto& e) { units.tensors[index++] = difference(p, e); }, plain,
                  exact);
  return units;
}

/// Where next to nothing is summed (one visible key), plain arithmetic is exact by chance and a ratio to its error says
/// nothing. The unit is then a few roundings of numbers as large as the terms of each result.
template <class Plain, class Exact>
ErrorUnits with_floor(ErrorUnits units, const Inputs<Exact>& in, double scale) {
  const double rounding = std::numeric_limits<Plain>::epsilon() / 2;
  const double product = root_mean_square(in.v) * root_mean_square(in.grad_out) * std::sqrt(in.extents.value_width());
  const double group = std::sqrt(in.extents.heads / in.extents.kv_heads);  // terms of a sum over heads, at least
  const double sizes[] = {root_mean_square(in.v), 1, scale * product * root_mean_square(in.k),
                          scale * product * root_mean_square(in.q) * group, root_mean_square(in.grad_out) * group};
  for (std::size_t i = 0; i < units.tensors.size(); ++i) {
    units.tensors[i].rms = std::max(units.tensors[i].rms, 2 * rounding * sizes[i]);
    units.tensors[i].max = std::max(units.tensors[i].max, 8 * rounding * sizes[i]);
  }
  return units;
}

template <class Exact>
ErrorRatios error_ratios(const Results<double>& given, const Results<Exact>& exact, const ErrorUnits& units) {
  ErrorRatios ratios;
  std::size_t index = 0;
  for_each_result(
      [&](const char* name, const auto& g, const auto& e) {
        const Difference error = difference(g, e);
        const Difference& unit = units.tensors[index];
        const auto ratio = [](double a, double b) { return a == 0 ? 0 : a / b; };
        ratios.tensors[index++] = {name, ratio(error.rms, unit.rms), ratio(error.max, unit.max)};
      },
      given, exact);
  return ratios;
}

}  // namespace rondo::test
