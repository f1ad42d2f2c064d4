#include <rondo/score/concept.hpp>
#include <rondo/score/softcap.hpp>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

namespace {

using Catch::Approx;
using rondo::ScoreMod;
using rondo::softcap;
using rondo::unmodified;

/// A user's: a bias that falls with the distance of query and key.
struct distance {
  float slope = 1;
  static constexpr int code = 1000;
  template <class A>
  A apply(A score, int, int, std::int64_t query, std::int64_t key) const {
    return score - static_cast<A>(slope) * static_cast<A>(query - key);
  }
  template <class A>
  A derivative(A, int, int, std::int64_t, std::int64_t) const {
    return A{1};
  }
};

static_assert(ScoreMod<unmodified> && ScoreMod<softcap> && ScoreMod<distance>);

// Near misses: each lacks one thing.
struct without_derivative {
  static constexpr int code = 1;
  template <class A>
  A apply(A score, int, int, std::int64_t, std::int64_t) const {
    return score;
  }
};
struct without_apply {
  static constexpr int code = 1;
  template <class A>
  A derivative(A, int, int, std::int64_t, std::int64_t) const {
    return A{1};
  }
};
struct without_code {
  template <class A>
  A apply(A score, int, int, std::int64_t, std::int64_t) const {
    return score;
  }
  template <class A>
  A derivative(A, int, int, std::int64_t, std::int64_t) const {
    return A{1};
  }
};
struct only_double : without_derivative {
  double apply(double score, int, int, std::int64_t, std::int64_t) const { return score; }
  double derivative(double, int, int, std::int64_t, std::int64_t) const { return 1; }
};
struct owns_memory : distance {
  std::string table;
};
static_assert(!ScoreMod<without_derivative> && !ScoreMod<without_apply> && !ScoreMod<without_code>);
static_assert(!ScoreMod<only_double>, "a score stays in the type that it is accumulated in");
static_assert(!ScoreMod<owns_memory>, "a score function travels to the device by copying its bytes");
static_assert(!ScoreMod<int>);

TEST_CASE("An unmodified score stays as it is, with derivative 1") {
  for (const double score : {-3.5, 0.0, 1e30}) {
    CHECK(unmodified{}.apply(score, 0, 1, 2, 3) == score);
    CHECK(unmodified{}.derivative(score, 0, 1, 2, 3) == 1.0);
    CHECK(unmodified{}.apply(static_cast<float>(score), 0, 1, 2, 3) == static_cast<float>(score));
  }
}

TEST_CASE("softcap is cap times the hyperbolic tangent of score over cap") {
  for (const double cap : {0.5, 30.0, 50.0}) {
    for (double score = -200; score <= 200; score += 7.3) {
      // tanh(x) = (1 - e^-2x) / (1 + e^-2x), in long double.
      const long double decay = std::exp(-2 * static_cast<long double>(score) / cap);
      const auto needed = static_cast<double>(cap * (1 - decay) / (1 + decay));
      INFO("cap " << cap << ", score " << score);
      CHECK(softcap{cap}.apply(score, 0, 0, 0, 0) == Approx(needed).epsilon(1e-14));
      CHECK(softcap{cap}.apply(static_cast<float>(score), 0, 0, 0, 0) == Approx(needed).epsilon(1e-5));
    }
  }
}

TEST_CASE("softcap never leaves (-cap, cap) by more than rounding, and keeps small scores") {
  for (const double score : {1e3, 1e10, 1e300, std::numeric_limits<double>::infinity()}) {
    CHECK(softcap{30}.apply(score, 0, 0, 0, 0) == 30);
    CHECK(softcap{30}.apply(-score, 0, 0, 0, 0) == -30);
  }
  CHECK(softcap{50}.apply(1e-6, 0, 0, 0, 0) == Approx(1e-6).epsilon(1e-12));
}

TEST_CASE("softcap's derivative is the slope of its values") {
  for (const double cap : {0.5, 30.0}) {
    for (double score = -2.5 * cap; score <= 2.5 * cap; score += 0.11 * cap) {
      const double step = 1e-5 * cap;
      const softcap mod{cap};
      // Central differences of fourth order.
      const auto value = [&](double x) { return mod.apply(x, 0, 0, 0, 0); };
      const double slope = (8 * (value(score + step) - value(score - step)) -
                            (value(score + 2 * step) - value(score - 2 * step))) / (12 * step);
      INFO("cap " << cap << ", score " << score);
      CHECK(mod.derivative(score, 0, 0, 0, 0) == Approx(slope).margin(1e-9));
      CHECK(mod.derivative(static_cast<float>(score), 0, 0, 0, 0) == Approx(slope).margin(1e-6));
    }
  }
}

TEST_CASE("Ranks can tell different caps from each other") {
  const std::array caps{1.0, 29.0, 30.0, 30.0000001, 50.0, 1e9};
  for (const double a : caps) {
    for (const double b : caps) CHECK((softcap{a}.fingerprint() == softcap{b}.fingerprint()) == (a == b));
  }
}

}  // namespace
