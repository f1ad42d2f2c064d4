#include "plain.hpp"

#include <rondo/layer/rms_norm.hpp>

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
using rondo::rms_norm;

constexpr double epsilon = 1e-3;

/// The layer and its gradients in the arithmetic A. With y_i = w_i·x_i·r and r = (Σ x²/n + ε)^(-1/2):
/// dy_i/dx_j = w_i·r·[i = j] - w_i·x_i·x_j·r³/n.
template <class A>
struct Reference {
  Plain<A> out, grad_x, grad_weight;

  Reference(const Plain<A>& x, const Plain<A>& weight, const Plain<A>& grad_out)
      : out(x.rows, x.columns), grad_x(x.rows, x.columns), grad_weight(1, x.columns) {
    const A n = static_cast<A>(x.columns);
    for (std::int64_t token = 0; token < x.rows; ++token) {
      A squares = 0;
      for (std::int64_t i = 0; i < x.columns; ++i) squares += x(token, i) * x(token, i);
      const A r = 1 / std::sqrt(squares / n + static_cast<A>(epsilon));
      for (std::int64_t i = 0; i < x.columns; ++i) {
        out(token, i) = weight(0, i) * x(token, i) * r;
        grad_weight(0, i) += grad_out(token, i) * x(token, i) * r;
        grad_x(token, i) += grad_out(token, i) * weight(0, i) * r;
        for (std::int64_t j = 0; j < x.columns; ++j) {
          grad_x(token, j) -= grad_out(token, i) * weight(0, i) * x(token, i) * x(token, j) * r * r * r / n;
        }
      }
    }
  }
};

template <class T>
struct Data {
  HostMatrix<T> x, out, grad_out, grad_x;
  HostVector<T> weight, grad_weight;

  Data(std::int64_t tokens, std::int64_t dim, std::uint64_t seed) {
    Random random(seed);
    x = random.matrix<T>(tokens, dim, 2);
    grad_out = random.matrix<T>(tokens, dim);
    weight = random.vector<T>(dim);
    out = random.matrix<T>(tokens, dim);
    grad_x = random.matrix<T>(tokens, dim);
    grad_weight = HostVector<T>("grad_weight", static_cast<std::size_t>(dim));
  }

  template <class A>
  Reference<A> reference() const {
    return {plain<A>(x), plain<A>(weight), plain<A>(grad_out)};
  }
};

static_assert(!std::copy_constructible<rms_norm<float>> && std::movable<rms_norm<float>>);

TEMPLATE_TEST_CASE("rms_norm is as exact as plain loops in its arithmetic", "", float, double) {
  constexpr std::uint64_t seed = 61;
  for (const std::int64_t tokens : {1, 5, 17, 100}) {
    for (const std::int64_t dim : {3, 7, 64}) {
      INFO("seed " << seed << ", tokens " << tokens << ", dim " << dim);
      rms_norm<TestType> layer(dim, epsilon);
      Errors out("out"), grad_x("grad_x"), grad_weight("grad_weight");
      for (int draw = 0; draw < draws; ++draw) {
        Data<TestType> data(tokens, dim, seed + 1000 * static_cast<std::uint64_t>(draw));
        const auto exact = data.template reference<long double>();
        const auto loops = data.template reference<TestType>();
        layer.forward(data.x, data.weight, data.out);
        layer.backward(data.x, data.weight, data.grad_out, data.grad_x, data.grad_weight);
        out.add(data.out, loops.out, exact.out);
        grad_x.add(data.grad_x, loops.grad_x, exact.grad_x);
        grad_weight.add(data.grad_weight, loops.grad_weight, exact.grad_weight);
      }
      for (const Errors* errors : {&out, &grad_x, &grad_weight}) errors->check();
    }
  }
}

TEST_CASE("every gradient of rms_norm agrees with central differences") {
  constexpr std::uint64_t seed = 62;
  INFO("seed " << seed);
  Data<double> data(6, 5, seed);
  rms_norm<double> layer(5, epsilon);
  layer.backward(data.x, data.weight, data.grad_out, data.grad_x, data.grad_weight);
  const auto loss = [&] {
    layer.forward(data.x, data.weight, data.out);
    return dot(data.out, data.grad_out);
  };
  check_central_differences("x", data.x, data.grad_x, loss);
  check_central_differences("weight", data.weight, data.grad_weight, loss);
}

TEST_CASE("a row normalised with weight one has mean square one, whatever its size") {
  Data<float> data(3, 64, 63);
  set(data.weight, 1);
  for (int i = 0; i < 64; ++i) {
    data.x(1, i) *= 1e6f;
    data.x(2, i) *= 1e-6f;
  }
  rms_norm<float> layer(64, 0);
  layer.forward(data.x, data.weight, data.out);
  for (int token = 0; token < 3; ++token) {
    double squares = 0;
    for (int i = 0; i < 64; ++i) squares += double{data.out(token, i)} * data.out(token, i);
    CHECK(std::abs(squares / 64 - 1) < 1e-6);
  }
}

TEST_CASE("a row of zeros gives zeros, and a finite gradient") {
  Data<float> data(1, 4, 64);
  set(data.x, 0);
  rms_norm<float> layer(4);
  layer.forward(data.x, data.weight, data.out);
  layer.backward(data.x, data.weight, data.grad_out, data.grad_x, data.grad_weight);
  for (int i = 0; i < 4; ++i) {
    CHECK(data.out(0, i) == 0);
    CHECK(std::isfinite(data.grad_x(0, i)));
    CHECK(data.grad_weight(i) == 0);
  }
}

