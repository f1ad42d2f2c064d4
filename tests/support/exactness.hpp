/// \file
/// The check of DESIGN's first promise: a ring's error against the oracle is, for out, lse and each gradient, at most
/// 1.5 times (RMS) and 2 times (maximum) that of plain arithmetic in the accumulate type on the same rounded inputs with
/// one rounding of the result. Oracle: double for float and bfloat16, long double for double.
#pragma once

#include <support/errors.hpp>
#include <support/generators.hpp>
#include <support/measurements.hpp>
#include <support/oracle.hpp>
#include <support/ordering.hpp>
#include <support/ring_case.hpp>

#include <rondo/rondo.hpp>

#include <Kokkos_Core.hpp>

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace rondo::test {

template <class T>
using exact_t = std::conditional_t<std::is_same_v<T, double>, long double, double>;

inline bool oracle_allows(const full&, int, int, std::int64_t, std::int64_t) { return true; }
inline bool oracle_allows(const causal&, int, int, std::int64_t i, std::int64_t j) { return j <= i; }
inline PlainScore oracle_score(const unmodified&) { return {}; }
inline CappedScore oracle_score(const softcap& score) { return {score.cap}; }

/// A test's own masks and score functions say what they mean in `expected`.
template <class M>
  requires requires(const M& mask) { mask.expected(0, 0, 0, 0); }
bool oracle_allows(const M& mask, int b, int h, std::int64_t i, std::int64_t j) {
  return mask.expected(b, h, i, j);
}
template <class S>
  requires requires(const S& score) { score.expected(); }
auto oracle_score(const S& score) {
  return score.expected();
}

/// Sinks of a test say what they and the dropout mean in `expected`.
template <class P>
auto oracle_extras(const P& problem) {
  if constexpr (requires { problem.sink.expected(problem.dropout); }) {
    return problem.sink.expected(problem.dropout);
  } else {
    static_assert(!P::has_sink && !P::has_dropout);
    return NoExtras{};
  }
}

/// One problem with the oracle's and plain arithmetic's answers.
template <class T, class P = Problem<>>
class Exactness {
 public:
  using A = accumulate_t<T>;
  using Exact = exact_t<T>;

  explicit Exactness(const Extents& extents, const P& problem = {}, Scores scores = Scores::usual,
                     std::uint64_t stream = 0)
      : Exactness(random_inputs<T>(extents, scores, stream), problem) {}

  Exactness(Inputs<T> inputs, const P& problem)
      : problem_(problem),
        inputs_(std::move(inputs)),
        exact_inputs_(converted<Exact>(inputs_)),
        scale_(std::isnan(problem.scale) ? usual_scale(inputs_.extents) : problem.scale) {
    const auto score = oracle_score(problem_.score);
    const auto extras = oracle_extras(problem_);
    const auto sees = [this](int b, int h, std::int64_t i, std::int64_t j) {
      return oracle_allows(problem_.mask, b, h, i, j);
    };
    exact_ = plain_attention<Exact>(exact_inputs_, sees, scale_, score, extras);

    const Extents& e = inputs_.extents;
    const auto plain_inputs = converted<A>(inputs_);
    std::vector<ErrorUnits> units;
    for (const Ordering& ordering : orderings(e)) {
      const auto sees_reordered = [&](int b, int h, std::int64_t i, std::int64_t j) {
        return sees(b, h, ordering.token(i), ordering.token(j));
      };
      const auto plain = plain_attention<A, T>(reordered(plain_inputs, ordering), sees_reordered, scale_,
                                               ReorderedScore{score, &ordering}, ReorderedExtras{extras, &ordering});
      units.push_back(error_units(in_own_order(plain, ordering, e.batch), exact_));
    }
    units_ = pooled(units);
    if (e.tokens <= few_tokens) units_ = with_floor<A>(units_, exact_inputs_, scale_);
  }

  const P& problem() const { return problem_; }
  const Inputs<T>& inputs() const { return inputs_; }
  const Results<Exact>& exact() const { return exact_; }

  /// How far results are from the oracle, in units of plain arithmetic's distance.
  ErrorRatios ratios(const Results<double>& results) const { return error_ratios(results, exact_, units_); }

  /// The same for what a ring gives.
  template <class Kernel = default_kernel<T>, class Wrap = decltype(unwrapped)>
  ErrorRatios of_ring(const Ring& ring, const Kernel& kernel = {}, const Wrap& wrap = unwrapped) const {
    return ratios(ring_attention(inputs_, ring, problem_, kernel, wrap));
  }

  static constexpr std::int64_t few_tokens = 20;

 private:
  /// Plain arithmetic may sum keys and dimensions in any order, and on a small problem one order can be lucky. Its error
  /// is taken over several: upwards and downwards, and the smaller the problem the more random ones.
  static std::vector<Ordering> orderings(const Extents& e) {
    std::vector<Ordering> all{Ordering::forwards(e), Ordering::backwards(e)};
    const std::int64_t numbers = e.batch * e.tokens * e.kv_heads * e.head_dim;
    const std::int64_t more = numbers <= 10000 ? 6 : (numbers <= 100000 ? 2 : 0);
    for (std::int64_t i = 0; i < more; ++i) all.push_back(Ordering::random(e, static_cast<std::uint64_t>(i)));
    return all;
  }

  P problem_;
  Inputs<T> inputs_;
  Inputs<Exact> exact_inputs_;
  double scale_;
  Results<Exact> exact_;
  ErrorUnits units_;
};

/// Notes the ratios under "<kind>: <tensor> rms" and "... max", for the list at the end of a program.
inline void note(const std::string& kind, const ErrorRatios& ratios, const std::string& from) {
  for (const auto& ratio : ratios.tensors) {
    Measurements::instance().note(kind + ", error of " + ratio.tensor + " / plain arithmetic's, rms", ratio.rms, from);
    Measurements::instance().note(kind + ", error of " + ratio.tensor + " / plain arithmetic's, max", ratio.max, from);
  }
}

}  // namespace rondo::test
