/// \file
/// merge: results over separate sets of keys are those over all keys.
#include <support/features.hpp>

#include <rondo/mask/algebra.hpp>
#include <rondo/merge.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

namespace rondo::test {
namespace {

constexpr Extents sequence{.batch = 2, .heads = 4, .kv_heads = 4, .head_dim = 8, .tokens = 60};

template <class T>
struct Part {
  Kokkos::View<T****, Kokkos::LayoutRight, Kokkos::HostSpace> out{"out", 2, 60, 4, 8};
  Kokkos::View<accumulate_t<T>***, Kokkos::LayoutRight, Kokkos::HostSpace> lse{"lse", 2, 4, 60};
};

/// The oracle's results over the keys that `allows` leaves, as a call would have left them.
template <class T, class Allows, class Extras = NoExtras>
Part<T> part(const Inputs<double>& in, const Allows& allows, const Extras& extras = {}) {
  const auto results = plain_attention<double>(in, allows, usual_scale(sequence), PlainScore{}, extras);
  Part<T> part;
  for (int b = 0; b < 2; ++b) {
    for (std::int64_t i = 0; i < 60; ++i) {
      for (int h = 0; h < 4; ++h) {
        part.lse(b, h, i) = static_cast<accumulate_t<T>>(results.lse(b, i, h, 0));
        for (int d = 0; d < 8; ++d)
          part.out(b, i, h, d) = static_cast<T>(static_cast<accumulate_t<T>>(results.out(b, i, h, d)));
      }
    }
  }
  return part;
}

template <class T>
void check_merge(double tolerance) {
  const auto in = random_inputs<double>(sequence, Scores::usual, 3);
  const auto wide = [](auto x) { return static_cast<double>(static_cast<accumulate_t<T>>(x)); };
  ExpectedExtras sink{{1.0, -2.0, 0.5, 3.0}, 0, 0};
  const auto check = [&](const auto& front, const auto& back, const auto& all, const auto& extras) {
    const Part<T> own = part<T>(in, front, extras), other = part<T>(in, back), needed = part<T>(in, all, extras);
    merge<T>(Kokkos::DefaultHostExecutionSpace{}, own.out, own.lse, other.out, other.lse);
    double worst = 0;
    for (int b = 0; b < 2; ++b) {
      for (std::int64_t i = 0; i < 60; ++i) {
        for (int h = 0; h < 4; ++h) {
          const double x = wide(own.lse(b, h, i)), y = wide(needed.lse(b, h, i));
          if (x != y && !(std::abs(x - y) <= worst)) worst = std::abs(x - y);
          for (int d = 0; d < 8; ++d) {
            const double error = std::abs(wide(own.out(b, i, h, d)) - wide(needed.out(b, i, h, d)));
            if (!(error <= worst)) worst = error;
          }
        }
      }
    }
    CHECK(worst <= tolerance);
  };
  const auto causal_front = [](int, int, std::int64_t i, std::int64_t j) { return j <= i && j < 20; };
  const auto causal_back = [](int, int, std::int64_t i, std::int64_t j) { return j <= i && j >= 20; };
  const auto nothing = [](int, int, std::int64_t, std::int64_t) { return false; };
  check(causal_front, causal_back, allows_causal, NoExtras{});  // the first 20 rows see nothing in the second part
  check(causal_back, causal_front, allows_causal, NoExtras{});
  check(causal_front, causal_back, allows_causal, sink);
  check(nothing, allows_causal, allows_causal, NoExtras{});
  check(nothing, nothing, nothing, NoExtras{});
}

std::string refusal_of(const auto& f) {
  try {
    f();
    return {};
  } catch (const argument_error& refusal) {
    return refusal.what();
  }
}

}  // namespace

TEST_CASE("results over two sets of keys merge into those over both, one of them with the sink") {
  check_merge<double>(4e-15);
  check_merge<float>(1e-6);
  check_merge<bfloat16>(0.02);
}

TEST_CASE("far apart log-sum-exps merge without overflow") {
  Part<float> own, other;
  Kokkos::deep_copy(own.out, 1.0f);
  Kokkos::deep_copy(other.out, 2.0f);
  Kokkos::deep_copy(own.lse, -1e4f);
  Kokkos::deep_copy(other.lse, 1e4f);
  merge<float>(Kokkos::DefaultHostExecutionSpace{}, own.out, own.lse, other.out, other.lse);
  CHECK(own.out(1, 7, 2, 3) == 2.0f);
  CHECK(own.lse(1, 2, 7) == 1e4f);
}

TEST_CASE("merge refuses what does not fit") {
  const Kokkos::DefaultHostExecutionSpace exec;
  Part<float> own, other;
  const Kokkos::View<float***, Kokkos::LayoutRight, Kokkos::HostSpace> lse("lse", 2, 4, 59);
  CHECK(refusal_of([&] { merge<float>(exec, own.out, own.lse, other.out, lse); }) ==
        "the other lse has shape [2, 4, 59], needed is [batch, heads, sequence] = [2, 4, 60]");
  CHECK(refusal_of([&] { merge<float>(exec, own.out, own.lse, own.out, other.lse); }) ==
        "out shares memory with the other out: outputs need memory of their own");
}

}  // namespace rondo::test
