#include "plain.hpp"

#include <rondo/layer/cross_entropy.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <cmath>
#include <concepts>
#include <limits>

namespace {

using namespace layer_test;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::Message;
using Catch::Matchers::MessageMatches;
using rondo::cross_entropy;

using Targets = Kokkos::View<std::int32_t*, Kokkos::HostSpace>;

/// Losses and gradients without blocks, in the arithmetic A.
template <class A>
struct Reference {
  Plain<A> losses, grad_x, grad_weight;

  Reference(const Plain<A>& x, const Plain<A>& weight, const Targets& targets, A scale)
      : losses(1, x.rows), grad_x(0, 0), grad_weight(0, 0) {
    Plain<A> logits = product(x, transposed(weight));
    Plain<A> grad_logits(x.rows, weight.rows);
    for (std::int64_t token = 0; token < x.rows; ++token) {
      if (targets(token) < 0) continue;
      A largest = logits(token, 0);
      for (std::int64_t j = 0; j < weight.rows; ++j) largest = std::max(largest, logits(token, j));
      A sum = 0;
      for (std::int64_t j = 0; j < weight.rows; ++j) sum += std::exp(logits(token, j) - largest);
      losses(0, token) = std::log(sum) + (largest - logits(token, targets(token)));
      for (std::int64_t j = 0; j < weight.rows; ++j) {
        const A p = std::exp(logits(token, j) - largest) / sum;
        grad_logits(token, j) = scale * (p - (j == targets(token) ? 1 : 0));
      }
    }
    grad_x = product(grad_logits, weight);
    grad_weight = product(transposed(grad_logits), x);
  }
};

template <class T>
struct Data {
  HostMatrix<T> x, weight, grad_x, grad_weight;
  HostVector<T> losses;
  Targets targets;
  double scale = 0.37;

  /// Every `ignored`-th token has no target; 0: every token has one.
  Data(std::int64_t tokens, std::int64_t dim, std::int64_t vocab, std::uint64_t seed, std::int64_t ignored = 5) {
    Random random(seed);
    x = random.matrix<T>(tokens, dim, 3);
    weight = random.matrix<T>(vocab, dim);
    grad_x = random.matrix<T>(tokens, dim);
    losses = random.vector<T>(tokens);
    targets = Targets("targets", static_cast<std::size_t>(tokens));
    grad_weight = HostMatrix<T>("grad_weight", weight.extent(0), weight.extent(1));
    for (std::int64_t token = 0; token < tokens; ++token) {
      const bool counts = ignored == 0 || token % ignored != ignored - 1;
      targets(token) = counts ? static_cast<std::int32_t>((random.number() + 1) / 2 * static_cast<double>(vocab)) : -1;
    }
  }

