/// \file
/// host_kernel on a processor with AMX: its products in emulated tiles.
#include <support/amx_emulated.hpp>

#include "exact.hpp"
#include "properties.hpp"

namespace rondo::test {

void check_amx() {
  check_head_dims<bfloat16>(Problem{causal{}}, "causal", {cuts()[1]});
  check_value_dims<bfloat16>(Problem{causal{}}, "causal", {cuts()[1]});
  check_head_dims<bfloat16>(Problem{scattered{}, bent_and_sloped{}}, "a mask and a score function of one's own",
                            {cuts()[2]});
}

TEST_CASE("products in AMX tiles are as exact as promised") {
  const long before = emulated_products();
  check_amx();
  CHECK(emulated_products() > before);
}

TEST_CASE("products in AMX tiles are as exact as promised in blocks of keys") {
  check_cuts(Exactness<bfloat16, Problem<causal>>(
                 {.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 72, .tokens = 611}, Problem{causal{}}),
             "causal, in blocks", {{.queries = 300, .keys = 310, .threads = 2}});
}

TEST_CASE("products in AMX tiles keep NaN and infinity to the rows that may attend to them") {
  check_spoiled<bfloat16>(causal{}, cuts()[1]);
  check_spoiled<bfloat16>(band{}, cuts()[0]);
  check_spoiled<bfloat16>(scattered{}, cuts()[0]);
}

TEST_CASE("products in AMX tiles give the same bits with one, two and three threads") {
  check_threads<bfloat16>(Problem{causal{}}, {.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 20, .tokens = 900});
}

TEST_CASE("without leave to use AMX tiles, products are as exact") {
  const long before = emulated_products();
  emulated_amx_granted() = false;
  check_amx();
  emulated_amx_granted() = true;
  CHECK(emulated_products() == before);
}

}  // namespace rondo::test
