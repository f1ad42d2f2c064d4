#include <rondo/tensor.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace {

using Catch::Matchers::Message;
using rondo::shape_error;
using rondo::Tensor;
using rondo::TensorOf;

using Host = Kokkos::HostSpace;

std::vector<double> counted(std::size_t count) {
  std::vector<double> memory(count);
  for (std::size_t i = 0; i < count; ++i) memory[i] = static_cast<double>(i);
  return memory;
}

TEST_CASE("A tensor of plain memory is contiguous, last axis fastest") {
  auto memory = counted(2 * 3 * 4 * 5);
  const auto x = rondo::tensor<Host>(memory.data(), {2, 3, 4, 5});
  static_assert(std::is_same_v<std::remove_const_t<decltype(x)>, Tensor<double, 4, Host>>);
  CHECK(x.size() == memory.size());
  CHECK(x.span_is_contiguous());
  double next = 0;
  for (int b = 0; b < 2; ++b) {
    for (int t = 0; t < 3; ++t) {
      for (int h = 0; h < 4; ++h) {
        for (int d = 0; d < 5; ++d) CHECK(x(b, t, h, d) == next++);
      }
    }
  }
}

TEST_CASE("A tensor with strides finds each element where they say") {
  auto memory = counted(400);
  // [batch, sequence, heads, head_dim] that lies as [heads, batch, sequence, head_dim] with rows of 7 numbers.
  const std::int64_t extents[] = {2, 3, 4, 5};
  const std::int64_t strides[] = {3 * 7, 7, 2 * 3 * 7, 1};
  const auto x = rondo::tensor<Host>(memory.data(), extents, strides);
  for (int b = 0; b < 2; ++b) {
    for (int t = 0; t < 3; ++t) {
      for (int h = 0; h < 4; ++h) {
        for (int d = 0; d < 5; ++d) CHECK(x(b, t, h, d) == b * 21 + t * 7 + h * 42 + d);
      }
    }
  }
  x(1, 2, 3, 4) = -1;
  CHECK(memory[1 * 21 + 2 * 7 + 3 * 42 + 4] == -1);
}

TEST_CASE("A stride of zero repeats its elements") {
  const auto memory = counted(3);
  const auto x = rondo::tensor<Host>(memory.data(), {4, 3}, {0, 1});
  static_assert(std::is_same_v<std::remove_const_t<decltype(x)>, Tensor<const double, 2, Host>>);
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 3; ++j) CHECK(x(i, j) == j);
  }
}

TEST_CASE("A tensor may hold nothing, at any axis and without memory") {
  double one = 0;
  for (int axis = 0; axis < 3; ++axis) {
    int extents[] = {2, 3, 4};
    extents[axis] = 0;
    CHECK(rondo::tensor<Host>(&one, extents).size() == 0);
  }
  CHECK(rondo::tensor<Host>(static_cast<double*>(nullptr), {0, 3}).size() == 0);
}

TEST_CASE("A negative extent is refused, saying which axis has it") {
  double one = 0;
  CHECK_THROWS_MATCHES(rondo::tensor<Host>(&one, {2, -3, 4}), shape_error,
                       Message("tensor: extent -3 of axis 1 is negative"));
  CHECK_THROWS_MATCHES(rondo::tensor<Host>(&one, {1, 1, -1}, {1, 1, 1}), shape_error,
                       Message("tensor: extent -1 of axis 2 is negative"));
}

/// Reads an element through Rondo's own type, as the library does.
double read(const Tensor<const double, 3, Host>& x, int i, int j, int k) { return x(i, j, k); }

template <class View>
void fill_and_compare(const View& view) {
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 3; ++j) {
      for (int k = 0; k < 4; ++k) view(i, j, k) = 100 * i + 10 * j + k;
    }
  }
  for (int i = 0; i < 2; ++i) {
    for (int j = 0; j < 3; ++j) {
      for (int k = 0; k < 4; ++k) CHECK(read(view, i, j, k) == 100 * i + 10 * j + k);
    }
  }
}

