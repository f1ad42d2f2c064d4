/// \file
/// Documents, scores, sinks and dropout through the kernels on tensor cores, against the oracle.
#include <kernel/kernel.hpp>
#include <support/features.hpp>

#include <rondo/mask/intervals.hpp>

#include <string>

namespace rondo::test {
namespace {

/// Three documents in a sequence of 131 tokens, looked back upon as far as 60 tokens.
struct packed : intervals {
  explicit packed(const Documents<>& documents) {
    *this &= documents.mask();
    *this &= window{.left = 60, .right = 0};
  }
  bool expected(int, int, std::int64_t i, std::int64_t j) const {
    const auto document = [](std::int64_t token) { return token < 3 ? 0 : token < 90 ? 1 : 2; };
    return document(i) == document(j) && j <= i && i - j <= 60;
  }
};

void check(const std::string& kind, softcap_alibi score, double bias, bool sinks, dropout drop) {
  const Documents<> documents{{0, 3, 90, 131}};
  Learned<float> learned(bias, sinks);
  const Extents extents{.batch = 1, .heads = 4, .kv_heads = 2, .head_dim = 40, .tokens = 131};
  using P = FeatureProblem<float, packed>;
  const Exactness<bfloat16, P> exactness(extents, learned.problem(packed{documents}, score, drop));
  const std::int64_t before = simulated_multiplications;
  check_cuts(exactness, kind, {cuts()[0], cuts()[1]});
  CHECK(simulated_multiplications > before);
}

}  // namespace

TEST_CASE("on simulated lanes documents, scores, sinks and dropout are as exact as promised") {
  check("documents", {}, 0, false, {});
  check("softcap and alibi", {.cap = 2, .heads = 4}, 0, false, {});
  check("biases and sinks", {}, 1, true, {});
  check("dropout", {}, 0, false, {0.3, 12345678901234567u});
  check("all features", {.cap = 2, .heads = 4}, 1, true, {0.2, 99});
}

}  // namespace rondo::test
