/// \file
/// Attention by its formulas, on whole sequences, one query row after the other: the oracle (in double or long
/// double), and, in float, the plain arithmetic that the library's error is measured against.
///
///     s = score(scale · q·k) where allowed;  m = max s;  p = e^(s - m) / Σ e^(s - m);  out = p·v;  lse = m + ln Σ e^(s - m)
///     p = e^(s - lse);  delta = Σ out·grad_out;  ds = p · (grad_out·v - delta) · score'
///     grad_v += p·grad_out;  grad_q += scale·ds·k;  grad_k += scale·ds·q
/// With a sink, the sums over keys have one term more. With dropout, every p·v and p·grad_out has a factor w, and
/// grad_out·v too.
///
/// It shares nothing with the library: no running maximum, no blocks, no powers of two.
#pragma once

#include <support/whole.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace rondo::test {

/// Scores as they are.
struct PlainScore {
  template <class R>
  R apply(R s, int, int, std::int64_t, std::int64_t) const {
    return s;
  }
  template <class R>
  R derivative(R, int, int, std::int64_t, std::int64_t) const {
    return R{1};
  }
};

/// cap · tanh(s / cap), by exponentials.
struct CappedScore {
  double cap;

  template <class R>
  R apply(R s, int, int, std::int64_t, std::int64_t) const {
    return static_cast<R>(cap) * std::tanh(s / static_cast<R>(cap));
  }
  template <class R>
  R derivative(R s, int, int, std::int64_t, std::int64_t) const {
    const R c = std::cosh(s / static_cast<R>(cap));
    return 1 / (c * c);
  }
};

/// What may come on top of masks and score functions: one more term e^sink in every softmax, a factor on every probability
/// (dropout), and what is told the gradient of every score and of every head's sink.
struct NoExtras {
  static constexpr bool has_sink = false;
  double sink(int) const { return -std::numeric_limits<double>::infinity(); }
  double weight(int, int, std::int64_t, std::int64_t) const { return 1; }
  void note_score(int, int, std::int64_t, std::int64_t, double, double) const {}
  void note_sink(int, double) const {}
};

inline constexpr auto allows_all = [](int, int, std::int64_t, std::int64_t) { return true; };
inline constexpr auto allows_causal = [](int, int, std::int64_t i, std::int64_t j) { return j <= i; };

/// 1 / sqrt(head_dim), what a Problem takes when it is given no scale.
inline double usual_scale(const Extents& extents) { return 1 / std::sqrt(static_cast<double>(extents.head_dim)); }

namespace plain {

template <class R>
R dot(const R* a, const R* b, int width) {
  R sum = 0;
  for (int d = 0; d < width; ++d) sum += a[d] * b[d];
  return sum;
}

template <class R>
void add_scaled(R* to, R factor, const R* from, int width) {
  for (int d = 0; d < width; ++d) to[d] += factor * from[d];
}

}  // namespace plain

