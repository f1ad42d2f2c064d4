#include <rondo/layer/host_tensor.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <concepts>
#include <set>
#include <vector>

namespace {

using Catch::Matchers::Message;
using rondo::HostTensor;

static_assert(std::convertible_to<Kokkos::View<float**, Kokkos::LayoutRight, Kokkos::HostSpace>, HostTensor<float, 2>>);
static_assert(std::convertible_to<Kokkos::View<float**, Kokkos::LayoutLeft, Kokkos::HostSpace>, HostTensor<float, 2>>);
static_assert(std::convertible_to<Kokkos::View<float* [8], Kokkos::HostSpace>, HostTensor<const float, 2>>);
static_assert(!std::convertible_to<Kokkos::View<const float**, Kokkos::HostSpace>, HostTensor<float, 2>>);
static_assert(!std::convertible_to<Kokkos::View<double**, Kokkos::HostSpace>, HostTensor<float, 2>>);

/// rows × columns elements from `offset` on, `stride` apart.
HostTensor<float, 2> at(std::vector<float>& memory, int offset, int rows, int columns, int stride) {
  return rondo::tensor<Kokkos::HostSpace>(memory.data() + offset, {rows, columns}, {stride, 1});
}

std::set<const float*> elements(const HostTensor<float, 2>& x) {
  std::set<const float*> result;
  for (std::size_t i = 0; i < x.extent(0); ++i) {
    for (std::size_t j = 0; j < x.extent(1); ++j) result.insert(&x(i, j));
  }
  return result;
}

TEST_CASE("memory is shared exactly when an element is, for matrices of equal strides") {
  std::vector<float> memory(100);
  int sharing = 0;
  int apart = 0;
  for (int stride = 4; stride < 8; ++stride) {
    for (int columns_a = 1; columns_a <= 4; ++columns_a) {
      for (int columns_b = 1; columns_b <= 4; ++columns_b) {
        for (int offset_a = 0; offset_a < 12; ++offset_a) {
          for (int offset_b = 0; offset_b < 40; ++offset_b) {
            const auto a = at(memory, offset_a, 3, columns_a, stride);
            const auto b = at(memory, offset_b, 4, columns_b, stride);
            const auto of_b = elements(b);
            bool shared = false;
            for (const float* element : elements(a)) shared = shared || of_b.count(element) != 0;
            (shared ? sharing : apart) += 1;
            // Inside one another's span a column may meet only beyond the other's last row: sharing may be presumed.
            const bool presumed = rondo::detail::share_memory(a, b);
            if (shared) REQUIRE(presumed);
            if (presumed && !shared) {
              const bool nested = !(a.data() + a.span() <= b.data() || b.data() + b.span() <= a.data());
              REQUIRE(nested);
            }
          }
        }
      }
    }
  }
  CHECK(sharing > 1000);
  CHECK(apart > 1000);
}

TEST_CASE("two ranges of columns of one matrix are apart, overlapping ones are not") {
  std::vector<float> memory(100);
  const auto left = at(memory, 0, 10, 4, 10);
  CHECK_FALSE(rondo::detail::share_memory(left, at(memory, 4, 10, 6, 10)));
  CHECK_FALSE(rondo::detail::share_memory(at(memory, 4, 10, 6, 10), left));
  CHECK(rondo::detail::share_memory(left, at(memory, 3, 10, 6, 10)));
  CHECK(rondo::detail::share_memory(left, left));
  CHECK_FALSE(rondo::detail::share_memory(left, at(memory, 0, 0, 4, 10)));
}

TEST_CASE("matrices of unequal strides share memory when their spans meet") {
  std::vector<float> memory(100);
  CHECK(rondo::detail::share_memory(at(memory, 0, 5, 4, 10), at(memory, 4, 3, 2, 7)));
  CHECK_FALSE(rondo::detail::share_memory(at(memory, 0, 5, 4, 10), at(memory, 44, 3, 2, 7)));
}

TEST_CASE("strides that a layer cannot use are refused with numbers") {
  std::vector<float> memory(100);
  const auto check = [](const auto& x) { rondo::detail::check_matrix("x", "[tokens, dim]", x, 4, 5); };
  check(at(memory, 0, 4, 5, 5));
  check(at(memory, 0, 4, 5, 9));
  CHECK_THROWS_MATCHES(check(rondo::tensor<Kokkos::HostSpace>(memory.data(), {4, 5}, {10, 2})), rondo::shape_error,
                       Message("x has stride 2 along its last axis, needed is 1"));
  CHECK_THROWS_MATCHES(check(at(memory, 0, 4, 5, 3)), rondo::shape_error,
                       Message("x has stride 3 between rows of 5 elements: rows overlap"));
  CHECK_THROWS_MATCHES(check(at(memory, 0, 3, 5, 5)), rondo::shape_error,
                       Message("x has shape [3, 5], needed is [tokens, dim] = [4, 5]"));
  const Kokkos::View<float**, Kokkos::LayoutLeft, Kokkos::HostSpace> left("left", 4, 5);
  CHECK_THROWS_MATCHES(check(HostTensor<float, 2>(left)), rondo::shape_error,
                       Message("x has stride 4 along its last axis, needed is 1"));
}

TEST_CASE("strides of axes that have one element do not matter") {
  std::vector<float> memory(100);
  rondo::detail::check_matrix("x", "[tokens, dim]", rondo::tensor<Kokkos::HostSpace>(memory.data(), {1, 5}, {0, 1}), 1,
                              5);
  rondo::detail::check_matrix("x", "[tokens, dim]", rondo::tensor<Kokkos::HostSpace>(memory.data(), {5, 1}, {3, 7}), 5,
                              1);
  SUCCEED();
}

}  // namespace
