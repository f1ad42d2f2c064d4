/// \file
/// How far NaN and infinity reach through the kernel for Hopper: products with 0 would spread them.
#include <kernel/properties.hpp>

namespace rondo::test {

TEST_CASE("on simulated warp groups NaN and infinity reach the rows that may attend to them and no other") {
  const std::int64_t before = simulated_group_products;
  check_spoiled<bfloat16>(causal{}, cuts()[0], {83});
  check_spoiled<bfloat16>(scattered{}, cuts()[1], {20});
  CHECK(simulated_group_products > before);
}

}  // namespace rondo::test
