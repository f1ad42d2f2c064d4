/// \file
/// ALiBi, chains, tables, sinks and dropout by themselves: their formulas, their derivatives, what they refuse.
#include <support/features.hpp>

#include <rondo/score/derivative.hpp>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace {

using Catch::Approx;
using rondo::alibi;
using rondo::dropout;
using rondo::LearnedScore;
using rondo::relative_bias;
using rondo::softcap;
using rondo::softcap_alibi;
using rondo::then;

template <class F>
std::string refusal_of(const F& f) {
  try {
    f();
    return {};
  } catch (const rondo::argument_error& refusal) {
    return refusal.what();
  }
}

/// A user's score function, and one whose derivative is wrong.
struct cubic {
  static constexpr int code = 1001;
  template <class A>
  A apply(A s, int, int head, std::int64_t i, std::int64_t j) const {
    return s + static_cast<A>(0.01 * (head + 1)) * s * s * s + static_cast<A>(i - j);
  }
  template <class A>
  A derivative(A s, int, int head, std::int64_t, std::int64_t) const {
    return A{1} + static_cast<A>(0.03 * (head + 1)) * s * s;
  }
};
struct wrong_cubic : cubic {
  template <class A>
  A derivative(A s, int, int, std::int64_t, std::int64_t) const {
    return A{1} + static_cast<A>(0.03) * s;
  }
};

static_assert(!LearnedScore<softcap> && !LearnedScore<decltype(then(softcap{}, alibi{}))>);
static_assert(LearnedScore<decltype(then(softcap{}, relative_bias<float>{}))>);
static_assert(LearnedScore<decltype(then(relative_bias<double>{}, softcap{}))>);

TEST_CASE("ALiBi's slopes are the published ones, for numbers of heads that are no powers of two as well") {
  CHECK(rondo::alibi_slope(0, 8) == 0.5);
  CHECK(rondo::alibi_slope(7, 8) == 1.0 / 256);
  // 12 heads: those of 8, then every second one of 16.
  CHECK(rondo::alibi_slope(8, 12) == Approx(std::sqrt(0.5)).epsilon(1e-15));
  CHECK(rondo::alibi_slope(9, 12) == Approx(std::sqrt(0.125)).epsilon(1e-15));
  for (int heads = 1; heads <= 130; ++heads) {
    const std::vector<double> published = rondo::test::published_slopes(heads);
    for (int h = 0; h < heads; ++h) {
      INFO("head " << h << " of " << heads);
      CHECK(rondo::alibi_slope(h, heads) == Approx(published[static_cast<std::size_t>(h)]).epsilon(1e-13));
    }
  }
}

TEST_CASE("ALiBi takes its slope times the distance, whoever comes first") {
  for (const std::int64_t distance : {-5, 0, 3}) {
    CHECK(alibi{8}.apply(1.5, 0, 0, 100, 100 + distance) == 1.5 - 0.5 * static_cast<double>(std::abs(distance)));
    CHECK(alibi{8}.apply(1.5f, 0, 0, 100, 100 + distance) == 1.5f - 0.5f * static_cast<float>(std::abs(distance)));
  }
}

TEST_CASE("Every score function's derivative is the slope of its values, and a wrong one is noticed") {
  const std::vector<double> table{0.5, -1, 2};
  for (const int head : {0, 3}) {
    const auto error = [head](const auto& mod) { return rondo::derivative_error(mod, 0, head, 9, 4); };
    const relative_bias<double> of_head{table.data() - 3 * head, 1};
    CHECK(error(softcap{5}) < 1e-7);
    CHECK(error(alibi{8}) < 1e-7);
    CHECK(error(of_head) < 1e-7);
    CHECK(error(softcap_alibi{3, 8}) < 1e-7);
    CHECK(error(softcap_alibi{}) < 1e-7);
    CHECK(error(then(softcap{5}, alibi{8})) < 1e-7);
    CHECK(error(then(of_head, softcap{5})) < 1e-7);
    CHECK(error(then(cubic{}, softcap{50})) < 1e-7);
    CHECK(error(cubic{}) < 1e-7);
    CHECK(error(wrong_cubic{}) > 0.1);
    CHECK(error(then(wrong_cubic{}, softcap{50})) > 0.1);
  }
}

TEST_CASE("A chain applies the first function and then the second") {
  const auto chain = then(softcap{2}, cubic{});
  const double capped = 2 * std::tanh(3.0 / 2);
  CHECK(chain.apply(3.0, 0, 1, 7, 4) == Approx(capped + 0.02 * capped * capped * capped + 3).epsilon(1e-14));
  CHECK(decltype(then(softcap{}, alibi{}))::code != decltype(then(alibi{}, softcap{}))::code);
  CHECK(then(softcap{2}, alibi{8}).fingerprint() != then(softcap{3}, alibi{8}).fingerprint());
  CHECK(then(softcap{2}, alibi{8}).fingerprint() != then(softcap{2}, alibi{4}).fingerprint());
}

TEST_CASE("A table's gradient goes through what comes after it, by finite differences") {
  std::vector<double> table{0.1, -0.7, 1.3, 0.2, 0.4};
  const auto chain = then(relative_bias<double>{table.data(), 2}, softcap{2});
  for (std::int64_t j = 0; j < 12; ++j) {
    const int parameter = chain.parameter(0, 0, 6, j);
    CHECK(parameter == std::min<std::int64_t>(std::max<std::int64_t>(j - 6, -2), 2) + 2);
    const double given = chain.parameter_derivative(0.9, 0, 0, 6, j);
    const double step = 1e-5;
    double& held = table[static_cast<std::size_t>(parameter)];
    held += step;
    const double above = chain.apply(0.9, 0, 0, 6, j);
    held -= 2 * step;
    const double below = chain.apply(0.9, 0, 0, 6, j);
    held += step;
    CHECK(given == Approx((above - below) / (2 * step)).epsilon(1e-8));
  }
}

