// The gradient of the whole model, against finite differences in double, on several ranks.
#include "../../examples/train/data.hpp"
#include "../../examples/train/trainer.hpp"
#include "block_memory.hpp"

#include <support/layouts.hpp>

#include <rondo/rondo.hpp>

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace {

using namespace rondo::test;

constexpr std::int64_t context = 23;

/// Of one tensor, the slope of the loss along a direction: as the gradient says it, and as differences of the loss.
struct Slope {
  std::string tensor;
  double of_gradient;
  double measured;
};

std::vector<Slope> slopes(bool tied) {
  train::Recipe recipe;
  recipe.model = {.layers = 2, .heads = 4, .kv_heads = 2, .dim = 16, .hidden = 20, .tied = tied};
  recipe.context = context;
  std::vector<std::uint8_t> text(context + 1);
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<std::uint8_t>(train::random_bits(5, 1, i) % 11);
  std::vector<Slope> result;
  rondo::in_process_group<Kokkos::DefaultHostExecutionSpace>(3, {.deadline = rondo::Deadline{60}}).run([&](auto& comm) {
    using Comm = std::remove_reference_t<decltype(comm)>;
    using Kernel = rondo::default_kernel<double, typename Comm::execution_space>;
    train::Trainer<Comm, Kernel> trainer(comm, recipe, sharding_of(Layout::zigzag, context));
    trainer.loss_and_gradient(text);
    const auto& weights = trainer.weights();
    for (const train::TensorPlace& place : trainer.layout().tensors()) {
      const auto direction = [&](std::int64_t i) {
        return 2 * train::random_unit(9, static_cast<std::uint64_t>(place.offset), static_cast<std::uint64_t>(i)) - 1;
      };
      Slope slope{place.name, 0, 0};
      constexpr double epsilon = 1e-6;
      for (const double sign : {1.0, -1.0}) {
        const std::vector<double> before(weights.data(), weights.data() + weights.size());
        for (std::int64_t i = 0; i < place.rows * place.columns; ++i)
          weights(place.offset + i) += sign * epsilon * direction(i);
        slope.measured += sign * trainer.loss(text) / (2 * epsilon);
        std::copy(before.begin(), before.end(), weights.data());
      }
      for (std::int64_t i = 0; i < place.rows * place.columns; ++i) {
        slope.of_gradient += trainer.gradient()(place.offset + i) * direction(i);
      }
      if (comm.rank() == 0) result.push_back(slope);
    }
  });
  return result;
}

}  // namespace

TEST_CASE("the gradient of every tensor of the model is the slope of the loss") {
  for (const bool tied : {false, true}) {
    const std::vector<Slope> all = slopes(tied);
    REQUIRE(all.size() == (tied ? 24 : 25));
    for (const Slope& slope : all) {
      INFO((tied ? "tied, " : "untied, ")
           << slope.tensor << ": " << slope.of_gradient << " against " << slope.measured);
      CHECK(std::abs(slope.of_gradient - slope.measured) <= 1e-8 + 1e-6 * std::abs(slope.measured));
      CHECK(std::abs(slope.measured) > 1e-6);
    }
  }
}

TEST_CASE(
    "in double a rank's activations are the plan's to the byte at every number of ranks, whatever is computed again") {
  check_block_memory<double>();
}

TEST_CASE("the first half of the heads starts with a preference for the last bytes") {
  const train::ModelShape shape{.layers = 1, .heads = 4, .kv_heads = 4, .dim = 128, .hidden = 8};
  const std::int64_t head_dim = shape.head_dim();
  // Scores of biases alone, by the definition of rope: pairs turned by position times frequency.
  const auto score = [&](int head, std::int64_t distance) {
    double sum = 0;
    for (std::int64_t pair = 0; pair < head_dim / 2; ++pair) {
      const double q0 = train::look_back(shape, head * head_dim + 2 * pair, 3);
      const double q1 = train::look_back(shape, head * head_dim + 2 * pair + 1, 3);
      const double angle = static_cast<double>(distance) *
                           std::pow(10000, -2.0 * static_cast<double>(pair) / static_cast<double>(head_dim));
      sum += 3 * ((q0 * std::cos(angle) - q1 * std::sin(angle)) + (q0 * std::sin(angle) + q1 * std::cos(angle)));
    }
    return sum / std::sqrt(static_cast<double>(head_dim));
  };
  for (int head = 0; head < 2; ++head) {
    for (std::int64_t distance = 0; distance < 9000; ++distance) {
      if (distance != head + 1) CHECK(score(head, distance) < score(head, head + 1) - 1.5);
    }
  }
  for (const int head : {2, 3}) CHECK(score(head, 5) == 0);
}
