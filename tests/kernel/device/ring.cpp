/// \file
/// A ring of ranks that share a device, each with a stream of its own, by a device's kernels: as exact as promised at every
/// number of ranks, with shards that divide by nothing and with none.
#include <kernel/kernel.hpp>

namespace rondo::test {

TEST_CASE("ranks that share a device are as exact as promised, and call after call gives the same bits") {
  for (const int head_dim : {64, 128}) {
    const Extents extents{.batch = 1, .heads = 4, .kv_heads = 2, .head_dim = head_dim, .tokens = 701};
    const Exactness<bfloat16, Problem<causal>> exactness(extents, Problem{causal{}});
    for (const int ranks : {1, 2, 3, 4, 7}) {
      for (const Layout layout : {Layout::contiguous, Layout::striped, Layout::zigzag}) {
        const Ring ring{.ranks = ranks, .layout = layout, .chunk = 100, .calls = 3};
        const ErrorRatios ratios =
            exactness.ratios(ring_attention<TestedKernel<bfloat16>>(exactness.inputs(), ring, exactness.problem()));
        INFO(kernel_name() << ", " << text(ring) << "\n" << ratios.text());
        CHECK(ratios.of_promise() <= 1);
      }
    }
  }
}

TEST_CASE("ranks that share a device may hold nothing") {
  const Extents extents{.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 64, .tokens = 3};
  const Exactness<bfloat16, Problem<causal>> exactness(extents, Problem{causal{}});
  const Ring ring{.ranks = 7, .layout = Layout::contiguous};
  const ErrorRatios ratios =
      exactness.ratios(ring_attention<TestedKernel<bfloat16>>(exactness.inputs(), ring, exactness.problem()));
  INFO(ratios.text());
  CHECK(ratios.of_promise() <= 1);
}

}  // namespace rondo::test
