#include "plain.hpp"

#include <rondo/layer/rope.hpp>
#include <rondo/sharding/contiguous.hpp>
#include <rondo/sharding/striped.hpp>
#include <rondo/sharding/zigzag.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace layer_test;
using Catch::Matchers::Message;
using rondo::contiguous;
using rondo::half_pairs;
using rondo::interleaved_pairs;
using rondo::rope;
using rondo::ShardTable;
using rondo::striped;
using rondo::zigzag;

template <class T>
using Heads = Kokkos::View<T****, Kokkos::LayoutRight, Kokkos::HostSpace>;

/// A sharding over two ranks in which the second holds the last `count` tokens and the first all before them.
struct far_out {
  std::int64_t first = 0;
  std::int32_t count = 0;
  static constexpr int code = 1001;

  std::int64_t total_tokens() const { return first + count; }
  std::vector<rondo::Run> runs(int rank, int) const {
    if (rank == 1) return {{first, 1, count}};
    if (first == 0) return {};
    return {{0, 1, static_cast<std::int32_t>(first)}};
  }
};
static_assert(rondo::Sharding<far_out>);

struct pairs_without_second {
  static constexpr std::int64_t first(std::int64_t i, std::int64_t) { return i; }
};
static_assert(rondo::RotaryPairs<half_pairs> && !rondo::RotaryPairs<pairs_without_second>);
static_assert(!std::copy_constructible<rope<float>> && std::movable<rope<float>>);

/// Element 2i of a pair and its partner in the two orders, written out apart from the code under test.
template <class Pairs>
std::pair<int, int> pair_of(int i, int head_dim) {
  if (std::is_same_v<Pairs, interleaved_pairs>) return {2 * i, 2 * i + 1};
  return {i, i + head_dim / 2};
}

/// The rotation of the paper's equation 34 in long double.
template <class Pairs>
std::vector<long double> rotated(const std::vector<long double>& head, std::int64_t position, long double base) {
  const int head_dim = static_cast<int>(head.size());
  std::vector<long double> result(head.size());
  for (int i = 0; i < head_dim / 2; ++i) {
    const auto [a, b] = pair_of<Pairs>(i, head_dim);
    const auto first = static_cast<std::size_t>(a);
    const auto second = static_cast<std::size_t>(b);
    const long double angle = static_cast<long double>(position) * std::pow(base, -2.0L * i / head_dim);
    result[first] = head[first] * std::cos(angle) - head[second] * std::sin(angle);
    result[second] = head[first] * std::sin(angle) + head[second] * std::cos(angle);
  }
  return result;
}

template <class View>
std::vector<long double> head_of(const View& x, int batch, int token, int head) {
  std::vector<long double> result;
  for (std::size_t i = 0; i < x.extent(3); ++i) result.push_back(x(batch, token, head, i));
  return result;
}

template <class T>
Heads<T> copy(const Heads<T>& x) {
  Heads<T> result("copy", x.extent(0), x.extent(1), x.extent(2), x.extent(3));
  std::copy(x.data(), x.data() + x.span(), result.data());
  return result;
}

using Models = std::tuple<std::pair<float, interleaved_pairs>, std::pair<float, half_pairs>,
                          std::pair<double, interleaved_pairs>, std::pair<double, half_pairs>>;

TEMPLATE_LIST_TEST_CASE("rope turns every pair of a head by its token's position times the pair's frequency", "",
                        Models) {
  using T = typename TestType::first_type;
  using Pairs = typename TestType::second_type;
  constexpr std::uint64_t seed = 71;
  INFO("seed " << seed);
  const ShardTable table(zigzag{50}, 3);
  for (int rank = 0; rank < 3; ++rank) {
    const auto tokens = static_cast<std::size_t>(table.tokens(rank));
    const auto x = Random(seed).fill(Heads<T>("x", 2, tokens, 3, 10));
    const auto before = copy(x);
    rope<T, Pairs>(table, rank, 10, 500).forward(x);
    long double worst = 0;
    table.for_each_token(rank, [&](std::int64_t position, std::int64_t row) {
      for (int batch = 0; batch < 2; ++batch) {
        for (int head = 0; head < 3; ++head) {
          const int token = static_cast<int>(row);
          const auto exact = rotated<Pairs>(head_of(before, batch, token, head), position, 500);
          const auto given = head_of(x, batch, token, head);
          for (std::size_t i = 0; i < exact.size(); ++i) worst = std::max(worst, std::abs(given[i] - exact[i]));
        }
      }
    });
    // Two products and a sum of numbers below 1, a cosine and a sine rounded once; in double also an angle up to 50.
    CHECK(worst <= (std::is_same_v<T, float> ? 2.5L : 50.0L) * std::numeric_limits<T>::epsilon());
    CHECK(worst > 0);
  }
}

