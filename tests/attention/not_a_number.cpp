/// \file
/// How far NaN and infinity in one row reach: a row of q spoils its own row of the output, a row of k or v the rows that
/// may attend to it, and every other row of out and lse keeps its bits. In the gradients the rows out of reach keep
/// their values; a kernel may sum them in another order.
#include <support/exactness.hpp>

#include <catch2/catch_test_macros.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace rondo::test {
namespace {

using Kernel = default_kernel<float>;

constexpr Extents sequence{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = 16, .tokens = 150};
constexpr int spoiled_batch = 1;
constexpr int spoiled_kv_head = 0;  // serves query heads 0 and 1
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

bool same_bits(double a, double b) { return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b); }

/// Which rows of a result a spoiled input may reach, and which of them it must.
struct Reach {
  std::int64_t clean_but_changed = 0;   ///< rows out of reach whose bits changed
  std::int64_t clean_but_spoiled = 0;   ///< rows out of reach that moved by more than another order of summation does
  std::int64_t spoiled_but_finite = 0;  ///< rows within reach without NaN or infinity
};

/// \param may  may(b, i, h): the row may differ
template <class May>
Reach reach(const Whole<double>& clean, const Whole<double>& given, const May& may) {
  Reach reach;
  for (int b = 0; b < sequence.batch; ++b) {
    for (std::int64_t i = 0; i < clean.tokens(); ++i) {
      for (int h = 0; h < clean.heads(); ++h) {
        bool same = true;
        bool close = true;
        bool finite = true;
        for (int d = 0; d < clean.width(); ++d) {
          same = same && same_bits(clean(b, i, h, d), given(b, i, h, d));
          finite = finite && std::isfinite(given(b, i, h, d));
          close = close && (same || std::abs(clean(b, i, h, d) - given(b, i, h, d)) <= 1e-5);
        }
        if (may(b, i, h)) {
          reach.spoiled_but_finite += finite;
        } else {
          reach.clean_but_changed += !same;
          reach.clean_but_spoiled += !close;
        }
      }
    }
  }
  return reach;
}

constexpr auto group_of = [](int h) { return h / (sequence.heads / sequence.kv_heads); };
/// A query row of the spoiled batch and of the heads that the spoiled kv head serves.
constexpr auto in_group = [](int b, int h) { return b == spoiled_batch && group_of(h) == spoiled_kv_head; };

struct Place {
  std::int64_t row;
  Ring ring;
};

std::vector<Place> places() {
  std::vector<Place> all;
  for (const Layout layout : all_layouts) {
    for (const std::int64_t row : {0, 37, 70, 149}) {
      all.push_back({row, {1, layout, 4096}});
      all.push_back({row, {3, layout, 20}});
    }
  }
  return all;
}

/// Calls check(place, clean results, results with `value` in a row of the tensor).
template <class P, class Check>
void with_spoiled(Whole<float> Inputs<float>::*tensor, int head, float value, const P& problem, const Check& check) {
  const auto in = random_inputs<float>(sequence);
  for (const Place& place : places()) {
    const auto clean = ring_attention<Kernel>(in, place.ring, problem);
    auto spoiled = in;
    (spoiled.*tensor)(spoiled_batch, place.row, head, 5) = value;
    INFO("row " << place.row << ", " << text(place.ring) << ", value " << value);
    check(place, clean, ring_attention<Kernel>(spoiled, place.ring, problem));
  }
}

}  // namespace

TEST_CASE("NaN or infinity in a row of q spoils that row of out and lse, and no gradient of keys that it may not see") {
  constexpr int head = 2;
  for (const float value : {not_a_number, infinity}) {
    with_spoiled(&Inputs<float>::q, head, value, Problem{causal{}},
                 [&](const Place& place, const auto& clean, const auto& given) {
                   const auto own_row = [&](int b, std::int64_t i, int h) {
                     return b == spoiled_batch && i == place.row && h == head;
                   };
                   const auto seen_key = [&](int b, std::int64_t j, int g) {
                     return b == spoiled_batch && j <= place.row && g == group_of(head);
                   };
                   const Reach out = reach(clean.out, given.out, own_row);
                   const Reach lse = reach(clean.lse, given.lse, own_row);
                   const Reach grad_q = reach(clean.grad_q, given.grad_q, own_row);
                   CHECK(out.clean_but_changed == 0);
                   CHECK(lse.clean_but_changed == 0);
                   CHECK(grad_q.clean_but_spoiled == 0);
                   // Infinity may give scores of -infinity alone: a row that sees nothing.
                   if (std::isnan(value)) {
                     CHECK(out.spoiled_but_finite == 0);
                     CHECK(lse.spoiled_but_finite == 0);
                     CHECK(grad_q.spoiled_but_finite == 0);
                   }
                   CHECK(reach(clean.grad_k, given.grad_k, seen_key).clean_but_spoiled == 0);
                   CHECK(reach(clean.grad_v, given.grad_v, seen_key).clean_but_spoiled == 0);
                 });
  }
}

