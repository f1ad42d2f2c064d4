/// \file
/// A kernel in bfloat16 and in double against the oracle.
#include "exact.hpp"

namespace rondo::test {

TEST_CASE("in bfloat16 every head_dim and every cut of the sequence is as exact as promised") {
  check_head_dims<bfloat16>(Problem{causal{}}, "causal", cuts());
  check_blocks<bfloat16>(Problem{causal{}}, "causal, in blocks");
  for (const int head_dim : {16, 64}) {
    const Extents extents{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = head_dim, .tokens = 131};
    check_cuts(Exactness<bfloat16, Problem<causal>>(extents, Problem{causal{}}, Scores::peaked), "peaked", cuts());
  }
}

TEST_CASE("in bfloat16 and double values of another head_dim than the keys' are as exact as promised") {
  check_value_dims<bfloat16>(Problem{causal{}}, "causal", {cuts()[0], cuts()[1]});
  check_value_dims<double>(Problem{causal{}}, "causal", {cuts()[0], cuts()[1]});
}

TEST_CASE("in bfloat16 a user's own mask and score function are as exact as promised") {
  check_head_dims<bfloat16>(Problem{scattered{}, bent_and_sloped{}}, "a mask and a score function of one's own",
                            {cuts()[0], cuts()[2]});
}

TEST_CASE("in double every head_dim and every cut of the sequence is as exact as promised") {
  check_head_dims<double>(Problem{causal{}}, "causal", cuts());
  check_blocks<double>(Problem{causal{}}, "causal, in blocks");
}

TEST_CASE("in double a user's own mask and score function are as exact as promised") {
  check_head_dims<double>(Problem{band{}, bent_and_sloped{}}, "a mask and a score function of one's own",
                          {cuts()[0], cuts()[1]});
}

}  // namespace rondo::test
