/// \file
/// The kernels on tensor cores against the oracle: their own code, with a host that plays the lanes of their warps.
#include <kernel/exact.hpp>

namespace rondo::test {

/// Checks all cuts, and that each made at least as many products as the pairs of its sequence need.
template <class T, class P>
void check_simulated(const Extents& extents, const P& problem, const std::string& kind, const std::vector<Cut>& cuts,
                     Scores scores = Scores::usual) {
  const Exactness<T, P> exactness(extents, problem, scores);
  for (const Cut& cut : cuts) {
    simulated_multiplications = 0;
    check_cuts(exactness, kind, {cut});
    const std::int64_t pairs = extents.tokens * extents.tokens / 2;
    CHECK(simulated_multiplications > 9 * extents.batch * extents.heads * pairs * extents.head_dim);
  }
}

TEST_CASE("on simulated lanes every head_dim and every cut of the sequence is as exact as promised") {
  const Extents small{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = 20, .tokens = 131};
  check_simulated<bfloat16>(small, Problem{causal{}}, "causal", cuts());
  const Extents large{.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 128, .tokens = 131};
  check_simulated<bfloat16>(large, Problem{causal{}}, "causal", {cuts()[0], cuts()[1], cuts()[3]});
}

TEST_CASE("on simulated lanes aligned keys and values are folded from where they lie, if the kernel can") {
  for (const int head_dim : {40, 128}) {
    const Extents extents{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = head_dim, .tokens = 131};
    for (const Cut& cut :
         {Cut{.room = 8}, Cut{.query_stride = 3, .key_stride = 2, .queries = 37, .keys = 29, .room = 8}}) {
      folded_unpacked = 0;
      check_simulated<bfloat16>(extents, Problem{causal{}}, "causal", {cut});
      CHECK((folded_unpacked > 0) == FoldsUnpacked<TestedKernel<bfloat16>>);
    }
  }
}

TEST_CASE("values of another head_dim are left to the portable kernel, whose wire is the same") {
  const Extents extents{.batch = 1, .heads = 4, .kv_heads = 2, .head_dim = 20, .tokens = 131, .value_dim = 36};
  simulated_multiplications = 0;
  check_cuts(Exactness<bfloat16, Problem<causal>>(extents, Problem{causal{}}), "causal", {cuts()[0], cuts()[1]});
  CHECK(simulated_multiplications == 0);
}

TEST_CASE("on simulated lanes a softmax with nearly all weight on one key is as exact as promised") {
  const Extents extents{.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 64, .tokens = 300};
  check_simulated<bfloat16>(extents, Problem{causal{}}, "peaked", {cuts()[0], cuts()[2]}, Scores::peaked);
}

TEST_CASE("on simulated lanes a user's own mask and score function are as exact as promised") {
  const Extents extents{.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 64, .tokens = 150};
  check_simulated<float16>(extents, Problem{scattered{}, bent_and_sloped{}}, "own mask and score",
                           {cuts()[0], cuts()[1]});
}

}  // namespace rondo::test