TEST_CASE("positions of a hundred million are exact to float rounding") {
  constexpr int head_dim = 64;
  constexpr std::int64_t first = 100'000'000 - 7;
  const far_out sharding{first, 15};
  const Heads<float> x("x", 1, 15, 1, head_dim);
  for (int token = 0; token < 15; ++token) {
    for (int i = 0; i < head_dim; i += 2) x(0, token, 0, i) = 1;
  }
  rope<float>(ShardTable(sharding, 2), 1, head_dim).forward(x);
  long double worst = 0;
  for (int token = 0; token < 15; ++token) {
    for (int i = 0; i < head_dim / 2; ++i) {
      const long double angle = (first + token) * std::pow(10000.0L, -2.0L * i / head_dim);
      worst = std::max(worst, std::abs(x(0, token, 0, 2 * i) - std::cos(angle)));
      worst = std::max(worst, std::abs(x(0, token, 0, 2 * i + 1) - std::sin(angle)));
    }
  }
  CHECK(worst <= 0x1p-25L + 3e-8L);  // half a unit in the last place below 1, and the angle's stated error
}

/// Rotates a whole sequence shard by shard and puts the shards together again.
template <class Sharding>
Heads<float> gathered(const Heads<float>& whole, const Sharding& sharding, int ranks) {
  const Heads<float> result("result", whole.extent(0), whole.extent(1), whole.extent(2), whole.extent(3));
  const ShardTable table(sharding, ranks);
  const auto for_each_element = [&](int rank, auto&& f) {
    table.for_each_token(rank, [&](std::int64_t position, std::int64_t row) {
      for (std::size_t b = 0; b < whole.extent(0); ++b) {
        for (std::size_t h = 0; h < whole.extent(2); ++h) {
          for (std::size_t i = 0; i < whole.extent(3); ++i) f(b, position, row, h, i);
        }
      }
    });
  };
  for (int rank = 0; rank < ranks; ++rank) {
    const Heads<float> shard("shard", whole.extent(0), static_cast<std::size_t>(table.tokens(rank)), whole.extent(2),
                             whole.extent(3));
    for_each_element(
        rank, [&](auto b, auto position, auto row, auto h, auto i) { shard(b, row, h, i) = whole(b, position, h, i); });
    rope<float>(table, rank, static_cast<std::int64_t>(whole.extent(3))).forward(shard);
    for_each_element(rank, [&](auto b, auto position, auto row, auto h, auto i) {
      result(b, position, h, i) = shard(b, row, h, i);
    });
  }
  return result;
}

TEST_CASE("the same token gets the same bits under every sharding and number of ranks") {
  constexpr std::uint64_t seed = 72;
  INFO("seed " << seed);
  for (const std::int64_t tokens : {5, 101}) {  // with 5 tokens some of 7 ranks hold none
    const auto whole = Random(seed).fill(Heads<float>("whole", 2, static_cast<std::size_t>(tokens), 2, 12));
    const auto one_rank = copy(whole);
    rope<float>(ShardTable(contiguous{tokens}, 1), 0, 12).forward(one_rank);
    const auto same = [&](const Heads<float>& x) { return std::equal(x.data(), x.data() + x.span(), one_rank.data()); };
    for (const int ranks : {1, 2, 3, 4, 7}) {
      CAPTURE(tokens, ranks);
      CHECK(same(gathered(whole, contiguous{tokens}, ranks)));
      CHECK(same(gathered(whole, striped{tokens}, ranks)));
      CHECK(same(gathered(whole, zigzag{tokens}, ranks)));
    }
  }
}

TEMPLATE_TEST_CASE("products of rotated queries and keys depend on the difference of their positions only", "",
                   interleaved_pairs, half_pairs) {
  constexpr std::uint64_t seed = 73;
  INFO("seed " << seed);
  Random random(seed);
  const auto query = random.vector<double>(16);
  const auto key = random.vector<double>(16);
  const auto rotate = [&](const HostVector<double>& head, std::int64_t position) {
    const Heads<double> x("x", 1, 1, 1, 16);
    for (int i = 0; i < 16; ++i) x(0, 0, 0, i) = head(i);
    rope<double, TestType>(ShardTable(far_out{position, 1}, 2), 1, 16).forward(x);
    return x;
  };
  const auto score = [&](std::int64_t i, std::int64_t j) { return dot(rotate(query, i), rotate(key, j)); };
  for (const std::int64_t apart : {0, 1, 5, 1000}) {
    CAPTURE(apart);
    const double here = score(apart, 0);
    for (const std::int64_t moved : {1, 17, 4096}) CHECK(std::abs(score(apart + moved, moved) - here) < 1e-10);
    CHECK(std::abs(score(apart + 1, 0) - here) > 1e-3);
  }
}

