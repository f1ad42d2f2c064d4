#include <rondo/engine/workspace_bytes.hpp>
#include <rondo/engine/workspace_text.hpp>
#include <rondo/kernel/portable/portable.hpp>
#include <rondo/plan.hpp>
#include <rondo/sharding/contiguous.hpp>

#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>

#include <cstdint>

namespace rondo::test {
namespace {

using Catch::Approx;
using plan::Recompute;

plan::Setting setting_of(const char* model, int ranks) {
  return {.model = plan::model(model), .ranks = ranks, .type = plan::precision("bfloat16")};
}

template <class T>
void compare_workspace(const char* type) {
  for (const std::int64_t tokens : {1, 100, 5000}) {
    for (const std::int64_t chunk : {64, 4096}) {
      for (const int kv_heads : {8, 2}) {
        INFO(type << ", " << tokens << " tokens, chunk " << chunk << ", " << kv_heads << " kv heads");
        const plan::Attention attention{2, 8, kv_heads, 24, plan::precision(type), 2};
        CHECK(plan::workspace_of(attention, tokens, chunk) ==
              workspace_bytes(portable_kernel<T>{}, Shape{2, 8, kv_heads, 24}, contiguous{4 * tokens}, 4, 2, chunk));
      }
    }
  }
}

TEST_CASE("the plan's workspace is RingAttention's to the byte where a kernel sends tensors as they are") {
  compare_workspace<float>("float");
  compare_workspace<bfloat16>("bfloat16");
}

TEST_CASE("a workspace is told in words, a line for each pass that takes anything") {
  CHECK(in_words({{4096, 1024, 0}, {6144, 1280, 8192}}, "rank 1, ") ==
        "rank 1, forward: 5120 bytes, of which 4096 pieces, 1024 state of the queries, 0 travelling gradients\n"
        "rank 1, backward: 15616 bytes, of which 6144 pieces, 1280 state of the queries, 8192 travelling gradients\n");
  CHECK(in_words({{4096, 1024, 0}, {}}, "") ==
        "forward: 5120 bytes, of which 4096 pieces, 1024 state of the queries, 0 travelling gradients\n");
}

TEST_CASE("a rank's bytes, counted by hand for a small model") {
  plan::Setting setting{
      .model = plan::Model{.dim = 8, .heads = 2, .kv_heads = 1, .layers = 3, .ffn = 16, .gated = true, .vocabulary = 10}
                   .checked(),
      .ranks = 4,
      .type = plan::precision("bfloat16")};
  const plan::Memory memory = plan::memory(setting, 100);
  // q 64, out 64, k 32, v 32, three matrices of 128 and two norms of 8 in a layer; embedding, head and a norm beside them.
  const double layer = 64 + 64 + 32 + 32 + 3 * 128 + 2 * 8;
  CHECK(memory.layer == 2 * layer);
  CHECK(memory.parameters == 16 * (3 * layer + 2 * 80 + 8) / 4);
  CHECK(memory.kept == 3 * 100 * 2 * 8);
  // Two bytes each: a norm's output, what leaves the last block, out, q, what enters the feed-forward, and the gradients of
  // the block, of a part of it and of q, all of 8; k, v and theirs of 4. Four each: lse of 2 heads, angles of 4. Two numbers of 4
  // bytes.
  CHECK(memory.tensors == 100 * (2 * (8 * 8 + 4 * 4) + 4 * (2 + 4) + 8));
  // A norm's sums in double; 256 tokens at a time: 3 hidden rows of 16; two rows of 8 with 10 logits, two sums and 20 bytes.
  CHECK(memory.dense == 8 * 8 + 256 * (4 * 3 * 16 + 4 * (2 * 8 + 10 + 2) + 20));
  CHECK(memory.total() == memory.layer + memory.parameters + memory.kept + memory.tensors + memory.dense +
                              static_cast<double>(memory.workspace.total()));
  setting.recompute = Recompute::all_but_attention;
  CHECK(plan::memory(setting, 100).kept == 3 * 100 * (2 * 8 + 2 * 8 + 4 * 2));
  setting.recompute = Recompute::nothing;
  CHECK(plan::memory(setting, 100).kept == 3 * 100 * (2 * 8 + 2 * 8 + 4 * 2 + 2 * (8 + 2 * 4 + 8)));
  CHECK(plan::memory(setting, 100).tensors == 100 * (2 * (5 * 8 + 2 * 4) + 4 * 4 + 8));
}

TEST_CASE("the largest context fits, one token a rank more does not") {
  for (const int ranks : {1, 8, 512}) {
    for (const double gib : {16.0, 80.0}) {
      const plan::Setting setting = setting_of("3B", ranks);
      const std::int64_t context = plan::largest_context(setting, gib * 0x1p30);
      INFO(ranks << " ranks, " << gib << " GiB: " << context);
      if (context == 0) {
        CHECK(plan::memory(setting, 1).total() > gib * 0x1p30);
        continue;
      }
      CHECK(context % ranks == 0);
      CHECK(plan::memory(setting, context / ranks).total() <= gib * 0x1p30);
      CHECK(plan::memory(setting, context / ranks + 1).total() > gib * 0x1p30);
    }
  }
}

TEST_CASE("activations of a rank depend on its own tokens only, so that context grows with the ranks") {
  plan::Setting setting = setting_of("7B", 8);
  setting.parameter_bytes = 0;
  const double budget = 32 * 0x1p30;
  const std::int64_t at_8 = plan::largest_context(setting, budget);
  setting.ranks = 512;
  CHECK(plan::largest_context(setting, budget) == 64 * at_8);
}

TEST_CASE("keeping more for the backward pass leaves less room for the context") {
  plan::Setting setting = setting_of("7B", 64);
  const auto context = [&](Recompute what) {
    setting.recompute = what;
    return plan::largest_context(setting, 80 * 0x1p30);
  };
  CHECK(context(Recompute::layers) > context(Recompute::all_but_attention));
  CHECK(context(Recompute::all_but_attention) > context(Recompute::nothing));
}

}  // namespace
}  // namespace rondo::test
