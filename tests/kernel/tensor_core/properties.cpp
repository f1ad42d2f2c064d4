/// \file
/// How far NaN and infinity reach through the kernels on tensor cores: products with 0 would spread them.
#include <kernel/properties.hpp>

namespace rondo::test {

TEST_CASE("on simulated lanes NaN and infinity reach the rows that may attend to them and no other") {
  check_spoiled<bfloat16>(causal{}, cuts()[0], {83});
  check_spoiled<bfloat16>(scattered{}, cuts()[1], {20});
}

}  // namespace rondo::test