TEST_CASE("Philox gives the published numbers") {  // the known answers of Random123, kat_vectors
  using rondo::detail::Counter;
  using rondo::detail::philox;
  const auto two = [](std::uint32_t a, std::uint32_t b, std::uint32_t key) {
    const Counter<2> c = philox(Counter<2>{{a, b}}, key);
    return std::vector<std::uint32_t>{c.word[0], c.word[1]};
  };
  CHECK(two(0, 0, 0) == std::vector<std::uint32_t>{0xff1dae59, 0x6cd10df2});
  CHECK(two(0xffffffff, 0xffffffff, 0xffffffff) == std::vector<std::uint32_t>{0x2c3f628b, 0xab4fd7ad});
  CHECK(two(0x243f6a88, 0x85a308d3, 0x13198a2e) == std::vector<std::uint32_t>{0xdd7ce038, 0xf62a4c12});
  const auto four = [](Counter<4> counter, std::uint64_t key) {
    const Counter<4> c = philox(counter, key);
    return std::vector<std::uint32_t>(c.word, c.word + 4);
  };
  CHECK(four({{0, 0, 0, 0}}, 0) == std::vector<std::uint32_t>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(four({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0x299f31d0a4093822) ==
        std::vector<std::uint32_t>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("Dropout keeps its share, by position, seed, batch and head, and beyond 2^32 tokens") {
  constexpr int side = 400;
  std::vector<dropout> draws{{0.25, 1}, {0.25, 2}, {0.25, std::uint64_t{1} << 40}};
  std::vector<std::vector<bool>> kept;
  const auto take = [&](const dropout& drop, int batch, int head, std::int64_t from) {
    kept.emplace_back();
    for (std::int64_t i = 0; i < side; ++i) {
      for (std::int64_t j = 0; j < side; ++j) kept.back().push_back(drop.keeps(batch, head, from + i, j));
    }
  };
  for (const dropout& drop : draws) take(drop, 0, 0, 0);
  take(draws[0], 1, 0, 0);
  take(draws[0], 0, 1, 0);
  take(draws[0], 0, 0, std::int64_t{1} << 32);
  const double pairs = side * side;
  for (std::size_t a = 0; a < kept.size(); ++a) {
    double share = 0;
    for (const bool x : kept[a]) share += x;
    CHECK(share / pairs == Approx(0.75).margin(0.005));  // 4.6 standard deviations
    for (std::size_t b = 0; b < a; ++b) {
      double both = 0;
      for (std::size_t at = 0; at < kept[a].size(); ++at) both += kept[a][at] && kept[b][at];
      CHECK(both / pairs == Approx(0.5625).margin(0.006));  // independent
    }
  }
  CHECK(dropout{0, 5}.keeps(0, 0, 3, 4));
}

TEST_CASE("What makes no sense is refused, saying what was given and what is needed") {
  using rondo::full;
  using rondo::no_sink;
  using rondo::Problem;
  using rondo::unmodified;
  const rondo::Shape shape{.heads = 12, .head_dim = 4};
  constexpr double scale = std::numeric_limits<double>::quiet_NaN();
  const auto refusal = [&](const auto& problem) { return refusal_of([&] { problem.resolved(shape); }); };
  CHECK(refusal(Problem{full{}, alibi{8}}) == "alibi: made for 8 heads, q has 12");
  CHECK(refusal(Problem{full{}, then(softcap{2}, alibi{8})}) == "alibi: made for 8 heads, q has 12");
  CHECK(refusal(Problem{full{}, softcap_alibi{-1, 0}}) ==
        "softcap: the cap is -1, it must be positive and finite, or 0 for none");
  CHECK(refusal(Problem{full{}, softcap_alibi{0, 8}}) == "alibi: made for 8 heads, q has 12");
  CHECK(refusal(Problem{full{}, softcap_alibi{30, 12}}).empty());
  CHECK(refusal(Problem{full{}, softcap{0}}) == "softcap: the cap is 0, it must be positive and finite");
  CHECK(refusal(Problem{full{}, relative_bias<float>{}}) == "relative_bias: there is no table");
  const float table = 0;
  CHECK(refusal(Problem{full{}, relative_bias<float>{&table, -1}}) ==
        "relative_bias: the reach is -1, it must be at least 0");
  CHECK(refusal(Problem{full{}, unmodified{}, scale, rondo::head_sink<float>{}}) == "sink: there are no logits");
  for (const double p : {-0.1, 1.0, 1.5}) {
    CHECK(
        refusal(Problem{full{}, unmodified{}, scale, no_sink{}, dropout{p, 1}}).find("it must be from 0 to below 1") !=
        std::string::npos);
  }
  CHECK(!refusal(Problem{full{}, unmodified{}, scale, no_sink{}, dropout{scale, 1}}).empty());
  CHECK(dropout{0.1, 1}.fingerprint() != dropout{0.1, 2}.fingerprint());
  CHECK(dropout{0.1, 1}.fingerprint() != dropout{0.2, 1}.fingerprint());
}

}  // namespace