TEST_CASE("A View of every layout, and part of one, converts to a tensor of the same elements") {
  fill_and_compare(Kokkos::View<double***, Kokkos::LayoutRight, Host>("right", 2, 3, 4));
  fill_and_compare(Kokkos::View<double***, Kokkos::LayoutLeft, Host>("left", 2, 3, 4));
  fill_and_compare(Kokkos::View<double***, Kokkos::LayoutStride, Host>(
      "stride", Kokkos::LayoutStride(2, 1, 3, 8, 4, 2)));
  fill_and_compare(Kokkos::View<double[2][3][4], Kokkos::LayoutRight, Host>("fixed"));
  std::vector<double> memory(24);
  fill_and_compare(Kokkos::View<double***, Kokkos::LayoutRight, Host, Kokkos::MemoryTraits<Kokkos::Unmanaged>>(
      memory.data(), 2, 3, 4));
  const Kokkos::View<double****, Kokkos::LayoutRight, Host> larger("larger", 3, 4, 2, 9);
  fill_and_compare(Kokkos::subview(larger, std::pair{1, 3}, std::pair{0, 3}, 1, std::pair{5, 9}));
}

TEST_CASE("What converts to a tensor is what has its rank, its type and no less constness") {
  using Mine = Kokkos::View<float****, Kokkos::LayoutRight, Host>;
  using Const = Kokkos::View<const float****, Kokkos::LayoutRight, Host>;
  STATIC_CHECK(TensorOf<Mine, float, 4, Host>);
  STATIC_CHECK(TensorOf<Mine, const float, 4, Host>);
  STATIC_CHECK(TensorOf<Const, const float, 4, Host>);
  STATIC_CHECK(TensorOf<Tensor<float, 4, Host>, const float, 4, Host>);
  STATIC_CHECK_FALSE(TensorOf<Const, float, 4, Host>);
  STATIC_CHECK_FALSE(TensorOf<Tensor<const float, 4, Host>, float, 4, Host>);
  STATIC_CHECK_FALSE(TensorOf<Mine, double, 4, Host>);
  STATIC_CHECK_FALSE(TensorOf<Mine, float, 3, Host>);
  STATIC_CHECK_FALSE(TensorOf<float*, float, 1, Host>);
}

TEST_CASE("Extents that do not fit are refused with the tensor's name, its shape and the one needed") {
  const Kokkos::View<double***, Host> x("x", 2, 3, 4);
  CHECK_NOTHROW(rondo::detail::check_extents("x", "[batch, heads, sequence]", x, {2, 3, 4}));
  CHECK_THROWS_MATCHES(
      rondo::detail::check_extents("lse", "[batch, heads, sequence]", x, {2, 3, 5}), shape_error,
      Message("lse has shape [2, 3, 4], needed is [batch, heads, sequence] = [2, 3, 5]"));
  for (const auto& needed : {rondo::detail::Extents<3>{1, 3, 4}, {2, 4, 4}, {2, 3, 0}, {4, 3, 2}}) {
    CHECK_THROWS_AS(rondo::detail::check_extents("x", "[...]", x, needed), shape_error);
  }
}

TEST_CASE("Rows and columns of a tensor are its tokens") {
  const Kokkos::View<double****, Kokkos::LayoutRight, Host> x("x", 2, 6, 3, 2);
  x(1, 4, 2, 1) = 7;
  const auto rows = rondo::detail::token_rows(x, 3, 2);
  CHECK(rondo::detail::shape_text(rondo::detail::extents_of(rows)) == "[2, 2, 3, 2]");
  CHECK(rows(1, 1, 2, 1) == 7);
  CHECK(rondo::detail::token_rows(x, 6, 0).size() == 0);
  const Kokkos::View<double***, Kokkos::LayoutRight, Host> y("y", 2, 3, 6);
  y(1, 2, 4) = 8;
  const auto columns = rondo::detail::token_columns(y, 3, 2);
  CHECK(rondo::detail::shape_text(rondo::detail::extents_of(columns)) == "[2, 3, 2]");
  CHECK(columns(1, 2, 1) == 8);
}

}  // namespace
