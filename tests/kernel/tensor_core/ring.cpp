/// \file
/// The kernels on tensor cores in a ring, their lanes played by the host: the last step of a rank finishes its rows where the
/// kernel does that, and a rank that is alone folds its keys and values from where they lie.
#include <kernel/kernel.hpp>

namespace rondo::test {

TEST_CASE(
    "on simulated lanes a ring is as exact as promised, also with pieces that are skipped and ranks that hold "
    "nothing") {
  for (const std::int64_t tokens : {3, 131}) {
    const int batch = tokens == 3 ? 8 : 1;  // what is promised is a mean: 3 tokens are too few numbers for one
    const Extents extents{.batch = batch, .heads = 2, .kv_heads = 1, .head_dim = 64, .tokens = tokens};
    const Exactness<bfloat16, Problem<causal>> exactness(extents, Problem{causal{}});
    for (const int ranks : {1, 2, 4}) {
      for (const Layout layout : {Layout::contiguous, Layout::striped, Layout::zigzag}) {
        const Ring ring{.ranks = ranks, .layout = layout, .chunk = 20, .calls = 2};
        const ErrorRatios ratios =
            exactness.ratios(ring_attention<TestedKernel<bfloat16>>(exactness.inputs(), ring, exactness.problem()));
        INFO(kernel_name() << ", " << tokens << " tokens, " << text(ring) << "\n" << ratios.text());
        CHECK(ratios.of_promise() <= 1);
      }
    }
  }
}

}  // namespace rondo::test
