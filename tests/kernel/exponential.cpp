/// \file
/// The host kernel's powers of two, at the width this program is built for, against the C library's in more digits.
#include <rondo/kernel/host/exp2.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace {

using rondo::host::exp2_of;
using rondo::host::splat;

template <class A, bool Small>
A power(A x) {
  return exp2_of<A, Small>(splat(x))[rondo::host::width<A> - 1];
}

/// The largest error in units in the last place, over `count` numbers in each binade of normal results.
template <class A>
long double worst_error(int count) {
  using Limits = std::numeric_limits<A>;
  long double worst = 0;
  for (int n = Limits::min_exponent - 1; n < Limits::max_exponent - 1; ++n) {
    for (int i = 0; i < count; ++i) {
      const A x = static_cast<A>(n + (i + 0.5L) / count);
      const long double exact = std::exp2(static_cast<long double>(x));
      const long double unit = std::ldexp(1.0L, std::ilogb(exact) - Limits::digits + 1);
      worst = std::max(worst, std::abs(power<A, false>(x) - exact) / unit);
      if (x < 1) worst = std::max(worst, std::abs(power<A, true>(x) - exact) / unit);
    }
  }
  return worst;
}

template <class A>
void check_ends() {
  using Limits = std::numeric_limits<A>;
  const A lowest = static_cast<A>(Limits::min_exponent - 1);
  CHECK(power<A, true>(-Limits::infinity()) == 0);
  CHECK(power<A, false>(-Limits::infinity()) == 0);
  CHECK(std::isnan(power<A, true>(Limits::quiet_NaN())));
  CHECK(std::isnan(power<A, false>(Limits::quiet_NaN())));
  CHECK(power<A, false>(Limits::infinity()) >= Limits::max() / 2);
  for (const A below : {A{0.1}, A{0.5}, A{0.99}, A{1}, A{1.5}, A{70}, A{2000}}) {
    INFO("2^(" << lowest << " - " << below << ")");
    CHECK(power<A, true>(lowest - below) >= 0);
    CHECK(power<A, true>(lowest - below) < Limits::min());
  }
  for (int n = -20; n <= 20; ++n) CHECK(power<A, true>(static_cast<A>(n)) == std::ldexp(A{1}, n));
}

}  // namespace

TEST_CASE("powers of two are within two units in the last place") {
  CHECK(worst_error<float>(4001) <= 2);
  CHECK(worst_error<double>(101) <= 2);
}

TEST_CASE("powers of two below the normal numbers are nothing, and NaN stays NaN") {
  check_ends<float>();
  check_ends<double>();
}
