/// \file
/// RingAttention in float16 against the oracle. Masks do not depend on the type: the causal one, whose tiles are of every
/// kind, stands for all of them here.
#include <attention/exact.hpp>

namespace rondo::test {
namespace {

const Problem masked{causal{}};

/// Inputs whose values, and so the outputs and the gradients of queries and keys, lie below half's normal numbers.
Inputs<float16> tiny_inputs(const Extents& extents) {
  Inputs<float16> inputs = random_inputs<float16>(extents);
  Random random(1);
  random.fill(inputs.v, 0x1p-14);
  return inputs;
}

}  // namespace

TEST_CASE("in float16 every length, rank count, sharding and chunk is as exact as promised") {
  check_lengths<float16>(masked, "causal");
}

TEST_CASE("in float16 totals that do not divide, and ranks without tokens, are as exact as promised") {
  check_uneven_totals<float16>(masked, "causal");
}

TEST_CASE("in float16 a softmax that puts nearly all weight on one key is as exact as promised") {
  check_peaked<float16>(masked, "peaked, causal");
}

TEST_CASE("in float16 numbers below the normal ones count like others") {
  const Exactness<float16, Problem<causal>> exactness(tiny_inputs(extents_for(101)), masked);
  for (const int ranks : {1, 3}) check_rings(exactness, "below normal, causal", rings_of(ranks, {29}));
}

TEST_CASE("in float16 the portable kernel is as exact as promised") {
  const Exactness<float16, Problem<causal>> exactness(extents_for(101), masked);
  const ErrorRatios ratios = exactness.of_ring<portable_kernel<float16>>({3, Layout::striped, 29});
  note("float16, portable kernel, causal", ratios, "101 tokens");
  INFO(ratios.text());
  CHECK(ratios.of_promise() <= 1);
}

}  // namespace rondo::test
