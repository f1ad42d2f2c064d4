/// \file
/// Whether a score function's derivative is that of its values: a check for one's own.
#pragma once

#include <rondo/score/concept.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace rondo {

/// The largest difference, over scores from -reach to reach, between `derivative` and the slope of `apply` (central
/// differences of fourth order, in double), relative to the larger of 1 and the slope. A right derivative of a smooth
/// function gives less than 1e-7; at a kink the difference is as large as the jump.
template <ScoreMod S>
double derivative_error(const S& mod, int batch, int head, std::int64_t query, std::int64_t key, double reach = 20) {
  constexpr int steps = 200;
  const double step = 1e-4 * std::max(1.0, reach / 20);
  const auto value = [&](double x) { return mod.apply(x, batch, head, query, key); };
  double worst = 0;
  for (int i = 0; i <= steps; ++i) {
    const double score = reach * (2.0 * i / steps - 1);
    const double slope =
        (8 * (value(score + step) - value(score - step)) - (value(score + 2 * step) - value(score - 2 * step))) /
        (12 * step);
    const double given = mod.derivative(score, batch, head, query, key);
    const double error = std::abs(given - slope) / std::max(1.0, std::abs(slope));
    if (!(error <= worst)) worst = error;  // NaN too
  }
  return worst;
}

}  // namespace rondo
