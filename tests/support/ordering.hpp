/// \file
/// The same problem with its tokens and its dimensions in another order: what plain arithmetic then sums in another
/// order too.
#pragma once

#include <support/whole.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

namespace rondo::test {

/// Where the token and the dimension that stand at each place come from.
struct Ordering {
  std::vector<std::int64_t> tokens;
  std::vector<std::int64_t> dims;

  static Ordering forwards(const Extents& e) {
    Ordering ordering{std::vector<std::int64_t>(static_cast<std::size_t>(e.tokens)),
                      std::vector<std::int64_t>(static_cast<std::size_t>(e.head_dim))};
    std::iota(ordering.tokens.begin(), ordering.tokens.end(), 0);
    std::iota(ordering.dims.begin(), ordering.dims.end(), 0);
    return ordering;
  }
  static Ordering backwards(const Extents& e) {
    Ordering ordering = forwards(e);
    std::reverse(ordering.tokens.begin(), ordering.tokens.end());
    std::reverse(ordering.dims.begin(), ordering.dims.end());
    return ordering;
  }
  static Ordering random(const Extents& e, std::uint64_t seed) {
    Ordering ordering = forwards(e);
    std::mt19937_64 engine(seed);
    for (auto* places : {&ordering.tokens, &ordering.dims}) {
      for (std::size_t i = places->size(); i > 1; --i) std::swap((*places)[i - 1], (*places)[engine() % i]);
    }
    return ordering;
  }

  std::int64_t token(std::int64_t place) const { return tokens[static_cast<std::size_t>(place)]; }
  int dim(int place, int width) const {
    return static_cast<std::size_t>(width) == dims.size() ? static_cast<int>(dims[static_cast<std::size_t>(place)])
                                                          : place;
  }
};

/// Calls f(element of a tensor in its own order, the same element where it stands reordered).
template <class X, class Y, class F>
void for_each_pair(const Ordering& ordering, int batch, X& own, Y& reordered, const F& f) {
  for (int b = 0; b < batch; ++b) {
    for (std::int64_t i = 0; i < own.tokens(); ++i) {
      for (int h = 0; h < own.heads(); ++h) {
        for (int d = 0; d < own.width(); ++d) {
          f(own(b, ordering.token(i), h, ordering.dim(d, own.width())), reordered(b, i, h, d));
        }
      }
    }
  }
}

template <class T>
Inputs<T> reordered(const Inputs<T>& in, const Ordering& ordering) {
  Inputs<T> result = in;
  const auto take = [&](const Whole<T>& own, Whole<T>& to) {
    for_each_pair(ordering, in.extents.batch, own, to, [](const T& x, T& y) { y = x; });
  };
  take(in.q, result.q);
  take(in.k, result.k);
  take(in.v, result.v);
  take(in.grad_out, result.grad_out);
  return result;
}

/// Results of a reordered problem, where they belong.
template <class T>
Results<T> in_own_order(const Results<T>& results, const Ordering& ordering, int batch) {
  Results<T> own = results;
  for_each_result([&](const char*, auto& to,
                      const auto& from) { for_each_pair(ordering, batch, to, from, [](T& x, const T& y) { x = y; }); },
                  own, results);
  return own;
}

/// A score function that knows where the tokens of a reordered problem come from.
template <class Score>
struct ReorderedScore {
  Score score;
  const Ordering* ordering;

  template <class R>
  R apply(R s, int b, int h, std::int64_t i, std::int64_t j) const {
    return score.apply(s, b, h, ordering->token(i), ordering->token(j));
  }
  template <class R>
  R derivative(R s, int b, int h, std::int64_t i, std::int64_t j) const {
    return score.derivative(s, b, h, ordering->token(i), ordering->token(j));
  }
};

/// Sinks and dropout likewise.
template <class Extras>
struct ReorderedExtras {
  const Extras& extras;
  const Ordering* ordering;
  static constexpr bool has_sink = Extras::has_sink;

  double sink(int h) const { return extras.sink(h); }
  double weight(int b, int h, std::int64_t i, std::int64_t j) const {
    return extras.weight(b, h, ordering->token(i), ordering->token(j));
  }
  void note_score(int, int, std::int64_t, std::int64_t, double, double) const {}
  void note_sink(int, double) const {}
};

}  // namespace rondo::test
