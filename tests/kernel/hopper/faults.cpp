/// \file
/// That the simulation of warp groups sees mistakes: each one, made on purpose, is reported or makes results wrong.
#include <kernel/kernel.hpp>

#include <optional>

namespace rondo::test {
namespace {

/// Makes a mistake for as long as it lives.
struct Mistake {
  explicit Mistake(HopperFault fault) { hopper_fault = fault; }
  ~Mistake() { hopper_fault = HopperFault::none; }
};

/// What a forward pass over five tiles gives: an exception's text, or how far it is from what is promised.
template <class E>
std::string outcome(const E& exactness, HopperFault fault) {
  const Mistake mistake(fault);
  try {
    const auto results = kernel_attention<TestedKernel<bfloat16>>(exactness.inputs(), {.room = 8}, exactness.problem());
    return exactness.ratios(results).of_promise() <= 1 ? "right" : "wrong";
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace

TEST_CASE("what a kernel for warp groups may forget is seen on simulated ones") {
  const Extents extents{.batch = 1, .heads = 1, .kv_heads = 1, .head_dim = 128, .tokens = 600};
  const Exactness<bfloat16, Problem<causal>> exactness(extents, Problem{causal{}});
  CHECK(outcome(exactness, HopperFault::none) == "right");
  CHECK(outcome(exactness, HopperFault::plain_copies) == "wrong");
  CHECK(outcome(exactness, HopperFault::plain_operands) == "wrong");
  CHECK(outcome(exactness, HopperFault::rows_moved) != "right");
  CHECK(outcome(exactness, HopperFault::no_wait_for_full) != "right");
  CHECK(outcome(exactness, HopperFault::no_wait_for_empty) != "right");
  CHECK(outcome(exactness, HopperFault::wrong_phase) != "right");
  CHECK(outcome(exactness, HopperFault::few_bytes) != "right");
  CHECK(outcome(exactness, HopperFault::no_wait_for_products) == "sums are used that nobody has waited for");
  CHECK(outcome(exactness, HopperFault::no_release) == "everybody waits for somebody else");
  CHECK(outcome(exactness, HopperFault::no_publishing) == "products begin before what was written is visible to them");
  CHECK(outcome(exactness, HopperFault::no_beginning) == "products begin without a fence");
}

}  // namespace rondo::test
