/// \file
/// The kernel for Hopper against the oracle: its own code, with a host that plays its warp groups.
#include <kernel/exact.hpp>

namespace rondo::test {

/// Rows that tensor copies can read, so that the backward pass is this kernel's too.
const Cut aligned{.room = 8};
const Cut aligned_in_blocks{.query_stride = 3, .key_stride = 2, .queries = 37, .keys = 29, .room = 8};

/// Checks all cuts, and that each made at least the multiplications that the pairs of its sequence need.
template <class T, class P>
void check_simulated(const Extents& extents, const P& problem, const std::string& kind, const std::vector<Cut>& cuts,
                     Scores scores = Scores::usual) {
  const Exactness<T, P> exactness(extents, problem, scores);
  for (const Cut& cut : cuts) {
    simulated_multiplications = 0;
    check_cuts(exactness, kind, {cut});
    const std::int64_t pairs = extents.batch * extents.heads * extents.tokens * extents.tokens / 2;
    const int products = cut.room % 8 == 0 ? 2 + 10 : 2;  // backward, those with weights are made twice
    CHECK(simulated_multiplications >= products * pairs * extents.head_dim);
  }
}

TEST_CASE("on simulated warp groups every cut of the sequence is as exact as promised") {
  const Extents small{.batch = 2, .heads = 2, .kv_heads = 1, .head_dim = 64, .tokens = 131};
  check_simulated<bfloat16>(small, Problem{causal{}}, "causal",
                            {aligned, aligned_in_blocks, cuts()[1], cuts()[2], cuts()[3]});
  const Extents single{.batch = 1, .heads = 1, .kv_heads = 1, .head_dim = 64, .tokens = 50};
  check_simulated<bfloat16>(single, Problem{causal{}}, "causal", {cuts()[4]});
  const Extents large{.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 128, .tokens = 131};
  check_simulated<bfloat16>(large, Problem{causal{}}, "causal", {aligned, cuts()[3]});
}

TEST_CASE("on simulated warp groups tiles pass by in many rounds, whole ones and others") {
  const Extents longer{.batch = 1, .heads = 1, .kv_heads = 1, .head_dim = 64, .tokens = 900};
  check_simulated<bfloat16>(longer, Problem{causal{}}, "causal", {{.queries = 300, .keys = 700, .room = 8}});
  const Extents longer_128{.batch = 1, .heads = 1, .kv_heads = 1, .head_dim = 128, .tokens = 640};
  check_simulated<float16>(longer_128, Problem{full{}}, "full", {aligned});
}

TEST_CASE("on simulated warp groups aligned keys and values are folded from where they lie") {
  const Extents extents{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = 64, .tokens = 131};
  for (const Cut& cut : {aligned, aligned_in_blocks, cuts()[1]}) {
    folded_unpacked = 0;
    check_simulated<bfloat16>(extents, Problem{causal{}}, "causal", {cut});
    CHECK((folded_unpacked > 0) == (cut.room % 8 == 0));
  }
}

TEST_CASE("other shapes are left to the other kernel, whose wire is the same") {
  simulated_multiplications = 0;
  for (const auto& [head_dim, value_dim] : {std::pair{20, 20}, {64, 36}, {192, 192}}) {
    const Extents extents{
        .batch = 1, .heads = 4, .kv_heads = 2, .head_dim = head_dim, .tokens = 131, .value_dim = value_dim};
    check_cuts(Exactness<bfloat16, Problem<causal>>(extents, Problem{causal{}}), "causal", {cuts()[1]});
  }
  CHECK(simulated_multiplications == 0);
}

TEST_CASE("on simulated warp groups a softmax with nearly all weight on one key is as exact as promised") {
  const Extents extents{.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 64, .tokens = 300};
  check_simulated<bfloat16>(extents, Problem{causal{}}, "peaked", {aligned, cuts()[2]}, Scores::peaked);
}

TEST_CASE("on simulated warp groups a user's own mask and score function are as exact as promised") {
  const Extents extents{.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 64, .tokens = 150};
  check_simulated<float16>(extents, Problem{scattered{}, bent_and_sloped{}}, "own mask and score",
                           {aligned, cuts()[1]});
}

}  // namespace rondo::test
