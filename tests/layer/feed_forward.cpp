#include "plain.hpp"

#include <rondo/layer/feed_forward.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <cmath>
#include <concepts>
#include <type_traits>

namespace {

using namespace layer_test;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::Message;
using Catch::Matchers::MessageMatches;
using rondo::feed_forward;
using rondo::FeedForwardWeights;
using rondo::gelu;
using rondo::swiglu;

/// The activation and its derivative, from their definitions.
template <class F, class A>
A function(A x) {
  if constexpr (std::is_same_v<F, gelu>) return x * std::erfc(-x / std::sqrt(A{2})) / 2;
  if constexpr (std::is_same_v<F, swiglu>) return x / (1 + std::exp(-x));
}
template <class F, class A>
A slope(A x) {
  const A pi = std::acos(A{-1});
  const A logistic = 1 / (1 + std::exp(-x));
  if constexpr (std::is_same_v<F, gelu>) {
    return std::erfc(-x / std::sqrt(A{2})) / 2 + x * std::exp(-x * x / 2) / std::sqrt(2 * pi);
  }
  if constexpr (std::is_same_v<F, swiglu>) return logistic * (1 + x * (1 - logistic));
}

/// The whole layer without blocks, in the arithmetic A.
template <class F, class A>
struct Reference {
  Plain<A> out, grad_x, grad_up, grad_gate, grad_down;

  Reference(const Plain<A>& x, const Plain<A>& up, const Plain<A>& gate, const Plain<A>& down, const Plain<A>& grad_out)
      : out(0, 0), grad_x(0, 0), grad_up(0, 0), grad_gate(0, 0), grad_down(0, 0) {
    const Plain<A> a = product(x, up);
    const Plain<A> g = F::gated ? product(x, gate) : a;
    const Plain<A> grad_hidden = product(grad_out, transposed(down));
    Plain<A> hidden = a;
    Plain<A> grad_a = a;
    Plain<A> grad_g = a;
    for (std::size_t i = 0; i < a.values.size(); ++i) {
      const A f = function<F>(g.values[i]);
      const A slope_here = slope<F>(g.values[i]);
      hidden.values[i] = F::gated ? f * a.values[i] : f;
      grad_a.values[i] = grad_hidden.values[i] * (F::gated ? f : slope_here);
      grad_g.values[i] = grad_hidden.values[i] * a.values[i] * slope_here;
    }
    out = product(hidden, down);
    grad_down = product(transposed(hidden), grad_out);
    grad_up = product(transposed(x), grad_a);
    grad_x = product(grad_a, transposed(up));
    if (F::gated) {
      grad_gate = product(transposed(x), grad_g);
      grad_x = added(grad_x, product(grad_g, transposed(gate)));
    }
  }
};

/// Inputs, weights and room for results.
template <class T, class F>
struct Data {
  HostMatrix<T> x, out, grad_out, grad_x;
  FeedForwardWeights<T> weights, gradients;
  HostMatrix<T> up, gate, down, grad_up, grad_gate, grad_down;

  Data(std::int64_t tokens, std::int64_t dim, std::int64_t hidden, std::uint64_t seed) {
    Random random(seed);
    x = random.matrix<T>(tokens, dim, 2);
    grad_out = random.matrix<T>(tokens, dim);
    up = random.matrix<T>(dim, hidden);
    gate = random.matrix<T>(F::gated ? dim : 0, F::gated ? hidden : 0);
    down = random.matrix<T>(hidden, dim);
    out = random.matrix<T>(tokens, dim);     // what is there must not matter
    grad_x = random.matrix<T>(tokens, dim);  // nor here
    grad_up = HostMatrix<T>("grad_up", up.extent(0), up.extent(1));
    grad_gate = HostMatrix<T>("grad_gate", gate.extent(0), gate.extent(1));
    grad_down = HostMatrix<T>("grad_down", down.extent(0), down.extent(1));
    weights = {up, gate, down};
    gradients = {grad_up, grad_gate, grad_down};
  }

