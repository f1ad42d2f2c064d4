/// \file
/// RingAttention in float against the oracle.
#include "exact.hpp"

namespace rondo::test {

TEST_CASE("in float every length, rank count, sharding and chunk is as exact as promised") {
  check_lengths<float>(Problem{full{}}, "full");
  check_lengths<float>(Problem{causal{}}, "causal");
}

TEST_CASE("in float totals that do not divide, and ranks without tokens, are as exact as promised") {
  check_uneven_totals<float>(Problem{full{}}, "full");
  check_uneven_totals<float>(Problem{causal{}}, "causal");
}

TEST_CASE("in float a softmax that puts nearly all weight on one key is as exact as promised") {
  check_peaked<float>(Problem{full{}}, "peaked, full");
  check_peaked<float>(Problem{causal{}}, "peaked, causal");
}

TEST_CASE("in float values of another head_dim than the keys' are as exact as promised") {
  check_value_dims<float>(Problem{full{}}, "full, other values");
  check_value_dims<float>(Problem{causal{}}, "causal, other values");
}

}  // namespace rondo::test
