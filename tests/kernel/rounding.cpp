/// \file
/// Where rounding must not add up: in lse of large scores, and in the gradient of a query that sees a single key.
#include <kernel/kernel.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace rondo::test {
namespace {

/// Every query sees the key at its own position.
constexpr window own_key{0, 0};

template <class T>
double largest_lse_error_in_ulps(double scale) {
  const Extents extents{.batch = 1, .heads = 2, .kv_heads = 2, .head_dim = 1, .tokens = 60};
  auto in = random_inputs<T>(extents);
  for (int i = 0; i < extents.tokens; ++i) {
    for (int h = 0; h < extents.heads; ++h) in.q(0, i, h, 0) = T(i + 1), in.k(0, i, h, 0) = T(h == 0 ? 3 : -5);
  }
  const auto results = kernel_attention<TestedKernel<T>>(in, {}, Problem{own_key, unmodified{}, scale});
  long double largest = 0;
  for (int i = 0; i < extents.tokens; ++i) {
    for (int h = 0; h < extents.heads; ++h) {
      const long double exact = static_cast<long double>(scale) * (i + 1) * (h == 0 ? 3 : -5);
      if (std::abs(exact) < 8) continue;  // of small scores, the sum's own rounding is worth digits of its logarithm
      const auto rounded = static_cast<T>(exact);
      const long double ulp = std::nextafter(std::abs(rounded), std::numeric_limits<T>::infinity()) - std::abs(rounded);
      largest = std::max(largest, std::abs(results.lse(0, i, h, 0) - exact) / ulp);
    }
  }
  return static_cast<double>(largest);
}

template <class T, class P>
double largest_gradient(const P& problem, int head_dim) {
  const Extents extents{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = head_dim, .tokens = 70};
  const auto results = kernel_attention<TestedKernel<T>>(random_inputs<T>(extents), {}, problem);
  double largest = 0;
  for (const auto* gradient : {&results.grad_q, &results.grad_k}) {
    for (const double x : gradient->values()) largest = std::isnan(x) ? x : std::max(largest, std::abs(x));
  }
  return largest;
}

TEST_CASE("lse of large scores is rounded about once, whatever the scale") {
  for (const double scale : {0.31, 0.7, 1.0, 1.1, 3.3, 0.13}) {
    INFO(kernel_name() << ", scale " << scale);
    CHECK(largest_lse_error_in_ulps<float>(scale) < 0.55);
    CHECK(largest_lse_error_in_ulps<double>(scale) < 0.55);
  }
}

TEST_CASE("the scores of a query that sees a single key have no gradient, to the bit") {
  for (const int head_dim : {1, 7, 40, 64, 128, 200}) {
    INFO(kernel_name() << ", head_dim " << head_dim);
    CHECK(largest_gradient<float>(Problem{own_key, softcap{1.5}}, head_dim) == 0);
    CHECK(largest_gradient<double>(Problem{own_key, softcap{1.5}}, head_dim) == 0);
  }
}

#ifndef RONDO_TEST_PORTABLE
TEST_CASE("a precise product keeps the digits that its terms cancel") {
  for (const int count : {1, 4, 16, 40, 130}) {
    std::vector<double> a, b;
    long double exact = 0;
    for (int d = 0; d < count; ++d) {
      // Pairs that cancel but for a little, which plain sums lose.
      const double x = std::sin(1.0 + d / 2);
      a.push_back(d % 2 == 0 ? x * 1e6 : -x * 1e6);
      b.push_back(d % 2 == 0 ? 1 + 1e-14 * d : 1);
      exact += static_cast<long double>(a.back()) * b.back();
    }
    const host::Row<const double> first{a.data(), 1, count}, second{b.data(), 1, count};
    INFO(count << " elements");
    CHECK(std::abs(host::precise_product<double>(first, second) - exact) <= 1e-15L * std::abs(exact) + 5e-12L);
  }
}
#endif

}  // namespace
}  // namespace rondo::test