  template <class A>
  Reference<A> reference() const {
    return {plain<A>(x), plain<A>(weight), targets, static_cast<A>(scale)};
  }
};

long double sum_of(const Plain<long double>& a) {
  long double sum = 0;
  for (const long double value : a.values) sum += value;
  return sum;
}

static_assert(!std::copy_constructible<cross_entropy<float>> && std::movable<cross_entropy<float>>);

TEMPLATE_TEST_CASE("cross_entropy is as exact as plain loops in its arithmetic, for any blocks", "", float, double) {
  constexpr std::uint64_t seed = 81;
  constexpr std::int64_t vocab = 37;
  for (const std::int64_t tokens : {1, 5, 17, 60}) {
    for (const std::int64_t block_tokens : {1, 7, 100}) {
      for (const std::int64_t block_vocab : {1, 10, 37, 1000}) {
        INFO("seed " << seed << ", tokens " << tokens << ", blocks " << block_tokens << " × " << block_vocab);
        cross_entropy<TestType> layer(24, vocab, block_tokens, block_vocab);
        Errors losses("losses"), grad_x("grad_x"), grad_weight("grad_weight");
        for (int draw = 0; draw < draws; ++draw) {
          Data<TestType> data(tokens, 24, vocab, seed + 1000 * static_cast<std::uint64_t>(draw));
          const auto exact = data.template reference<long double>();
          const auto loops = data.template reference<TestType>();
          const auto forward = layer.forward(data.x, data.weight, data.targets, data.losses);
          layer.backward(data.x, data.weight, data.targets, data.scale, data.grad_x, data.grad_weight);
          losses.add(data.losses, loops.losses, exact.losses);
          grad_x.add(data.grad_x, loops.grad_x, exact.grad_x);
          grad_weight.add(data.grad_weight, loops.grad_weight, exact.grad_weight);
          CHECK(forward.count == tokens - tokens / 5);
          const long double rounding = 8 * std::numeric_limits<TestType>::epsilon();
          const long double sum = sum_of(plain<long double>(data.losses));
          CHECK(std::abs(forward.sum - sum) <= rounding * sum);
        }
        for (const Errors* errors : {&losses, &grad_x, &grad_weight}) errors->check();
      }
    }
  }
}

TEST_CASE("every gradient of cross_entropy agrees with central differences") {
  constexpr std::uint64_t seed = 82;
  INFO("seed " << seed);
  for (const std::int64_t block_vocab : {4, 9}) {
    Data<double> data(8, 5, 9, seed);
    cross_entropy<double> layer(5, 9, 3, block_vocab);
    layer.backward(data.x, data.weight, data.targets, data.scale, data.grad_x, data.grad_weight);
    const auto loss = [&] { return data.scale * layer.forward(data.x, data.weight, data.targets).sum; };
    check_central_differences("x", data.x, data.grad_x, loss);
    check_central_differences("weight", data.weight, data.grad_weight, loss);
  }
}

TEST_CASE("forward_backward gives what forward and backward give") {
  for (const std::int64_t block_vocab : {10, 37}) {
    Data<float> data(60, 24, 37, 83);
    cross_entropy<float> layer(24, 37, 16, block_vocab);
    const auto forward = layer.forward(data.x, data.weight, data.targets, data.losses);
    layer.backward(data.x, data.weight, data.targets, data.scale, data.grad_x, data.grad_weight);
    const auto losses = plain<float>(data.losses);
    const auto grad_x = plain<float>(data.grad_x);
    const auto grad_weight = plain<float>(data.grad_weight);
    set(data.grad_weight, 0);
    set(data.losses, 99);
    const auto both = layer.forward_backward(data.x, data.weight, data.targets, data.scale, data.grad_x,
                                             data.grad_weight, data.losses);
    CHECK(both.sum == forward.sum);
    CHECK(both.count == forward.count);
    CHECK(plain<float>(data.losses).values == losses.values);
    CHECK(plain<float>(data.grad_x).values == grad_x.values);
    CHECK(plain<float>(data.grad_weight).values == grad_weight.values);
  }
}

TEST_CASE("a model that knows nothing loses ln(vocab) nats a token") {
  Data<float> data(10, 8, 256, 84, 0);
  set(data.weight, 0);
  cross_entropy<float> layer(8, 256, 4, 100);
  const auto loss = layer.forward(data.x, data.weight, data.targets);
  CHECK(loss.count == 10);
  CHECK(std::abs(loss.mean() - std::log(256.0)) < 1e-6);
}

TEST_CASE("logits of hundreds neither overflow nor lose the loss") {
  Data<float> data(2, 1, 3, 85, 0);
  const float hidden[] = {500, -500};
  const float classes[] = {1, 0.5f, -1};
  for (int token = 0; token < 2; ++token) data.x(token, 0) = hidden[token];
  for (int j = 0; j < 3; ++j) data.weight(j, 0) = classes[j];
  set(data.targets, 1);
  for (const std::int64_t block_vocab : {1, 2, 3}) {
    cross_entropy<float> layer(1, 3, 2, block_vocab);
    layer.forward(data.x, data.weight, data.targets, data.losses);
    CHECK(data.losses(0) == 250);
    CHECK(data.losses(1) == 750);
  }
}

TEST_CASE("ignored tokens add nothing and their rows are not read") {
  Data<float> data(20, 24, 37, 86, 3);
  const auto exact = data.reference<long double>();
  for (int token = 2; token < 20; token += 3) {
    for (int i = 0; i < 24; ++i) data.x(token, i) = std::nanf("");
  }
  cross_entropy<float> layer(24, 37, 7, 16);
  const auto loss =
      layer.forward_backward(data.x, data.weight, data.targets, data.scale, data.grad_x, data.grad_weight, data.losses);
  CHECK(loss.count == 14);
  CHECK(largest_error(plain<float>(data.grad_weight), exact.grad_weight) < 1e-5);
  for (int token = 2; token < 20; token += 3) {
    CHECK(data.losses(token) == 0);
    for (int i = 0; i < 24; ++i) CHECK(data.grad_x(token, i) == 0);
  }
}

TEST_CASE("tokens that are all ignored, or none at all, change no gradient and lose nothing") {
  for (const std::int64_t tokens : {0, 9}) {
    Data<float> data(tokens, 4, 6, 87, 1);
    set(data.grad_weight, 3);
    cross_entropy<float> layer(4, 6, 4, 4);
    const auto loss =
        layer.forward_backward(data.x, data.weight, data.targets, data.scale, data.grad_x, data.grad_weight);
    CHECK(loss.sum == 0);
    CHECK(loss.count == 0);
    CHECK(loss.mean() == 0);
    for (std::size_t i = 0; i < data.grad_weight.span(); ++i) CHECK(data.grad_weight.data()[i] == 3);
    for (std::size_t i = 0; i < data.grad_x.span(); ++i) CHECK(data.grad_x.data()[i] == 0);
  }
}

TEST_CASE("cross_entropy adds the weight gradient to what is there and overwrites grad_x") {
  Data<double> data(20, 24, 37, 88);
  cross_entropy<double> layer(24, 37, 7, 16);
  const auto exact = data.reference<long double>();
  set(data.grad_weight, -4);
  layer.backward(data.x, data.weight, data.targets, data.scale, data.grad_x, data.grad_weight);
  auto given = plain<double>(data.grad_weight);
  for (double& value : given.values) value += 4;
  CHECK(largest_error(given, exact.grad_weight) < 1e-13);
  CHECK(largest_error(plain<double>(data.grad_x), exact.grad_x) < 1e-13);
}

TEST_CASE("NaN in a row of x reaches that token's loss and that row of grad_x only") {
  Data<float> data(10, 8, 12, 89, 0);
  data.x(3, 1) = std::nanf("");
  for (const std::int64_t block_vocab : {5, 12}) {
    cross_entropy<float> layer(8, 12, 4, block_vocab);
    layer.forward_backward(data.x, data.weight, data.targets, data.scale, data.grad_x, data.grad_weight, data.losses);
    for (int token = 0; token < 10; ++token) {
      CAPTURE(token, block_vocab);
      CHECK(std::isnan(data.losses(token)) == (token == 3));
      CHECK(std::isnan(data.grad_x(token, 0)) == (token == 3));
    }
  }
}

TEST_CASE("losses of several calls add up") {
  rondo::LossSum total;
  total += {3.0, 2};
  total += {1.0, 2};
  CHECK(total.sum == 4);
  CHECK(total.count == 4);
  CHECK(total.mean() == 1);
}

TEST_CASE("cross_entropy refuses sizes below one") {
  CHECK_THROWS_MATCHES(cross_entropy<float>(0, 6, 4, 4), rondo::argument_error,
                       Message("cross_entropy: dim is 0, it must be at least 1"));
  CHECK_THROWS_MATCHES(cross_entropy<float>(4, 0, 4, 4), rondo::argument_error,
                       Message("cross_entropy: vocab is 0, it must be at least 1"));
  CHECK_THROWS_MATCHES(cross_entropy<float>(4, 6, -1, 4), rondo::argument_error,
                       Message("cross_entropy: block_tokens is -1, it must be at least 1"));
  CHECK_THROWS_MATCHES(cross_entropy<float>(4, 6, 4, 0), rondo::argument_error,
                       Message("cross_entropy: block_vocab is 0, it must be at least 1"));
}

TEST_CASE("cross_entropy refuses a target outside the vocabulary before it writes anything") {
  Data<float> data(9, 4, 6, 90, 0);
  data.targets(7) = 6;
  cross_entropy<float> layer(4, 6, 4, 4);
  const auto grad_x = plain<float>(data.grad_x);
  CHECK_THROWS_MATCHES(layer.forward(data.x, data.weight, data.targets), rondo::argument_error,
                       Message("cross_entropy: targets[7] is 6, the vocabulary has 6 entries"));
  CHECK_THROWS_AS(layer.backward(data.x, data.weight, data.targets, 1, data.grad_x, data.grad_weight),
                  rondo::argument_error);
  CHECK(plain<float>(data.grad_x).values == grad_x.values);
}

TEST_CASE("cross_entropy refuses what does not fit, with numbers") {
  Data<float> data(9, 4, 6, 91);
  cross_entropy<float> layer(4, 6, 4, 4);
  const HostMatrix<float> narrow("narrow", 9, 3);
  const HostVector<float> small("small", 3);
  const Targets few("few", 8);
  const auto refuses = [](auto&& call, const char* text) {
    CHECK_THROWS_MATCHES(call(), rondo::shape_error, Message(text));
  };
  refuses([&] { layer.forward(narrow, data.weight, data.targets); },
          "cross_entropy: x has shape [9, 3], needed is [tokens, dim] = [9, 4]");
  refuses([&] { layer.forward(data.x, narrow, data.targets); },
          "cross_entropy: weight has shape [9, 3], needed is [vocab, dim] = [6, 4]");
  refuses([&] { layer.forward(data.x, data.weight, few); },
          "cross_entropy: targets has shape [8], needed is [tokens] = [9]");
  refuses([&] { layer.forward(data.x, data.weight, data.targets, small); },
          "cross_entropy: losses has shape [3], needed is [tokens] = [9]");
  refuses([&] { layer.backward(data.x, data.weight, data.targets, 1, narrow, data.grad_weight); },
          "cross_entropy: grad_x has shape [9, 3], needed is [tokens, dim] = [9, 4]");
  refuses([&] { layer.backward(data.x, data.weight, data.targets, 1, data.grad_x, narrow); },
          "cross_entropy: grad_weight has shape [9, 3], needed is [vocab, dim] = [6, 4]");
  CHECK_THROWS_MATCHES(layer.backward(data.x, data.weight, data.targets, 1, data.x, data.grad_weight),
                       rondo::argument_error,
                       MessageMatches(ContainsSubstring("cross_entropy: grad_x at 0x") &&
                                      ContainsSubstring("shares memory with x at 0x")));
  CHECK_THROWS_MATCHES(layer.backward(data.x, data.weight, data.targets, std::numeric_limits<double>::infinity(),
                                      data.grad_x, data.grad_weight),
                       rondo::argument_error, Message("cross_entropy: scale is inf, it must be finite"));
}

}  // namespace
