#include <rondo/layer/activation.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>

namespace {

using namespace rondo;

constexpr double ulp = 0x1p-23;

/// Every 1009th float of magnitude below `limit`, both signs.
void for_each_float(float limit, const std::function<void(float)>& f) {
  std::uint32_t end = 0;
  std::memcpy(&end, &limit, sizeof end);
  for (std::uint32_t bits = 0; bits < end; bits += 1009) {
    float x = 0;
    std::memcpy(&x, &bits, sizeof x);
    f(x);
    f(-x);
  }
}

/// The largest |given / exact - 1| / bound over the results that are normal floats.
class Worst {
 public:
  void add(double x, double given, double exact, double bound) {
    if (std::abs(exact) < std::numeric_limits<float>::min() || std::abs(exact) > std::numeric_limits<float>::max())
      return;
    const double ratio = std::abs(given / exact - 1) / bound;
    if (!(ratio <= ratio_)) {
      ratio_ = ratio;
      x_ = x;
    }
  }
  double ratio() const { return ratio_; }
  double x() const { return x_; }

 private:
  double ratio_ = 0;
  double x_ = 0;
};

double distribution(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double density(double x) { return std::exp(-0.5 * x * x) / std::sqrt(2 * 3.14159265358979323846); }
double logistic(double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }

struct no_derivative {
  static constexpr bool gated = false;
  template <class T>
  T value(T x) const {
    return x;
  }
};

struct says_not_whether_gated {
  template <class T>
  T value(T x) const {
    return x;
  }
  template <class T>
  T derivative(T) const {
    return T{1};
  }
};

struct squared_relu : says_not_whether_gated {
  static constexpr bool gated = false;
};

struct widens_to_double {
  static constexpr bool gated = true;
  double value(double x) const { return x; }
  double derivative(double) const { return 1; }
};

static_assert(Activation<gelu, float> && Activation<gelu, double>);
static_assert(Activation<swiglu, float> && Activation<swiglu, double>);
static_assert(Activation<squared_relu, float>);
static_assert(!Activation<no_derivative, float>);
static_assert(!Activation<says_not_whether_gated, float>);
static_assert(Activation<widens_to_double, double> && !Activation<widens_to_double, float>);
static_assert(!Activation<int, float>);

TEST_CASE("the float exponential stays within its stated error") {
  Worst worst;
  for_each_float(120, [&](float x) { worst.add(x, detail::exp(x), std::exp(double{x}), (2 + std::abs(x)) * ulp); });
  INFO("at " << worst.x());
  CHECK(worst.ratio() <= 1);
  CHECK(detail::exp(0.0f) == 1.0f);
  CHECK(detail::exp(-200.0f) == 0.0f);
  CHECK(std::isinf(detail::exp(200.0f)));
  CHECK(std::isnan(detail::exp(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE("the float logistic and its complement each keep their own relative accuracy") {
  Worst worst;
  for_each_float(120, [&](float x) {
    const detail::Logistic<float> both(x);
    worst.add(x, both.value, logistic(x), (3 + std::abs(x)) * ulp);
    worst.add(x, both.complement, logistic(-double{x}), (3 + std::abs(x)) * ulp);
  });
  INFO("at " << worst.x());
  CHECK(worst.ratio() <= 1);
}

TEST_CASE("the float normal distribution keeps its digits in the lower tail") {
  Worst worst;
  for_each_float(20, [&](float x) {
    const detail::Normal<float> normal(x);
    worst.add(x, normal.distribution, distribution(x), (5 + 0.5 * x * x) * ulp);
    worst.add(x, normal.density, density(x), (5 + 0.5 * x * x) * ulp);
  });
  INFO("at " << worst.x());
  CHECK(worst.ratio() <= 1);
}

TEST_CASE("gelu and its derivative are those of the exact erf form") {
  double worst_value = 0;
  double worst_derivative = 0;
  for_each_float(20, [&](float x) {
    const double size = 1 + std::abs(x);
    const double derivative = distribution(x) + x * density(x);
    worst_value = std::max(worst_value, std::abs(gelu{}.value(x) - x * distribution(x)) / size);
    worst_derivative = std::max(worst_derivative, std::abs(gelu{}.derivative(x) - derivative) / size);
  });
  CHECK(worst_value <= 2 * ulp);
  CHECK(worst_derivative <= 2 * ulp);
  for (const double x : {-3.0, -0.5, 0.0, 1e-3, 2.0, 6.0}) {
    CHECK(std::abs(gelu{}.value(x) - x * distribution(x)) <= 4e-16 * (1 + std::abs(x)));
    CHECK(std::abs(gelu{}.derivative(x) - (distribution(x) + x * density(x))) <= 4e-16 * (1 + std::abs(x)));
  }
}

TEST_CASE("swiglu's gate is silu, and its derivative is silu's") {
  double worst_value = 0;
  double worst_derivative = 0;
  for_each_float(100, [&](float x) {
    const double size = 1 + std::abs(x);
    const double derivative = logistic(x) * (1 + x * logistic(-double{x}));
    worst_value = std::max(worst_value, std::abs(swiglu{}.value(x) - x * logistic(x)) / size);
    worst_derivative = std::max(worst_derivative, std::abs(swiglu{}.derivative(x) - derivative) / size);
  });
  CHECK(worst_value <= 2 * ulp);
  CHECK(worst_derivative <= 2 * ulp);
  for (const double x : {-3.0, -0.5, 0.0, 1e-3, 2.0, 6.0}) {
    CHECK(std::abs(swiglu{}.value(x) - x * logistic(x)) <= 4e-16 * (1 + std::abs(x)));
    CHECK(std::abs(swiglu{}.derivative(x) - logistic(x) * (1 + x * logistic(-x))) <= 4e-16 * (1 + std::abs(x)));
  }
}

TEST_CASE("activations of very large hidden units are their limits") {
  for (const float x : {50.0f, 1e4f, 1e20f, 3e38f}) {
    CAPTURE(x);
    CHECK(gelu{}.value(x) == x);
    CHECK(gelu{}.derivative(x) == 1.0f);
    CHECK(std::abs(gelu{}.value(-x)) == 0.0f);
    CHECK(gelu{}.derivative(-x) == 0.0f);
    CHECK(swiglu{}.value(x) == x);
    CHECK(swiglu{}.derivative(x) == 1.0f);
    CHECK(std::abs(swiglu{}.value(-x)) < 1e-19f);
    CHECK(std::abs(swiglu{}.derivative(-x)) < 1e-19f);
  }
}

}  // namespace
