/// \file
/// Inner products with hardly any rounding, for the few that a difference of large numbers hangs on.
#pragma once

#include <rondo/kernel/host/rows.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <type_traits>

namespace rondo::host {
inline namespace RONDO_HOST_NAMESPACE {

/// A sum of products of float in double, where the products are exact; of double with what every product and every
/// addition lost beside it (Ogita, Rump & Oishi, SIAM J. Sci. Comput. 26, 2005: Dot2). In Lanes partial sums.
template <class A, int Lanes>
class PreciseSum {
  static constexpr bool is_double = std::is_same_v<A, double>;

 public:
  /// Adds a[lane·stride] · b[lane·other_stride] to the partial sums.
  [[gnu::always_inline]] void add(const A* a, std::ptrdiff_t stride, const A* b, std::ptrdiff_t other_stride) {
    for (int lane = 0; lane < Lanes; ++lane) add_to(lane, a[lane * stride], b[lane * other_stride]);
  }
  void add(A a, A b) { add_to(0, a, b); }

  /// The sum, rounded once.
  A value() const {
    double sums[Lanes], rests[Lanes];
    std::copy_n(sums_, Lanes, sums);
    std::copy_n(rests_, Lanes, rests);
    for (int half = Lanes / 2; half > 0; half /= 2) {
      for (int lane = 0; lane < half; ++lane) add_sum(sums[lane], rests[lane], sums[lane + half], rests[lane + half]);
    }
    return static_cast<A>(sums[0] + rests[0]);
  }

 private:
  [[gnu::always_inline]] void add_to(int lane, A a, A b) {
    if constexpr (is_double) {
      const double product = a * b;
      add_sum(sums_[lane], rests_[lane], product, std::fma(a, b, -product));
    } else {
      sums_[lane] += static_cast<double>(a) * static_cast<double>(b);
    }
  }
  [[gnu::always_inline]] static void add_sum(double& sum, double& rest, double term, double rest_of_term) {
    const double before = sum;
    sum = before + term;
    if constexpr (is_double) {
      const double added = sum - before;
      rest += (before - (sum - added)) + (term - added) + rest_of_term;
    }
  }

  double sums_[Lanes] = {};
  double rests_[Lanes] = {};
};

/// Σ over d of a[d] · b[d].
template <class A>
A precise_product(const Row<const A>& a, const Row<const A>& b) {
  constexpr int lanes = 16;
  PreciseSum<A, lanes> sum;
  int d = 0;
  if (a.element == 1 && b.element == 1) {
    for (; d + lanes <= a.count; d += lanes) sum.add(a.data + d, 1, b.data + d, 1);
  }
  for (; d < a.count; ++d) sum.add(a[d], b[d]);
  return sum.value();
}

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace rondo::host