  template <class A>
  Reference<F, A> reference() const {
    return {plain<A>(x), plain<A>(up), plain<A>(gate), plain<A>(down), plain<A>(grad_out)};
  }
};

using Models =
    std::tuple<std::pair<float, gelu>, std::pair<float, swiglu>, std::pair<double, gelu>, std::pair<double, swiglu>>;

static_assert(rondo::Real<float> && !rondo::Real<int> && !rondo::Real<long double>);
static_assert(std::convertible_to<FeedForwardWeights<float>, FeedForwardWeights<const float>>);
static_assert(!std::convertible_to<FeedForwardWeights<const float>, FeedForwardWeights<float>>);
static_assert(!std::copy_constructible<feed_forward<float>> && std::movable<feed_forward<float>>);

TEMPLATE_LIST_TEST_CASE("feed_forward is as exact as plain loops in its arithmetic, for any blocks", "", Models) {
  using T = typename TestType::first_type;
  using F = typename TestType::second_type;
  constexpr std::uint64_t seed = 41;
  for (const std::int64_t tokens : {1, 5, 17, 100}) {
    for (const std::int64_t block : {1, 7, 50, 1000}) {
      INFO("seed " << seed << ", tokens " << tokens << ", block_tokens " << block);
      feed_forward<T, F> layer(24, 40, block);
      Errors out("out"), grad_x("grad_x"), grad_up("grad_up"), grad_down("grad_down"), grad_gate("grad_gate");
      for (int draw = 0; draw < draws; ++draw) {
        Data<T, F> data(tokens, 24, 40, seed + 1000 * static_cast<std::uint64_t>(draw));
        const auto exact = data.template reference<long double>();
        const auto loops = data.template reference<T>();
        layer.forward(data.x, data.weights, data.out);
        layer.backward(data.x, data.weights, data.grad_out, data.grad_x, data.gradients);
        out.add(data.out, loops.out, exact.out);
        grad_x.add(data.grad_x, loops.grad_x, exact.grad_x);
        grad_up.add(data.grad_up, loops.grad_up, exact.grad_up);
        grad_down.add(data.grad_down, loops.grad_down, exact.grad_down);
        if (F::gated) grad_gate.add(data.grad_gate, loops.grad_gate, exact.grad_gate);
      }
      for (const Errors* errors : {&out, &grad_x, &grad_up, &grad_down, &grad_gate}) errors->check();
    }
  }
}

TEMPLATE_TEST_CASE("every gradient of feed_forward agrees with central differences", "", gelu, swiglu) {
  constexpr std::uint64_t seed = 43;
  INFO("seed " << seed);
  Data<double, TestType> data(7, 5, 6, seed);
  feed_forward<double, TestType> layer(5, 6, 3);
  layer.backward(data.x, data.weights, data.grad_out, data.grad_x, data.gradients);
  const auto loss = [&] {
    layer.forward(data.x, data.weights, data.out);
    return dot(data.out, data.grad_out);
  };
  check_central_differences("x", data.x, data.grad_x, loss);
  check_central_differences("up", data.up, data.grad_up, loss);
  check_central_differences("down", data.down, data.grad_down, loss);
  if (TestType::gated) check_central_differences("gate", data.gate, data.grad_gate, loss);
}

TEST_CASE("feed_forward adds weight gradients to what is there and overwrites grad_x") {
  Data<double, swiglu> data(9, 4, 6, 45);
  feed_forward<double, swiglu> layer(4, 6, 4);
  layer.backward(data.x, data.weights, data.grad_out, data.grad_x, data.gradients);
  const auto once_x = plain<double>(data.grad_x);
  const auto once_up = plain<double>(data.grad_up);
  const auto once_gate = plain<double>(data.grad_gate);
  const auto once_down = plain<double>(data.grad_down);
  set(data.grad_up, 3);
  set(data.grad_gate, -5);
  set(data.grad_down, 7);
  layer.backward(data.x, data.weights, data.grad_out, data.grad_x, data.gradients);
  for (std::size_t i = 0; i < once_up.values.size(); ++i) {
    CHECK(std::abs(data.grad_up.data()[i] - 3 - once_up.values[i]) < 1e-13);
    CHECK(std::abs(data.grad_gate.data()[i] + 5 - once_gate.values[i]) < 1e-13);
    CHECK(std::abs(data.grad_down.data()[i] - 7 - once_down.values[i]) < 1e-13);
  }
  CHECK(plain<double>(data.grad_x).values == once_x.values);
}

TEST_CASE("feed_forward of no tokens changes nothing") {
  Data<float, swiglu> data(0, 4, 6, 46);
  set(data.grad_up, 3);
  set(data.grad_gate, 3);
  set(data.grad_down, 3);
  feed_forward<float, swiglu> layer(4, 6, 4);
  layer.forward(data.x, data.weights, data.out);
  layer.backward(data.x, data.weights, data.grad_out, data.grad_x, data.gradients);
  for (std::size_t i = 0; i < data.grad_up.size(); ++i) {
    CHECK(data.grad_up.data()[i] == 3);
    CHECK(data.grad_gate.data()[i] == 3);
    CHECK(data.grad_down.data()[i] == 3);
  }
}

TEST_CASE("feed_forward works on columns of wider matrices and touches nothing beside them") {
  Data<double, gelu> data(9, 4, 6, 47);
  HostMatrix<double> wide("wide", 9, 11);
  set(wide, 99);
  const auto x = Kokkos::subview(wide, Kokkos::ALL, std::pair{1, 5});
  const auto out = Kokkos::subview(wide, Kokkos::ALL, std::pair{5, 9});
  for (int i = 0; i < 9; ++i) {
    for (int j = 0; j < 4; ++j) x(i, j) = data.x(i, j);
  }
  feed_forward<double, gelu> layer(4, 6, 4);
  layer.forward(x, data.weights, out);
  CHECK(largest_error(plain<double>(out), data.reference<long double>().out) < 1e-14);
  CHECK(plain<double>(x).values == plain<double>(data.x).values);
  for (int i = 0; i < 9; ++i) {
    for (const int j : {0, 9, 10}) CHECK(wide(i, j) == 99);
  }
}

TEST_CASE("feed_forward gives the same bits every time") {
  Data<float, swiglu> data(100, 24, 40, 48);
  feed_forward<float, swiglu> layer(24, 40, 32);
  layer.forward(data.x, data.weights, data.out);
  const auto first = plain<float>(data.out);
  layer.backward(data.x, data.weights, data.grad_out, data.grad_x, data.gradients);
  const auto first_grad = plain<float>(data.grad_up);
  set(data.grad_up, 0);
  layer.forward(data.x, data.weights, data.out);
  layer.backward(data.x, data.weights, data.grad_out, data.grad_x, data.gradients);
  CHECK(plain<float>(data.out).values == first.values);
  CHECK(plain<float>(data.grad_up).values == first_grad.values);
}

TEST_CASE("NaN in a row of x reaches that row of out and of grad_x only") {
  Data<float, swiglu> data(10, 4, 6, 49);
  data.x(3, 1) = std::nanf("");
  feed_forward<float, swiglu> layer(4, 6, 4);
  layer.forward(data.x, data.weights, data.out);
  layer.backward(data.x, data.weights, data.grad_out, data.grad_x, data.gradients);
  for (int token = 0; token < 10; ++token) {
    CAPTURE(token);
    CHECK(std::isnan(data.out(token, 0)) == (token == 3));
    CHECK(std::isnan(data.grad_x(token, 0)) == (token == 3));
  }
}

/// A user's own activation: max(x, 0)².
struct squared_relu {
  static constexpr bool gated = false;
  template <class T>
  T value(T x) const {
    return x > 0 ? x * x : T{0};
  }
  template <class T>
  T derivative(T x) const {
    return x > 0 ? 2 * x : T{0};
  }
};

TEST_CASE("feed_forward takes an activation of the user's own") {
  Data<double, squared_relu> data(7, 5, 6, 50);
  feed_forward<double, squared_relu> layer(5, 6, 3);
  layer.backward(data.x, data.weights, data.grad_out, data.grad_x, data.gradients);
  const auto loss = [&] {
    layer.forward(data.x, data.weights, data.out);
    return dot(data.out, data.grad_out);
  };
  check_central_differences("x", data.x, data.grad_x, loss);
  check_central_differences("up", data.up, data.grad_up, loss);
  check_central_differences("down", data.down, data.grad_down, loss);
}

TEST_CASE("feed_forward refuses sizes below one") {
  CHECK_THROWS_MATCHES((feed_forward<float>(0, 6, 4)), rondo::argument_error,
                       Message("feed_forward: dim is 0, it must be at least 1"));
  CHECK_THROWS_MATCHES((feed_forward<float>(4, -6, 4)), rondo::argument_error,
                       Message("feed_forward: hidden is -6, it must be at least 1"));
  CHECK_THROWS_MATCHES((feed_forward<float>(4, 6, 0)), rondo::argument_error,
                       Message("feed_forward: block_tokens is 0, it must be at least 1"));
}

TEST_CASE("feed_forward refuses shapes that do not fit, with numbers") {
  Data<float, swiglu> data(9, 4, 6, 51);
  feed_forward<float, swiglu> layer(4, 6, 4);
  const HostMatrix<float> narrow("narrow", 9, 3);
  const HostMatrix<float> short_one("short", 8, 4);
  const auto refuses = [&](auto&& call, const char* text) {
    CHECK_THROWS_MATCHES(call(), rondo::shape_error, Message(text));
  };
  refuses([&] { layer.forward(narrow, data.weights, data.out); },
          "feed_forward: x has shape [9, 3], needed is [tokens, dim] = [9, 4]");
  refuses([&] { layer.forward(data.x, data.weights, short_one); },
          "feed_forward: out has shape [8, 4], needed is [tokens, dim] = [9, 4]");
  auto weights = data.weights;
  weights.up = narrow;
  refuses([&] { layer.forward(data.x, weights, data.out); },
          "feed_forward: up has shape [9, 3], needed is [dim, hidden] = [4, 6]");
  weights = data.weights;
  weights.gate = {};
  refuses([&] { layer.forward(data.x, weights, data.out); },
          "feed_forward: gate has shape [0, 0], needed is [dim, hidden] = [4, 6]");
  weights = data.weights;
  weights.down = data.up;
  refuses([&] { layer.forward(data.x, weights, data.out); },
          "feed_forward: down has shape [4, 6], needed is [hidden, dim] = [6, 4]");
  const auto backward = [&](const auto& grad_out, const auto& grad_x, const FeedForwardWeights<float>& gradients) {
    return [&] { layer.backward(data.x, data.weights, grad_out, grad_x, gradients); };
  };
  refuses(backward(short_one, data.grad_x, data.gradients),
          "feed_forward: grad_out has shape [8, 4], needed is [tokens, dim] = [9, 4]");
  refuses(backward(data.grad_out, narrow, data.gradients),
          "feed_forward: grad_x has shape [9, 3], needed is [tokens, dim] = [9, 4]");
  auto gradients = data.gradients;
  gradients.gate = narrow;
  refuses(backward(data.grad_out, data.grad_x, gradients),
          "feed_forward: grad_gate has shape [9, 3], needed is [dim, hidden] = [4, 6]");
  feed_forward<float, gelu> without_gate(4, 6, 4);
  refuses([&] { without_gate.forward(data.x, data.weights, data.out); },
          "feed_forward: gate has shape [4, 6], but this activation has no gate: leave it empty");
}

TEST_CASE("feed_forward refuses results that share memory with inputs") {
  Data<float, gelu> data(9, 4, 6, 52);
  feed_forward<float, gelu> layer(4, 6, 4);
  const auto shares = [](const char* text) { return MessageMatches(ContainsSubstring(text)); };
  CHECK_THROWS_MATCHES(layer.forward(data.x, data.weights, data.x), rondo::argument_error,
                       shares("feed_forward: out at 0x") && shares("shares memory with x at 0x"));
  CHECK_THROWS_MATCHES(layer.backward(data.x, data.weights, data.grad_out, data.x, data.gradients),
                       rondo::argument_error, shares("grad_x at 0x") && shares("shares memory with x at 0x"));
  CHECK_THROWS_MATCHES(layer.backward(data.x, data.weights, data.grad_out, data.grad_out, data.gradients),
                       rondo::argument_error, shares("grad_x at 0x") && shares("shares memory with grad_out at 0x"));
}

TEST_CASE("a result is untouched when input is refused") {
  Data<float, gelu> data(9, 4, 6, 53);
  feed_forward<float, gelu> layer(4, 6, 4);
  const auto before = plain<float>(data.out);
  auto weights = data.weights;
  weights.down = data.up;
  CHECK_THROWS_AS(layer.forward(data.x, weights, data.out), rondo::shape_error);
  CHECK(plain<float>(data.out).values == before.values);
}

}  // namespace