/// Forward and backward in the arithmetic of R. `Stored` is what out is rounded to before the backward pass reads it,
/// as it would be between the two calls of a training step; the results other than lse are rounded to it once.
/// \param allows  allows(b, h, i, j): may query i see key j?
/// \param extras  sinks and dropout, see NoExtras
template <class R, class Stored = R, class Allows, class Score = PlainScore, class Extras = NoExtras>
Results<R> plain_attention(const Inputs<R>& in, const Allows& allows, double scale_given, const Score& score = {},
                           const Extras& extras = {}) {
  const Extents& e = in.extents;
  const int dim = e.head_dim, value_dim = e.value_width();
  const R scale = static_cast<R>(scale_given);
  const auto stored = [](R x) {
    if constexpr (std::is_same_v<R, Stored>) {
      return x;
    } else {
      return static_cast<R>(static_cast<Stored>(x));
    }
  };
  Results<R> results = empty_results<R>(e);
  std::vector<R> scaled(static_cast<std::size_t>(e.tokens)), s(static_cast<std::size_t>(e.tokens));
  std::vector<std::int64_t> seen;

  for (int b = 0; b < e.batch; ++b) {
    for (int h = 0; h < e.heads; ++h) {
      const int g = h / (e.heads / e.kv_heads);
      for (std::int64_t i = 0; i < e.tokens; ++i) {
        seen.clear();
        for (std::int64_t j = 0; j < e.tokens; ++j) {
          if (allows(b, h, i, j)) seen.push_back(j);
        }
        R& lse = results.lse(b, i, h, 0);
        const R sink = static_cast<R>(extras.sink(h));
        lse = sink;
        if (seen.empty()) continue;

        const R* q = in.q.row(b, i, h);
        R m = sink;
        for (const std::int64_t j : seen) {
          const auto at = static_cast<std::size_t>(j);
          scaled[at] = scale * plain::dot(q, in.k.row(b, j, g), dim);
          s[at] = score.apply(scaled[at], b, h, i, j);
          m = std::max(m, s[at]);
        }
        R l = Extras::has_sink ? std::exp(sink - m) : R{0};
        for (const std::int64_t j : seen) l += std::exp(s[static_cast<std::size_t>(j)] - m);
        lse = m + std::log(l);
        R* out = results.out.row(b, i, h);
        for (const std::int64_t j : seen) {
          const R weight = static_cast<R>(extras.weight(b, h, i, j));
          if (weight == 0) continue;
          plain::add_scaled(out, weight * std::exp(s[static_cast<std::size_t>(j)] - m) / l, in.v.row(b, j, g),
                            value_dim);
        }
        for (int d = 0; d < value_dim; ++d) out[d] = stored(out[d]);

        const R* grad_out = in.grad_out.row(b, i, h);
        const R delta = plain::dot(out, grad_out, value_dim);
        if (Extras::has_sink) extras.note_sink(h, static_cast<double>(-std::exp(sink - lse) * delta));
        for (const std::int64_t j : seen) {
          const auto at = static_cast<std::size_t>(j);
          const R p = std::exp(s[at] - lse);
          const R weight = static_cast<R>(extras.weight(b, h, i, j));
          const R dp = weight * plain::dot(grad_out, in.v.row(b, j, g), value_dim);
          extras.note_score(b, h, i, j, static_cast<double>(scaled[at]), static_cast<double>(p * (dp - delta)));
          const R ds = p * (dp - delta) * score.derivative(scaled[at], b, h, i, j);
          plain::add_scaled(results.grad_v.row(b, j, g), weight * p, grad_out, value_dim);
          plain::add_scaled(results.grad_q.row(b, i, h), scale * ds, in.k.row(b, j, g), dim);
          plain::add_scaled(results.grad_k.row(b, j, g), scale * ds, q, dim);
        }
      }
    }
  }
  for (auto* gradient : {&results.grad_q, &results.grad_k, &results.grad_v}) {
    for (R& x : gradient->values()) x = stored(x);
  }
  return results;
}

/// The inputs in another arithmetic.
template <class R, class T>
Inputs<R> converted(const Inputs<T>& in) {
  const auto convert = [](const Whole<T>& from, Whole<R> to) {
    for (std::size_t i = 0; i < from.values().size(); ++i) {
      if constexpr (std::is_convertible_v<T, R>) {
        to.values()[i] = static_cast<R>(from.values()[i]);
      } else {
        to.values()[i] = static_cast<R>(static_cast<float>(from.values()[i]));
      }
    }
    return to;
  };
  const Extents& e = in.extents;
  return {e, convert(in.q, {e.batch, e.tokens, e.heads, e.head_dim}),
          convert(in.k, {e.batch, e.tokens, e.kv_heads, e.head_dim}),
          convert(in.v, {e.batch, e.tokens, e.kv_heads, e.value_width()}),
          convert(in.grad_out, {e.batch, e.tokens, e.heads, e.value_width()})};
}

}  // namespace rondo::test