TEMPLATE_TEST_CASE("rope's gradient agrees with central differences and undoes the rotation", "", interleaved_pairs,
                   half_pairs) {
  constexpr std::uint64_t seed = 74;
  INFO("seed " << seed);
  Random random(seed);
  const rope<double, TestType> layer(ShardTable(striped{9}, 2), 1, 6);
  const auto x = random.fill(Heads<double>("x", 2, 4, 2, 6));
  const auto grad_out = random.fill(Heads<double>("grad_out", 2, 4, 2, 6));
  const auto grad = copy(grad_out);
  layer.backward(grad);
  check_central_differences("x", x, grad, [&] {
    const auto out = copy(x);
    layer.forward(out);
    return dot(out, grad_out);
  });
  const auto there_and_back = copy(x);
  layer.forward(there_and_back);
  layer.backward(there_and_back);
  for (std::size_t i = 0; i < x.span(); ++i) CHECK(std::abs(there_and_back.data()[i] - x.data()[i]) < 1e-15);
}

TEST_CASE("rope turns strided tensors in place and touches nothing beside them") {
  constexpr std::uint64_t seed = 75;
  INFO("seed " << seed);
  const Heads<float> wide("wide", 1, 4, 5, 6);
  set(wide, 99);
  const auto part = Kokkos::subview(wide, Kokkos::ALL, Kokkos::ALL, std::pair{1, 3}, std::pair{0, 4});
  const auto alone = Random(seed).fill(Heads<float>("alone", 1, 4, 2, 4));
  const auto for_each = [&](auto&& f) {
    for (int t = 0; t < 4; ++t) {
      for (int h = 0; h < 2; ++h) {
        for (int i = 0; i < 4; ++i) f(part(0, t, h, i), alone(0, t, h, i));
      }
    }
  };
  for_each([](float& a, float b) { a = b; });
  const rope<float> layer(ShardTable(striped{8}, 2), 1, 4);
  layer.forward(part);
  layer.forward(alone);
  int changed = 0;
  for_each([&](float a, float b) { changed += a != b; });
  CHECK(changed == 0);
  CHECK(std::count(wide.data(), wide.data() + wide.span(), 99.0f) == static_cast<long>(wide.span() - alone.span()));
}

TEST_CASE("rope's table grows with the own shard only") {
  const std::int64_t tokens = 1000;
  CHECK(rope<float>(ShardTable(striped{tokens}, 1), 0, 8).workspace_bytes() == 1000 * 8 * sizeof(float));
  CHECK(rope<float>(ShardTable(striped{tokens}, 4), 0, 8).workspace_bytes() == 250 * 8 * sizeof(float));
  CHECK(rope<double>(ShardTable(striped{tokens}, 4), 3, 8).workspace_bytes() == 250 * 8 * sizeof(double));
}

TEST_CASE("rope refuses what does not fit, with numbers") {
  const ShardTable table(striped{10}, 2);
  CHECK_THROWS_MATCHES(rope<float>(table, 2, 8), rondo::argument_error,
                       Message("rope: rank is 2, the sharding has 2 ranks"));
  CHECK_THROWS_MATCHES(rope<float>(table, -1, 8), rondo::argument_error,
                       Message("rope: rank is -1, the sharding has 2 ranks"));
  CHECK_THROWS_MATCHES(rope<float>(table, 0, 7), rondo::argument_error,
                       Message("rope: head_dim is 7, it must be even and at least 2"));
  CHECK_THROWS_MATCHES(rope<float>(table, 0, 0), rondo::argument_error,
                       Message("rope: head_dim is 0, it must be even and at least 2"));
  CHECK_THROWS_MATCHES(rope<float>(table, 0, 8, 0), rondo::argument_error,
                       Message("rope: base is 0, it must be positive and finite"));
  const rope<float> layer(table, 0, 8);
  CHECK_THROWS_MATCHES(
      layer.forward(Heads<float>("x", 2, 6, 3, 8)), rondo::shape_error,
      Message("rope: x has shape [2, 6, 3, 8], needed is [batch, sequence, heads, head_dim] = [2, 5, 3, 8]"));
  CHECK_THROWS_MATCHES(
      layer.backward(Heads<float>("x", 2, 5, 3, 4)), rondo::shape_error,
      Message("rope: grad has shape [2, 5, 3, 4], needed is [batch, sequence, heads, head_dim] = [2, 5, 3, 8]"));
  const Kokkos::View<float****, Kokkos::LayoutLeft, Kokkos::HostSpace> left("left", 2, 5, 3, 8);
  CHECK_THROWS_MATCHES(layer.forward(left), rondo::shape_error,
                       Message("rope: x has stride 30 along its last axis, needed is 1"));
}

}  // namespace
