/// \file
/// What holds for a kernel whatever the numbers: the same bits with any number of threads, and how far NaN and infinity
/// reach.
#pragma once

#include <kernel/kernel.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace rondo::test {

inline bool same_bits(double a, double b) { return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b); }

/// The names of the results whose bits differ.
inline std::string differing_bits(const Results<double>& a, const Results<double>& b) {
  std::string names;
  for_each_result(
      [&](const char* name, const auto& x, const auto& y) {
        if (!std::equal(x.values().begin(), x.values().end(), y.values().begin(), same_bits)) {
          names += std::string(name) + " ";
        }
      },
      a, b);
  return names;
}

template <class T, class P>
void check_threads(const P& problem, const Extents& extents) {
  const auto in = random_inputs<T>(extents);
  for (Cut cut : {Cut{}, Cut{.key_stride = 2, .queries = 301, .keys = 430}}) {
    const auto alone = kernel_attention<TestedKernel<T>>(in, cut, problem);
    for (const int threads : {1, 2, 3}) {
      cut.threads = threads;
      for (int repeat = 0; repeat < 3; ++repeat) {
        INFO(kernel_name() << ", " << text(cut));
        CHECK(differing_bits(alone, kernel_attention<TestedKernel<T>>(in, cut, problem)) == "");
      }
    }
  }
}

#ifdef RONDO_TEST_HOPPER
inline constexpr int spoiled_head_dim = 64;  // others are another kernel's
#else
inline constexpr int spoiled_head_dim = 20;
#endif
inline constexpr Extents sequence{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = spoiled_head_dim, .tokens = 150};
inline constexpr int spoiled_batch = 1;
inline constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
inline constexpr float infinity = std::numeric_limits<float>::infinity();

/// Rows out of reach that a spoiled input changed (in out and lse: a bit; in gradients: more than another order of
/// summation does), and rows within reach that kept finite all the same.
struct Reach {
  int changed = 0;
  int finite = 0;
};

template <class May>
Reach reach(const Whole<double>& clean, const Whole<double>& given, double tolerance, const May& may) {
  Reach reach;
  for (int b = 0; b < sequence.batch; ++b) {
    for (std::int64_t i = 0; i < clean.tokens(); ++i) {
      for (int h = 0; h < clean.heads(); ++h) {
        bool same = true;
        bool finite = true;
        for (int d = 0; d < clean.width(); ++d) {
          const double x = clean(b, i, h, d);
          const double y = given(b, i, h, d);
          same = same && (same_bits(x, y) || std::abs(x - y) <= tolerance);
          finite = finite && std::isfinite(y);
        }
        if (may(b, i, h)) {
          reach.finite += finite;
        } else {
          reach.changed += !same;
        }
      }
    }
  }
  return reach;
}

/// Puts `value` into one row of q (head 3), k or v (kv head 1) and checks how far it gets.
template <class T = float, class M>
void check_spoiled(const M& mask, const Cut& cut,
                   const std::vector<std::int64_t>& rows = {0, 20, 83, sequence.tokens - 1}) {
  const Problem problem{mask};
  const auto in = random_inputs<T>(sequence);
  const auto clean = kernel_attention<TestedKernel<T>>(in, cut, problem);
  const auto group_of = [](int h) { return h / (sequence.heads / sequence.kv_heads); };
  for (const std::int64_t row : rows) {
    for (const float value : {not_a_number, infinity, -infinity}) {
      const auto sees = [&](int b, std::int64_t i, int h) {
        return b == spoiled_batch && group_of(h) == 1 && oracle_allows(mask, b, h, i, row);
      };
      const auto own_group = [&](int b, std::int64_t, int g) { return b == spoiled_batch && g == 1; };
      INFO(kernel_name() << ", row " << row << ", value " << value << ", " << text(cut));
      auto spoiled = in;
      spoiled.q(spoiled_batch, row, 3, 5) = T(value);
      auto given = kernel_attention<TestedKernel<T>>(spoiled, cut, problem);
      const auto own_row = [&](int b, std::int64_t i, int h) { return b == spoiled_batch && i == row && h == 3; };
      const auto seen_key = [&](int b, std::int64_t j, int g) {
        return b == spoiled_batch && g == 1 && oracle_allows(mask, b, 3, row, j);
      };
      const bool sees_some = std::isfinite(clean.lse(spoiled_batch, row, 3, 0));
      CHECK(reach(clean.out, given.out, 0, own_row).changed == 0);
      CHECK(reach(clean.lse, given.lse, 0, own_row).changed == 0);
      CHECK(reach(clean.grad_q, given.grad_q, 1e-5, own_row).changed == 0);
      CHECK(reach(clean.grad_k, given.grad_k, 1e-5, seen_key).changed == 0);
      CHECK(reach(clean.grad_v, given.grad_v, 1e-5, seen_key).changed == 0);
      if (std::isnan(value) && sees_some) {
        CHECK(reach(clean.out, given.out, 0, own_row).finite == 0);
        CHECK(reach(clean.lse, given.lse, 0, own_row).finite == 0);
      }

      spoiled = in;
      spoiled.k(spoiled_batch, row, 1, 5) = T(value);
      given = kernel_attention<TestedKernel<T>>(spoiled, cut, problem);
      CHECK(reach(clean.out, given.out, 0, sees).changed == 0);
      CHECK(reach(clean.lse, given.lse, 0, sees).changed == 0);
      CHECK(reach(clean.grad_q, given.grad_q, 1e-5, sees).changed == 0);
      CHECK(reach(clean.grad_k, given.grad_k, 1e-5, own_group).changed == 0);
      CHECK(reach(clean.grad_v, given.grad_v, 1e-5, own_group).changed == 0);
      if (std::isnan(value)) CHECK(reach(clean.out, given.out, 0, sees).finite == 0);

      spoiled = in;
      spoiled.v(spoiled_batch, row, 1, 5) = T(value);
      given = kernel_attention<TestedKernel<T>>(spoiled, cut, problem);
      const Reach out = reach(clean.out, given.out, 0, sees);
      CHECK(out.changed == 0);
      CHECK(out.finite == 0);
      CHECK(reach(clean.lse, given.lse, 0, [](int, std::int64_t, int) { return false; }).changed == 0);
      CHECK(reach(clean.grad_q, given.grad_q, 1e-5, sees).changed == 0);
      CHECK(reach(clean.grad_v, given.grad_v, 1e-5, own_group).changed == 0);
    }
  }
}

}  // namespace rondo::test
