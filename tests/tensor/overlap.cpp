#include <rondo/overlap.hpp>
#include <rondo/tensor.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include <cstddef>
#include <vector>

namespace {

using Catch::Matchers::Message;
using rondo::argument_error;
using rondo::detail::check_separate;

using Host = Kokkos::HostSpace;

/// `count` doubles of `memory` from `first` on, every `stride`-th.
auto stretch(std::vector<double>& memory, std::size_t first, int count, int stride = 1) {
  return rondo::tensor<Host>(memory.data() + first, {count}, {stride});
}

TEST_CASE("Outputs with memory of their own are accepted, also when they touch") {
  std::vector<double> memory(30);
  CHECK_NOTHROW(check_separate("out", stretch(memory, 10, 10), {"q", "k"}, stretch(memory, 0, 10),
                               stretch(memory, 20, 10)));
}

TEST_CASE("An output that shares an element with another tensor is refused, naming both") {
  std::vector<double> memory(30);
  const auto out = stretch(memory, 10, 10);
  const auto separate = stretch(memory, 0, 5);
  const auto refused = [&](const auto& other) {
    CHECK_THROWS_MATCHES(check_separate("out", out, {"q", "v"}, separate, other), argument_error,
                         Message("out shares memory with v: outputs need memory of their own"));
    CHECK_THROWS_AS(check_separate("v", other, {"out"}, out), argument_error);
  };
  refused(out);
  refused(stretch(memory, 1, 10));
  refused(stretch(memory, 19, 10));
  refused(stretch(memory, 12, 3));
  refused(stretch(memory, 0, 30));
}

TEST_CASE("The first tensor that is shared is the one named") {
  std::vector<double> memory(10);
  const auto x = stretch(memory, 0, 10);
  CHECK_THROWS_MATCHES(check_separate("out", x, {"q", "k", "v"}, stretch(memory, 0, 0), x, x), argument_error,
                       Message("out shares memory with k: outputs need memory of their own"));
}

TEST_CASE("Strides count: memory from the first to the last element") {
  std::vector<double> memory(30);
  const auto sparse = stretch(memory, 0, 3, 10);  // elements 0, 10, 20
  CHECK_THROWS_AS(check_separate("out", stretch(memory, 20, 1), {"q"}, sparse), argument_error);
  CHECK_NOTHROW(check_separate("out", stretch(memory, 21, 5), {"q"}, sparse));
}

TEST_CASE("Tensors of different types are compared by their bytes") {
  std::vector<double> memory(10);
  const auto floats = rondo::tensor<Host>(reinterpret_cast<float*>(memory.data()), {8});  // four doubles
  CHECK_THROWS_AS(check_separate("lse", floats, {"out"}, stretch(memory, 3, 4)), argument_error);
  CHECK_NOTHROW(check_separate("lse", floats, {"out"}, stretch(memory, 4, 4)));
}

TEST_CASE("Empty tensors share memory with nobody") {
  std::vector<double> memory(10);
  const auto x = stretch(memory, 0, 10);
  CHECK_NOTHROW(check_separate("out", stretch(memory, 5, 0), {"q"}, x));
  CHECK_NOTHROW(check_separate("out", x, {"q"}, stretch(memory, 5, 0)));
}

}  // namespace
