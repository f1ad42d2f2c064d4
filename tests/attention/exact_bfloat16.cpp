/// \file
/// RingAttention in bfloat16 against the oracle.
#include "exact.hpp"

namespace rondo::test {

TEST_CASE("in bfloat16 every length, rank count, sharding and chunk is as exact as promised") {
  check_lengths<bfloat16>(Problem{full{}}, "full");
  check_lengths<bfloat16>(Problem{causal{}}, "causal");
}

TEST_CASE("in bfloat16 totals that do not divide, and ranks without tokens, are as exact as promised") {
  check_uneven_totals<bfloat16>(Problem{full{}}, "full");
  check_uneven_totals<bfloat16>(Problem{causal{}}, "causal");
}

TEST_CASE("in bfloat16 a softmax that puts nearly all weight on one key is as exact as promised") {
  check_peaked<bfloat16>(Problem{full{}}, "peaked, full");
  check_peaked<bfloat16>(Problem{causal{}}, "peaked, causal");
}

TEST_CASE("in bfloat16 values of another head_dim than the keys' are as exact as promised") {
  check_value_dims<bfloat16>(Problem{full{}}, "full, other values");
  check_value_dims<bfloat16>(Problem{causal{}}, "causal, other values");
}

}  // namespace rondo::test