TEST_CASE("rms_norm adds weight gradients to what is there; no tokens add nothing") {
  Data<double> data(6, 5, 65);
  rms_norm<double> layer(5, epsilon);
  set(data.grad_weight, 3);
  layer.backward(data.x, data.weight, data.grad_out, data.grad_x, data.grad_weight);
  const auto exact = data.reference<long double>();
  for (int i = 0; i < 5; ++i) CHECK(std::abs(data.grad_weight(i) - 3 - exact.grad_weight(0, i)) < 1e-14);

  Data<double> none(0, 5, 65);
  set(none.grad_weight, 3);
  layer.forward(none.x, none.weight, none.out);
  layer.backward(none.x, none.weight, none.grad_out, none.grad_x, none.grad_weight);
  for (int i = 0; i < 5; ++i) CHECK(none.grad_weight(i) == 3);
}

TEST_CASE("rms_norm may work in place") {
  Data<float> data(6, 64, 66);
  rms_norm<float> layer(64);
  layer.forward(data.x, data.weight, data.out);
  layer.backward(data.x, data.weight, data.grad_out, data.grad_x, data.grad_weight);
  const auto out = plain<float>(data.out);
  const auto grad_x = plain<float>(data.grad_x);
  layer.backward(data.x, data.weight, data.grad_out, data.grad_out, data.grad_weight);
  CHECK(plain<float>(data.grad_out).values == grad_x.values);
  layer.forward(data.x, data.weight, data.x);
  CHECK(plain<float>(data.x).values == out.values);
}

TEST_CASE("rms_norm's weight gradient over many tokens keeps its digits") {
  constexpr std::int64_t tokens = 100000;
  Data<float> data(tokens, 1, 67);
  for (std::int64_t token = 0; token < tokens; ++token) data.grad_out(token, 0) = std::abs(data.grad_out(token, 0));
  for (std::int64_t token = 0; token < tokens; ++token) data.x(token, 0) = std::abs(data.x(token, 0));
  rms_norm<float> layer(1, epsilon);
  layer.backward(data.x, data.weight, data.grad_out, data.grad_x, data.grad_weight);
  const long double exact = data.reference<long double>().grad_weight(0, 0);
  CHECK(std::abs(data.grad_weight(0) / exact - 1) < 2 * std::numeric_limits<float>::epsilon());
}

TEST_CASE("rms_norm refuses what does not fit, with numbers") {
  CHECK_THROWS_MATCHES(rms_norm<float>(0), rondo::argument_error, Message("rms_norm: dim is 0, it must be at least 1"));
  CHECK_THROWS_MATCHES(rms_norm<float>(4, -1), rondo::argument_error,
                       Message("rms_norm: epsilon is -1, it must be finite and not negative"));
  CHECK_THROWS_AS(rms_norm<float>(4, std::nan("")), rondo::argument_error);

  Data<float> data(6, 4, 68);
  rms_norm<float> layer(4);
  const HostMatrix<float> narrow("narrow", 6, 3);
  const HostVector<float> small("small", 3);
  const auto refuses = [](auto&& call, const char* text) {
    CHECK_THROWS_MATCHES(call(), rondo::shape_error, Message(text));
  };
  refuses([&] { layer.forward(narrow, data.weight, data.out); },
          "rms_norm: x has shape [6, 3], needed is [tokens, dim] = [6, 4]");
  refuses([&] { layer.forward(data.x, small, data.out); }, "rms_norm: weight has shape [3], needed is [dim] = [4]");
  refuses([&] { layer.forward(data.x, data.weight, narrow); },
          "rms_norm: out has shape [6, 3], needed is [tokens, dim] = [6, 4]");
  refuses([&] { layer.backward(data.x, data.weight, narrow, data.grad_x, data.grad_weight); },
          "rms_norm: grad_out has shape [6, 3], needed is [tokens, dim] = [6, 4]");
  refuses([&] { layer.backward(data.x, data.weight, data.grad_out, narrow, data.grad_weight); },
          "rms_norm: grad_x has shape [6, 3], needed is [tokens, dim] = [6, 4]");
  refuses([&] { layer.backward(data.x, data.weight, data.grad_out, data.grad_x, small); },
          "rms_norm: grad_weight has shape [3], needed is [dim] = [4]");
  const auto column = Kokkos::subview(data.x, Kokkos::ALL, 0);
  refuses(
      [&] {
        layer.forward(data.x, Kokkos::subview(column, std::pair{0, 4}), data.out);
      },
      "rms_norm: weight has stride 4 along its last axis, needed is 1");
}

TEST_CASE("rms_norm refuses results that overlap inputs without being the same") {
  HostMatrix<float> memory("memory", 7, 4);
  Data<float> data(6, 4, 69);
  rms_norm<float> layer(4);
  const auto x = Kokkos::subview(memory, std::pair{0, 6}, Kokkos::ALL);
  const auto later = Kokkos::subview(memory, std::pair{1, 7}, Kokkos::ALL);
  CHECK_THROWS_MATCHES(layer.forward(x, data.weight, later), rondo::argument_error,
                       MessageMatches(ContainsSubstring("rms_norm: out at 0x") && ContainsSubstring("with x at 0x")));
  CHECK_THROWS_MATCHES(
      layer.backward(x, data.weight, data.grad_out, later, data.grad_weight), rondo::argument_error,
      MessageMatches(ContainsSubstring("rms_norm: grad_x at 0x") && ContainsSubstring("with x at 0x")));
}

}  // namespace
