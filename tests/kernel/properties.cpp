/// \file
/// The properties of a kernel, for every kind of mask.
#include "properties.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace rondo::test {

TEST_CASE("one, two and three threads give the same bits, call after call") {
  check_threads<float>(Problem{causal{}}, {.batch = 1, .heads = 4, .kv_heads = 2, .head_dim = 20, .tokens = 900});
  check_threads<float>(Problem{scattered{}, bent_and_sloped{}},
                       {.batch = 2, .heads = 2, .kv_heads = 1, .head_dim = 8, .tokens = 450});
}

TEST_CASE("a query that sees no key gives 0, -inf and no gradient, and finite ones to all others") {
  const auto in = random_inputs<float>(sequence);
  for (const Cut& cut : cuts()) {
    const auto results = kernel_attention<TestedKernel<float>>(in, cut, Problem{band{}});
    int blind = 0;
    int wrong = 0;
    for (int b = 0; b < sequence.batch; ++b) {
      for (std::int64_t i = 0; i < sequence.tokens; ++i) {
        for (int h = 0; h < sequence.heads; ++h) {
          bool sees = false;
          for (std::int64_t j = 0; j < sequence.tokens; ++j) sees = sees || band{}.expected(b, h, i, j);
          blind += !sees;
          if ((results.lse(b, i, h, 0) == -std::numeric_limits<double>::infinity()) == sees) ++wrong;
          for (int d = 0; d < sequence.head_dim; ++d) {
            if (!sees && (results.out(b, i, h, d) != 0 || results.grad_q(b, i, h, d) != 0)) ++wrong;
          }
        }
      }
    }
    INFO(kernel_name() << ", " << text(cut));
    CHECK(blind > 0);
    CHECK(wrong == 0);
    for_each_result(
        [](const char* name, const auto& x) {
          INFO(name);
          CHECK(std::none_of(x.values().begin(), x.values().end(), [](double y) { return std::isnan(y); }));
        },
        results);
  }
}

TEST_CASE("NaN and infinity reach the rows that may attend to them and no other") {
  for (const Cut& cut : {cuts()[0], cuts()[1]}) {
    check_spoiled(causal{}, cut);
    check_spoiled(band{}, cut);
    check_spoiled(scattered{}, cut);
  }
}

}  // namespace rondo::test
