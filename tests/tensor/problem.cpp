#include <rondo/problem.hpp>
#include <rondo/score/softcap.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include <limits>
#include <type_traits>

namespace {

using Catch::Matchers::Message;
using rondo::argument_error;
using rondo::causal;
using rondo::full;
using rondo::Problem;
using rondo::ProblemType;
using rondo::Shape;
using rondo::shape_error;
using rondo::softcap;
using rondo::unmodified;

static_assert(std::is_same_v<Problem<>, Problem<full, unmodified>>);
static_assert(std::is_same_v<decltype(Problem(causal{})), Problem<causal, unmodified>>);
static_assert(std::is_same_v<decltype(Problem{causal{}}), Problem<causal, unmodified>>);
static_assert(std::is_same_v<decltype(Problem(causal{}, softcap{30})), Problem<causal, softcap>>);
static_assert(std::is_same_v<decltype(Problem{full{}, softcap{30}, 0.5}), Problem<full, softcap>>);
static_assert(ProblemType<Problem<>> && ProblemType<const Problem<causal, softcap>&>);
static_assert(!ProblemType<causal> && !ProblemType<int> && !ProblemType<Shape>);

TEST_CASE("The scale is one over the root of head_dim unless it is given") {
  CHECK(Problem<>{}.resolved(Shape{.head_dim = 64}).scale == 0.125);
  CHECK(Problem<>{}.resolved(Shape{.head_dim = 1}).scale == 1.0);
  CHECK(Problem(causal{}, unmodified{}, 0.3).resolved(Shape{.head_dim = 64}).scale == 0.3);
  CHECK(Problem(causal{}, unmodified{}, 0.0).resolved(Shape{.head_dim = 64}).scale == 0.0);
  CHECK(Problem(causal{}, unmodified{}, -2.0).resolved(Shape{.head_dim = 64}).scale == -2.0);
}

TEST_CASE("Resolving a problem keeps its mask and score function") {
  CHECK(Problem(causal{}, softcap{30}).resolved(Shape{.head_dim = 64}).score.cap == 30);
}

TEST_CASE("An infinite scale is refused") {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  for (const double scale : {infinity, -infinity}) {
    CHECK_THROWS_MATCHES(Problem(full{}, unmodified{}, scale).resolved(Shape{.head_dim = 4}), argument_error,
                         Message("problem: the scale is infinite, it must be finite"));
  }
}

TEST_CASE("Without kv_heads there are as many as heads") {
  const Shape shape = Shape{.batch = 2, .heads = 6, .head_dim = 4}.checked();
  CHECK(shape.batch == 2);
  CHECK(shape.heads == 6);
  CHECK(shape.kv_heads == 6);
  CHECK(shape.head_dim == 4);
  CHECK(Shape{.heads = 6, .kv_heads = 2, .head_dim = 4}.checked().kv_heads == 2);
  CHECK(Shape{.heads = 6, .kv_heads = 1, .head_dim = 4}.checked().kv_heads == 1);
}

TEST_CASE("A shape that makes no sense is refused, saying what was given and what is needed") {
  const auto refused = [](const Shape& shape, const char* text) {
    CHECK_THROWS_MATCHES(shape.checked(), shape_error, Message(text));
  };
  refused({.batch = 0, .heads = 2, .head_dim = 4}, "shape: batch is 0, it must be at least 1");
  refused({.batch = -1, .heads = 2, .head_dim = 4}, "shape: batch is -1, it must be at least 1");
  refused({.heads = 0, .head_dim = 4}, "shape: heads is 0, it must be at least 1");
  refused({.heads = 2}, "shape: head_dim is 0, it must be at least 1");
  refused({.heads = 2, .kv_heads = -2, .head_dim = 4}, "shape: kv_heads is -2, it must be at least 1");
  refused({.heads = 6, .kv_heads = 4, .head_dim = 4},
          "shape: heads is 6, kv_heads is 4: heads must be a multiple of kv_heads");
  refused({.heads = 2, .kv_heads = 4, .head_dim = 4},
          "shape: heads is 2, kv_heads is 4: heads must be a multiple of kv_heads");
}

}  // namespace
