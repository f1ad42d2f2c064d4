/// \file
/// Mistakes that a kernel on matrix cores could have, made on purpose: the checks have to notice them.
#include <kernel/kernel.hpp>

#include <string>
#include <utility>

namespace rondo::test {

TEST_CASE("a transposed operand, a wrong lane and missing barriers are noticed") {
  const Extents extents{.batch = 1, .heads = 1, .kv_heads = 1, .head_dim = 64, .tokens = 100};
  const Exactness<bfloat16, Problem<causal>> exactness(extents, Problem{causal{}});
  for (const auto& [fault, name] :
       {std::pair{MfmaFault::none, "no fault"}, std::pair{MfmaFault::transposed_operand, "a transposed operand"},
        std::pair{MfmaFault::wrong_lane, "a lane with its neighbour's elements"},
        std::pair{MfmaFault::no_barrier_before_writing, "writing where others may be reading"},
        std::pair{MfmaFault::no_barrier_before_reading, "reading what may not be there"}}) {
    INFO(name);
    mfma_complaints = 0;
    mfma_fault = fault;
    const auto results = kernel_attention<TestedKernel<bfloat16>>(exactness.inputs(), {}, exactness.problem());
    mfma_fault = MfmaFault::none;
    const bool exact = exactness.ratios(results).of_promise() <= 1 && mfma_complaints == 0;
    CHECK(exact == (fault == MfmaFault::none));
  }
}

}  // namespace rondo::test
