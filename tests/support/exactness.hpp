/// \file
/// The check of DESIGN's first promise: a ring's error against the oracle is, for out, lse and each gradient, at most
/// 1.5 times (RMS) and 2 times (maximum) that of plain arithmetic in the accumulate type on the same rounded inputs with
/// one rounding of the result (its keys and dimensions summed once upwards and once downwards). Oracle: double for float and bfloat16, long double for double.
#pragma once

#include <support/errors.hpp>
#include <support/generators.hpp>
#include <support/measurements.hpp>
#include <support/oracle.hpp>
#include <support/ring_case.hpp>

#include <rondo/rondo.hpp>

#include <Kokkos_Core.hpp>

#include <string>
#include <type_traits>
#include <utility>

namespace rondo::test {

template <class T>
using exact_t = std::conditional_t<std::is_same_v<T, double>, long double, double>;

inline bool allows(const full&, std::int64_t, std::int64_t) { return true; }
inline bool allows(const causal&, std::int64_t i, std::int64_t j) { return j <= i; }
inline PlainScore oracle_score(const unmodified&) { return {}; }
inline CappedScore oracle_score(const softcap& score) { return {score.cap}; }

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
    const auto sees = [this](int, int, std::int64_t i, std::int64_t j) { return test::allows(problem_.mask, i, j); };
    exact_ = plain_attention<Exact>(exact_inputs_, sees, scale_, score);

    const Extents& e = inputs_.extents;
    const auto plain_inputs = converted<A>(inputs_);
    const auto sees_backwards = [&](int b, int h, std::int64_t i, std::int64_t j) {
      return sees(b, h, e.tokens - 1 - i, e.tokens - 1 - j);
    };
    const auto upwards = plain_attention<A, T>(plain_inputs, sees, scale_, score);
    const auto downwards = plain_attention<A, T>(backwards(plain_inputs), sees_backwards, scale_, score);
    units_ = pooled(error_units(upwards, exact_), error_units(backwards(downwards, e.batch), exact_));
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
