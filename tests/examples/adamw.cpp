#include "../../examples/train/adamw.hpp"

#include <catch2/catch_approx.hpp>
#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <vector>

namespace {

/// Algorithm 2 of arXiv 1711.05101 for one number, as it stands there, in long double.
struct PlainAdamW {
  long double w, m = 0, v = 0;

  void step(int t, long double g, long double rate, long double decay) {
    m = 0.9L * m + 0.1L * g;
    v = 0.95L * v + 0.05L * g * g;
    const long double m_hat = m / (1 - std::pow(0.9L, t));
    const long double v_hat = v / (1 - std::pow(0.95L, t));
    w -= rate * (m_hat / (std::sqrt(v_hat) + 1e-8L) + decay * w);
  }
};

}  // namespace

TEST_CASE("AdamW makes the steps of the paper, decays matrices alone, and clips the norm of the gradient") {
  const train::ParameterLayout layout({.layers = 1, .heads = 1, .kv_heads = 1, .dim = 2, .hidden = 3});
  const auto size = static_cast<std::size_t>(layout.size());
  train::AdamWOptions options;
  options.warmup = 3;
  const auto weights = train::make_flat<double>("weights", layout.size());
  const auto gradient = train::make_flat<double>("gradient", layout.size());
  train::AdamW<double> optimiser(layout, options);
  std::vector<PlainAdamW> plain(size);
  for (std::size_t i = 0; i < size; ++i) {
    weights(i) = 2 * train::random_unit(1, 1, i) - 1;
    plain[i].w = weights(i);
  }
  constexpr int steps = 7;
  for (int step = 0; step < steps; ++step) {
    long double squares = 0;
    for (const train::TensorPlace& place : layout.tensors()) {
      for (std::int64_t i = place.offset; i < place.offset + place.rows * place.columns; ++i) {
        // Small gradients in the first steps, which are not clipped, large ones later.
        const double size_of_step = step < 3 ? 1e-3 : 10.0;
        gradient(i) = size_of_step *
                      (2 * train::random_unit(2, static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(i)) - 1);
        squares += static_cast<long double>(gradient(i)) * gradient(i);
      }
    }
    const long double norm = std::sqrt(squares);
    REQUIRE((step < 3) == (norm < 1));
    CHECK(optimiser.step(step, steps, weights, gradient) == Catch::Approx(static_cast<double>(norm)));

    // Risen after three steps; from 1 to 0.1 of itself along half a cosine.
    const long double cosine = (1 + std::cos(std::numbers::pi_v<long double> * step / steps)) / 2;
    const long double rate = 4e-3L * (step < 3 ? (step + 1) / 3.0L : 1.0L) * (0.1L + 0.9L * cosine);
    for (const train::TensorPlace& place : layout.tensors()) {
      INFO(place.name << ", step " << step);
      for (std::int64_t i = place.offset; i < place.offset + place.rows * place.columns; ++i) {
        PlainAdamW& expected = plain[static_cast<std::size_t>(i)];
        expected.step(step + 1, gradient(i) / (norm > 1 ? norm : 1.0L), rate, place.rows > 1 ? 0.1L : 0.0L);
        CHECK(std::abs(weights(i) - static_cast<double>(expected.w)) < 1e-12);
      }
    }
  }
}
