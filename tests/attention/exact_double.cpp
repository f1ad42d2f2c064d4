/// \file
/// RingAttention in double against the oracle.
#include "exact.hpp"

namespace rondo::test {

TEST_CASE("in double every length, rank count, sharding and chunk is as exact as promised") {
  check_lengths<double>(Problem{full{}}, "full");
  check_lengths<double>(Problem{causal{}}, "causal");
}

TEST_CASE("in double totals that do not divide, and ranks without tokens, are as exact as promised") {
  check_uneven_totals<double>(Problem{full{}}, "full");
  check_uneven_totals<double>(Problem{causal{}}, "causal");
}

TEST_CASE("in double a softmax that puts nearly all weight on one key is as exact as promised") {
  check_peaked<double>(Problem{full{}}, "peaked, full");
  check_peaked<double>(Problem{causal{}}, "peaked, causal");
}

TEST_CASE("in double values of another head_dim than the keys' are as exact as promised") {
  check_value_dims<double>(Problem{full{}}, "full, other values");
  check_value_dims<double>(Problem{causal{}}, "causal, other values");
}

}  // namespace rondo::test
