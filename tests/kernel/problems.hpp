/// \file
/// Masks and score functions as a user would write them, each beside its meaning said another way for the oracle.
#pragma once

#include <rondo/mask/concept.hpp>
#include <rondo/score/concept.hpp>

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace rondo::test {

/// An interval: some keys back, a few ahead, another reach for every head and batch; every seventh query sees none, and
/// query 20 sees all. Its coverage is exact: every pair is asked.
struct band {
  std::int64_t reach = 30;
  static constexpr int code = 901;

  KOKKOS_FUNCTION Interval keys(int batch, int head, std::int64_t query) const {
    if (query == 20) return {0, std::numeric_limits<std::int64_t>::max()};
    if (query % 7 == 3) return {query, query};
    return {query - reach - 5 * head, query + 2 + batch};
  }
  bool expected(int batch, int head, std::int64_t query, std::int64_t key) const {
    return query == 20 || (query % 7 != 3 && query - key <= reach + 5 * head && key - query <= 1 + batch);
  }
  KOKKOS_FUNCTION Coverage coverage(int batch, int head, const Run& queries, const Run& run) const {
    bool any = false;
    bool every = true;
    for (std::int32_t i = 0; i < queries.count; ++i) {
      const IndexRange seen = indices_in(keys(batch, head, queries.at(i)), run);
      any = any || seen.begin < seen.end;
      every = every && seen.end - seen.begin == run.count;
    }
    return any ? (every ? Coverage::all : Coverage::some) : Coverage::none;
  }
  std::int64_t work(int, int, const Run& queries, const Run& run) const {
    return std::int64_t{queries.count} * run.count;
  }
};

/// Pair by pair, no interval; some queries see nothing at all. It knows nothing of tiles: `some` is always right.
struct scattered {
  static constexpr int code = 902;

  KOKKOS_FUNCTION bool allows(int batch, int head, std::int64_t query, std::int64_t key) const {
    return query % 11 != 4 && (7 * query + 3 * key + head + 2 * batch) % 5 > 1;
  }
  bool expected(int batch, int head, std::int64_t query, std::int64_t key) const {
    const std::int64_t rest = (2 * query - 2 * key + head + 2 * batch + 5000) % 5;
    return query % 11 != 4 && rest != 0 && rest != 1;
  }
  KOKKOS_FUNCTION Coverage coverage(int, int, const Run&, const Run&) const { return Coverage::some; }
  std::int64_t work(int, int, const Run& queries, const Run& run) const {
    return std::int64_t{queries.count} * run.count;
  }
};

/// bent(s) = s / √(1 + (s / bound)²), plus a slope over the distance of query and key, another for every head.
struct bent_and_sloped {
  double bound = 2;
  double slope = 0.03;
  static constexpr int code = 903;

  template <class A>
  KOKKOS_FUNCTION A apply(A s, int batch, int head, std::int64_t query, std::int64_t key) const {
    const A x = s / static_cast<A>(bound);
    return s / Kokkos::sqrt(A{1} + x * x) -
           static_cast<A>(slope * (head + 1 - batch) * static_cast<double>(query - key));
  }
  template <class A>
  KOKKOS_FUNCTION A derivative(A s, int, int, std::int64_t, std::int64_t) const {
    const A x = s / static_cast<A>(bound);
    const A y = A{1} + x * x;
    return A{1} / (y * Kokkos::sqrt(y));
  }

  /// The same for the oracle, by other functions: sin(arctan x) = x / √(1 + x²), and its slope cos³(arctan x).
  struct Oracle {
    double bound, slope;
    template <class R>
    R apply(R s, int batch, int head, std::int64_t query, std::int64_t key) const {
      const R bent = static_cast<R>(bound) * std::sin(std::atan(s / static_cast<R>(bound)));
      return bent + static_cast<R>(slope * (batch - head - 1)) * static_cast<R>(query - key);
    }
    template <class R>
    R derivative(R s, int, int, std::int64_t, std::int64_t) const {
      const R c = std::cos(std::atan(s / static_cast<R>(bound)));
      return c * c * c;
    }
  };
  Oracle expected() const { return {bound, slope}; }
};

static_assert(IntervalMask<band> && Mask<band>);
static_assert(!IntervalMask<scattered> && Mask<scattered>);
static_assert(ScoreMod<bent_and_sloped>);

}  // namespace rondo::test
