/// \file
/// What the layers are compared with: matrices in any arithmetic, products as three plain loops, errors, and central
/// differences.
#pragma once

#include <Kokkos_Core.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

namespace layer_test {

template <class T>
using HostMatrix = Kokkos::View<T**, Kokkos::LayoutRight, Kokkos::HostSpace>;
template <class T>
using HostVector = Kokkos::View<T*, Kokkos::HostSpace>;

/// Numbers evenly spread over [-size, size), the same for the same seed everywhere.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  double number(double size = 1) { return size * (2 * static_cast<double>(engine_() >> 11) / 0x1p53 - 1); }

  template <class View>
  View fill(View view, double size = 1) {
    for (std::size_t i = 0; i < view.span(); ++i) {
      view.data()[i] = static_cast<typename View::value_type>(number(size));
    }
    return view;
  }
  template <class T>
  HostMatrix<T> matrix(std::int64_t rows, std::int64_t columns, double size = 1) {
    return fill(HostMatrix<T>("matrix", static_cast<std::size_t>(rows), static_cast<std::size_t>(columns)), size);
  }
  template <class T>
  HostVector<T> vector(std::int64_t size_of, double size = 1) {
    return fill(HostVector<T>("vector", static_cast<std::size_t>(size_of)), size);
  }

 private:
  std::mt19937_64 engine_;
};

template <class View>
void set(View view, double value) {
  for (std::size_t i = 0; i < view.span(); ++i) view.data()[i] = static_cast<typename View::value_type>(value);
}

/// A matrix in the arithmetic A.
template <class A>
struct Plain {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::vector<A> values;

  Plain(std::int64_t rows_, std::int64_t columns_)
      : rows(rows_), columns(columns_), values(static_cast<std::size_t>(rows_ * columns_), A{0}) {}

  A& operator()(std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(i * columns + j)]; }
  const A& operator()(std::int64_t i, std::int64_t j) const {
    return values[static_cast<std::size_t>(i * columns + j)];
  }
};

/// A copy of a view of rank 1 (as one row) or 2, whatever its strides.
template <class A, class View>
Plain<A> plain(const View& view) {
  if constexpr (View::rank() == 1) {
    Plain<A> result(1, static_cast<std::int64_t>(view.extent(0)));
    for (std::int64_t j = 0; j < result.columns; ++j) result(0, j) = static_cast<A>(view(j));
    return result;
  } else {
    Plain<A> result(static_cast<std::int64_t>(view.extent(0)), static_cast<std::int64_t>(view.extent(1)));
    for (std::int64_t i = 0; i < result.rows; ++i) {
      for (std::int64_t j = 0; j < result.columns; ++j) result(i, j) = static_cast<A>(view(i, j));
    }
    return result;
  }
}

template <class A>
Plain<A> transposed(const Plain<A>& a) {
  Plain<A> result(a.columns, a.rows);
  for (std::int64_t i = 0; i < a.rows; ++i) {
    for (std::int64_t j = 0; j < a.columns; ++j) result(j, i) = a(i, j);
  }
  return result;
}

template <class A>
Plain<A> product(const Plain<A>& a, const Plain<A>& b) {
  Plain<A> result(a.rows, b.columns);
  for (std::int64_t i = 0; i < a.rows; ++i) {
    for (std::int64_t j = 0; j < b.columns; ++j) {
      for (std::int64_t k = 0; k < a.columns; ++k) result(i, j) += a(i, k) * b(k, j);
    }
  }
  return result;
}

template <class A>
Plain<A> added(Plain<A> a, const Plain<A>& b) {
  for (std::size_t i = 0; i < a.values.size(); ++i) a.values[i] += b.values[i];
  return a;
}

template <class A>
long double largest_error(const Plain<A>& given, const Plain<long double>& exact) {
  REQUIRE(given.rows == exact.rows);
  REQUIRE(given.columns == exact.columns);
  long double largest = 0;
  for (std::size_t i = 0; i < exact.values.size(); ++i) {
    const long double error = std::abs(static_cast<long double>(given.values[i]) - exact.values[i]);
    if (std::isnan(error)) return error;
    largest = std::max(largest, error);
  }
  return largest;
}

