/// \file
/// A kernel on a device against the oracle: what a host that plays its lanes cannot show, whether barriers stand where they
/// must, above all.
#include <kernel/properties.hpp>

#include <rondo/mask/window.hpp>

#include <cstdint>
#include <string>

namespace rondo::test {
namespace {

/// Rows that tensor copies can read.
const Cut aligned{.room = 8};
const Cut aligned_in_blocks{.query_stride = 3, .key_stride = 2, .queries = 137, .keys = 229, .room = 8};

struct Banded : window {
  bool expected(int, int, std::int64_t i, std::int64_t j) const { return j <= i + right && j >= i - left; }
};

template <class T, class P>
void check(const Extents& extents, const P& problem, const std::string& kind, const std::vector<Cut>& cuts) {
  check_cuts(Exactness<T, P>(extents, problem), kind, cuts);
}

}  // namespace

TEST_CASE("on a device every head_dim is as exact as promised") {
  for (const int head_dim : {1, 8, 20, 64, 80, 128, 160}) {
    const Extents extents{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = head_dim, .tokens = 131};
    check<bfloat16>(extents, Problem{causal{}}, "causal", {aligned, cuts()[1], cuts()[2], cuts()[3]});
    check<float16>(extents, Problem{full{}}, "full", {aligned});
  }
}

TEST_CASE("on a device many tiles pass by, whole ones and others") {
  for (const int head_dim : {64, 128}) {
    const Extents extents{.batch = 1, .heads = 4, .kv_heads = 2, .head_dim = head_dim, .tokens = 1100};
    check<bfloat16>(extents, Problem{full{}}, "full", {aligned, aligned_in_blocks});
    check<bfloat16>(extents, Problem{causal{}}, "causal", {aligned, aligned_in_blocks});
    check<float16>(extents, Problem{Banded{{.left = 300, .right = 40}}}, "window", {aligned});
  }
}

TEST_CASE("on a device a softmax with nearly all weight on one key is as exact as promised, but for lse") {
  const Extents extents{.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 64, .tokens = 300};
  const Exactness<bfloat16, Problem<causal>> exactness(extents, Problem{causal{}}, Scores::peaked);
  for (const Cut& cut : {aligned, cuts()[2]}) {
    const ErrorRatios ratios =
        exactness.ratios(kernel_attention<TestedKernel<bfloat16>>(exactness.inputs(), cut, exactness.problem()));
    INFO(kernel_name() << ", " << text(cut) << "\n" << ratios.text());
    for (const ErrorRatio& ratio : ratios.tensors) {
      // lse is one large score there, a sum that tensor cores cut off where others round it (mma.sync on an H200: 1.61).
      CHECK(ratio.of_promise() <= (ratio.tensor == "lse" ? 1.7 / 1.5 : 1.0));
    }
  }
}

TEST_CASE("on a device a user's own mask and score function are as exact as promised") {
  for (const int head_dim : {64, 128}) {
    const Extents extents{.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = head_dim, .tokens = 150};
    check<float16>(extents, Problem{scattered{}, bent_and_sloped{}}, "own mask and score", {aligned, cuts()[1]});
  }
}

TEST_CASE("on a device NaN and infinity reach the rows that may attend to them and no other") {
  check_spoiled<bfloat16>(causal{}, aligned, {83});
  check_spoiled<bfloat16>(scattered{}, Cut{.queries = 100, .keys = 70, .room = 8}, {20});
}

TEST_CASE("on a device the same call gives the same bits, however often") {
  for (const int head_dim : {64, 128}) {
    const auto in =
        random_inputs<bfloat16>({.batch = 2, .heads = 8, .kv_heads = 4, .head_dim = head_dim, .tokens = 1500});
    const auto once = kernel_attention<TestedKernel<bfloat16>>(in, aligned, Problem{causal{}});
    for (int repeat = 0; repeat < 5; ++repeat) {
      CHECK(differing_bits(once, kernel_attention<TestedKernel<bfloat16>>(in, aligned, Problem{causal{}})) == "");
    }
  }
}

}  // namespace rondo::test
