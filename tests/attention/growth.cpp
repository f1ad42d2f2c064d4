/// \file
/// The error does not grow with the number of ranks: nothing is rounded from hop to hop.
#include <support/exactness.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <string>

namespace rondo::test {
namespace {

/// The same problem, so the same oracle and the same bound, at every number of ranks.
template <class T>
void check_growth() {
  const std::string type = precision_traits<T>::name;
  for (const Scores scores : {Scores::usual, Scores::peaked}) {
    const Exactness<T, Problem<causal>> exactness(
        {.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 32, .tokens = 320}, Problem{causal{}}, scores);
    const ErrorRatios alone = exactness.of_ring({1, Layout::striped});
    for (const int ranks : {2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 64}) {
      const ErrorRatios together = exactness.of_ring({ranks, Layout::striped});
      INFO(type << ", " << ranks << " ranks\n" << together.text() << "alone\n" << alone.text());
      CHECK(together.of_promise() <= 1);
      for (std::size_t i = 0; i < alone.tensors.size(); ++i) {
        // One rank may do better than plain arithmetic, by luck or because its sums are shorter: no more is promised.
        const double growth = together.tensors[i].rms / std::max(1.0, alone.tensors[i].rms);
        Measurements::instance().note(
            type + ", rms error of " + alone.tensors[i].tensor + " at N ranks / at 1 (or plain arithmetic's)", growth,
            std::to_string(ranks) + " ranks");
        CHECK(growth <= 1.1);
      }
    }
  }
}

}  // namespace

TEST_CASE("in float the error at up to 64 ranks is that of one rank") { check_growth<float>(); }

TEST_CASE("in bfloat16 the error at up to 64 ranks is that of one rank") { check_growth<bfloat16>(); }

}  // namespace rondo::test