/// Problems drawn for every shape that is compared. What a dozen numbers lose to rounding is chance: a layer and plain
/// loops that are equally exact differ threefold now and then, on one processor or another. Over the errors of all
/// draws together they do not.
constexpr int draws = 16;

/// Errors of one result of a layer, and of plain loops in the layer's arithmetic, over all draws of a shape.
class Errors {
 public:
  explicit Errors(const char* what) : what_(what) {}

  template <class View, class T>
  void add(const View& given, const Plain<T>& loops, const Plain<long double>& exact) {
    static_assert(std::is_same_v<typename View::non_const_value_type, T>);
    epsilon_ = std::numeric_limits<T>::epsilon();
    const Plain<T> layer = plain<T>(given);
    for (const Plain<T>* result : {&layer, &loops}) {
      REQUIRE(result->rows == exact.rows);
      REQUIRE(result->columns == exact.columns);
    }
    for (std::size_t i = 0; i < exact.values.size(); ++i) {
      size_.add(exact.values[i]);
      layer_.add(static_cast<long double>(layer.values[i]) - exact.values[i]);
      loops_.add(static_cast<long double>(loops.values[i]) - exact.values[i]);
    }
  }

  /// The layer must be as near to the exact result as plain loops are: RMS error at most 1.5 times theirs and largest
  /// at most twice theirs, with half a rounding granted beside either.
  void check() const {
    INFO(what_ << ": rms error " << layer_.rms() << ", plain loops " << loops_.rms() << ", rms value " << size_.rms());
    INFO("largest error " << layer_.largest << ", plain loops " << loops_.largest << ", value " << size_.largest);
    CHECK(layer_.rms() <= 1.5L * loops_.rms() + epsilon_ / 4 * size_.rms());
    CHECK(layer_.largest <= 2 * loops_.largest + epsilon_ / 2 * size_.largest);
  }

 private:
  struct Size {
    long double squares = 0;
    long double largest = 0;
    std::int64_t count = 0;

    void add(long double value) {
      squares += value * value;  // and is not a number if one of them is none
      largest = std::max(largest, std::abs(value));
      ++count;
    }
    long double rms() const { return count == 0 ? 0 : std::sqrt(squares / static_cast<long double>(count)); }
  };

  const char* what_;
  long double epsilon_ = 0;
  Size size_, layer_, loops_;
};

/// Compares `gradient` with central differences of `loss()` (in double) over every element of `parameter`.
template <class View, class Gradient, class F>
void check_central_differences(const char* what, const View& parameter, const Gradient& gradient, F&& loss) {
  static_assert(std::is_same_v<typename View::value_type, double>);
  REQUIRE(parameter.span() > 0);
  REQUIRE(parameter.span() == gradient.span());
  constexpr double step = 1e-5;
  double worst = 0;
  double numeric_there = 0;
  std::size_t where = 0;
  for (std::size_t i = 0; i < parameter.span(); ++i) {
    double& value = parameter.data()[i];
    const double kept = value;
    value = kept + step;
    const double above = loss();
    value = kept - step;
    const double below = loss();
    value = kept;
    const double numeric = (above - below) / (2 * step);
    const double difference = std::abs(numeric - gradient.data()[i]) / (1 + std::abs(numeric));
    if (!(difference <= worst)) {
      worst = difference;
      where = i;
      numeric_there = numeric;
    }
  }
  INFO(what << ": element " << where << " has gradient " << gradient.data()[where] << ", differences give "
            << numeric_there);
  CHECK(worst < 1e-8);
}

/// Σ a ∘ b: a loss whose gradient with respect to a is b.
template <class A, class B>
double dot(const A& a, const B& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.span(); ++i) sum += a.data()[i] * b.data()[i];
  return sum;
}

}  // namespace layer_test
