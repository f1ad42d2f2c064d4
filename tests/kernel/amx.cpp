/// \file
/// host_kernel on a processor with AMX: its products in emulated tiles.
#include <support/amx_emulated.hpp>

#include "exact.hpp"

namespace rondo::test {

TEST_CASE("products in AMX tiles are as exact as promised") {
  const long before = emulated_products();
  check_head_dims<bfloat16>(Problem{causal{}}, "causal", {cuts()[1]});
  CHECK(emulated_products() > before);
}

TEST_CASE("products in AMX tiles are as exact as promised in blocks of keys") {
  check_cuts(Exactness<bfloat16, Problem<causal>>(
                 {.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 72, .tokens = 611}, Problem{causal{}}),
             "causal, in blocks", {{.queries = 300, .keys = 310, .threads = 2}});
}

}  // namespace rondo::test
