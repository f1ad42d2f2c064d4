/// \file
/// host_kernel with vectors that are not the processor's widest: each storage type, with and without a user's own mask and
/// score function, and the properties.
#include "exact.hpp"
#include "properties.hpp"

#include <rondo/mask/algebra.hpp>
#include <rondo/mask/window.hpp>

namespace rondo::test {

TEST_CASE("every width is as exact as promised in float") {
  check_head_dims<float>(Problem{causal{}}, "causal", cuts());
  check_value_dims<float>(Problem{causal{}}, "causal", {cuts()[0], cuts()[1]});
  check_lengths<float>(Problem{causal{}}, "causal");
  check_blocks<float>(Problem{causal{}}, "causal, in blocks");
  check_head_dims<float>(Problem{band{}}, "an interval mask", {cuts()[1], cuts()[2]});
}

TEST_CASE("every width is as exact as promised in bfloat16") {
  check_head_dims<bfloat16>(Problem{scattered{}, bent_and_sloped{}}, "a mask and a score function of one's own",
                            {cuts()[0], cuts()[2]});
}

TEST_CASE("every width is as exact as promised in double") {
  check_head_dims<double>(Problem{causal{}}, "causal", {cuts()[0], cuts()[1]});
}

TEST_CASE("every width gives the same bits with one, two and three threads") {
  check_threads<float>(Problem{causal{}}, {.batch = 1, .heads = 4, .kv_heads = 2, .head_dim = 20, .tokens = 900});
  // Threads that share the rows of one head, which see some blocks of keys, all but some, or none before the last.
  constexpr Extents one_head{.batch = 1, .heads = 1, .kv_heads = 1, .head_dim = 8, .tokens = 2000};
  check_threads<float>(Problem{window{300, 200}}, one_head);
  check_threads<float>(Problem{!window{300, 200}}, one_head);
  check_threads<float>(Problem{!causal{}}, one_head);
}

TEST_CASE("every width keeps NaN and infinity to the rows that may attend to them") {
  check_spoiled(causal{}, cuts()[1]);
  check_spoiled(band{}, cuts()[0]);
}

}  // namespace rondo::test
