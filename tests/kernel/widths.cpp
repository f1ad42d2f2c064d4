/// \file
/// Parts of a program that are built for vectors of different widths can be linked together, and each uses its own.
#include <kernel/widths.hpp>
#include <support/exactness.hpp>

#include <catch2/catch_test_macros.hpp>

namespace rondo::test {

TEST_CASE("parts built for different vector widths work in one program, each with its own kernel") {
  const Exactness<float, Problem<causal>> exactness(
      {.batch = 1, .heads = 4, .kv_heads = 2, .head_dim = 20, .tokens = 131}, Problem{causal{}});
  unsigned formats[2] = {};
  for (const bool in_ring : {false, true}) {
    const Part narrow = part_of_8_bytes(exactness.inputs(), in_ring);
    const Part wide = part_of_32_bytes(exactness.inputs(), in_ring);
    CHECK(narrow.vector_bytes == 8);
    CHECK(wide.vector_bytes == 32);
    CHECK(exactness.ratios(narrow.results).of_promise() <= 1);
    CHECK(exactness.ratios(wide.results).of_promise() <= 1);
    formats[0] = narrow.wire_format;
    formats[1] = wide.wire_format;
  }
  CHECK(formats[0] != formats[1]);
}

}  // namespace rondo::test
