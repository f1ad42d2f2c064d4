/// \file
/// How far NaN and infinity reach through the kernel for Hopper: products with 0 would spread them.
#include <kernel/properties.hpp>

namespace rondo::test {

TEST_CASE("on simulated warp groups NaN and infinity reach the rows that may attend to them and no other") {
  const std::int64_t before = simulated_multiplications;
  check_spoiled<bfloat16>(causal{}, Cut{.room = 8}, {83});
  check_spoiled<bfloat16>(scattered{}, Cut{.queries = 100, .keys = 70, .room = 8}, {20});
  CHECK(simulated_multiplications > before);
}

}  // namespace rondo::test
