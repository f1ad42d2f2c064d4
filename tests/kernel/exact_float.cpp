/// \file
/// A kernel in float against the oracle.
#include "exact.hpp"

namespace rondo::test {

TEST_CASE("in float every head_dim and every cut of the sequence is as exact as promised") {
  check_head_dims<float>(Problem{causal{}}, "causal", cuts());
  check_head_dims<float>(Problem{full{}}, "full", {cuts()[0], cuts()[1]});
}

TEST_CASE("in float values of another head_dim than the keys' are as exact as promised") {
  check_value_dims<float>(Problem{causal{}}, "causal", cuts());
  check_value_dims<float>(Problem{scattered{}, bent_and_sloped{}}, "a mask and a score function of one's own",
                          {cuts()[0], cuts()[1]});
}

TEST_CASE("in float short sequences and long ones are as exact as promised") {
  check_lengths<float>(Problem{full{}}, "full");
  check_lengths<float>(Problem{causal{}}, "causal");
  check_blocks<float>(Problem{causal{}}, "causal, in blocks");
}

TEST_CASE("in float a user's own mask and score function are as exact as promised") {
  check_head_dims<float>(Problem{band{}}, "an interval mask", {cuts()[0], cuts()[1], cuts()[2]});
  check_head_dims<float>(Problem{scattered{}, bent_and_sloped{}}, "a mask and a score function of one's own",
                         {cuts()[0], cuts()[1], cuts()[2]});
}

TEST_CASE("in float a softmax that puts nearly all weight on one key is as exact as promised") {
  for (const int head_dim : {16, 64}) {
    const Extents extents{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = head_dim, .tokens = 131};
    check_cuts(Exactness<float, Problem<causal>>(extents, Problem{causal{}}, Scores::peaked), "peaked", cuts());
  }
}

}  // namespace rondo::test