TEST_CASE("NaN or infinity in a row of k spoils the rows that may attend to it and no other") {
  for (const float value : {not_a_number, infinity, -infinity}) {
    with_spoiled(&Inputs<float>::k, spoiled_kv_head, value, Problem{causal{}},
                 [&](const Place& place, const auto& clean, const auto& given) {
                   const auto sees = [&](int b, std::int64_t i, int h) { return in_group(b, h) && i >= place.row; };
                   const auto same_kv_head = [&](int b, std::int64_t, int g) {
                     return b == spoiled_batch && g == spoiled_kv_head;
                   };
                   const Reach out = reach(clean.out, given.out, sees);
                   CHECK(out.clean_but_changed == 0);
                   // An infinite key whose score is -infinity has no weight: only NaN must spoil all.
                   if (std::isnan(value)) CHECK(out.spoiled_but_finite == 0);
                   CHECK(reach(clean.lse, given.lse, sees).clean_but_changed == 0);
                   CHECK(reach(clean.grad_q, given.grad_q, sees).clean_but_spoiled == 0);
                   CHECK(reach(clean.grad_k, given.grad_k, same_kv_head).clean_but_spoiled == 0);
                   CHECK(reach(clean.grad_v, given.grad_v, same_kv_head).clean_but_spoiled == 0);
                 });
  }
}

TEST_CASE("NaN or infinity in a row of v spoils the rows of out that may attend to it, and no lse") {
  for (const float value : {not_a_number, infinity, -infinity}) {
    with_spoiled(
        &Inputs<float>::v, spoiled_kv_head, value, Problem{causal{}},
        [&](const Place& place, const auto& clean, const auto& given) {
          const auto sees = [&](int b, std::int64_t i, int h) { return in_group(b, h) && i >= place.row; };
          const auto same_kv_head = [&](int b, std::int64_t, int g) {
            return b == spoiled_batch && g == spoiled_kv_head;
          };
          const Reach out = reach(clean.out, given.out, sees);
          CHECK(out.clean_but_changed == 0);
          CHECK(out.spoiled_but_finite == 0);
          CHECK(reach(clean.lse, given.lse, [](int, std::int64_t, int) { return false; }).clean_but_changed == 0);
          CHECK(reach(clean.grad_q, given.grad_q, sees).clean_but_spoiled == 0);
          CHECK(reach(clean.grad_k, given.grad_k, same_kv_head).clean_but_spoiled == 0);
          CHECK(reach(clean.grad_v, given.grad_v, same_kv_head).clean_but_spoiled == 0);
        });
  }
}

TEST_CASE("without a mask NaN in a row of q still spoils that row only, and one in k every row of its group") {
  with_spoiled(&Inputs<float>::q, 2, not_a_number, Problem{full{}},
               [](const Place& place, const auto& clean, const auto& given) {
                 const Reach out = reach(clean.out, given.out, [&](int b, std::int64_t i, int h) {
                   return b == spoiled_batch && i == place.row && h == 2;
                 });
                 CHECK(out.clean_but_changed == 0);
                 CHECK(out.spoiled_but_finite == 0);
               });
  with_spoiled(&Inputs<float>::k, spoiled_kv_head, not_a_number, Problem{full{}},
               [](const Place&, const auto& clean, const auto& given) {
                 const Reach out =
                     reach(clean.out, given.out, [](int b, std::int64_t, int h) { return in_group(b, h); });
                 CHECK(out.clean_but_changed == 0);
                 CHECK(out.spoiled_but_finite == 0);
               });
}

}  // namespace rondo::test
