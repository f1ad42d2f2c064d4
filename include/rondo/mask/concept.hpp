/// \file
/// The Mask concept: which keys a query may see, and what whole tiles of (queries, keys) look like.
#pragma once

#include <rondo/sharding/run.hpp>

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <type_traits>

namespace rondo {

/// Key positions [lo, hi) of the whole sequence.
struct Interval {
  std::int64_t lo = 0;
  std::int64_t hi = 0;
  friend constexpr bool operator==(const Interval&, const Interval&) = default;
};

/// What a mask leaves of a tile. `some` is always a right answer; `none` and `all` let the work or the test be skipped.
enum class Coverage { none, some, all };

/// A mask under which every query sees one interval of keys. The fast kind: full, causal, windows, documents.
template <class M>
concept IntervalMask = requires(const M& mask, int batch, int head, std::int64_t query) {
  { mask.keys(batch, head, query) } -> std::same_as<Interval>;
};

/// A mask asked pair by pair: may query i see key j? Slower, for everything that is no interval.
template <class M>
concept PairMask = requires(const M& mask, int batch, int head, std::int64_t query, std::int64_t key) {
  { mask.allows(batch, head, query, key) } -> std::same_as<bool>;
};

/// A pure, trivially copyable function of positions, callable on the device. `coverage` says what the mask leaves of a
/// tile, `work` how many pairs of it are allowed. Two ranks compare `code`, a number for each kind of mask.
template <class M>
concept Mask = std::is_trivially_copyable_v<M> && (IntervalMask<M> || PairMask<M>) &&
               requires(const M& mask, int batch, int head, const Run& queries, const Run& keys) {
                 { mask.coverage(batch, head, queries, keys) } -> std::same_as<Coverage>;
                 { mask.work(batch, head, queries, keys) } -> std::convertible_to<std::int64_t>;
                 { M::code } -> std::convertible_to<int>;
               };

/// May query i see key j, under either kind of mask?
template <class M>
KOKKOS_FUNCTION bool allows(const M& mask, int batch, int head, std::int64_t query, std::int64_t key) {
  if constexpr (IntervalMask<M>) {
    const Interval keys = mask.keys(batch, head, query);
    return keys.lo <= key && key < keys.hi;
  } else {
    return mask.allows(batch, head, query, key);
  }
}

/// Whether a mask is known to be the same for all heads; it says so with `static constexpr bool same_for_all_heads = true`.
template <class M>
inline constexpr bool same_for_all_heads = requires { requires M::same_for_all_heads; };

/// Whether every piece is sent to every rank, whatever the mask leaves out: such a mask says so with
/// `static constexpr bool sends_all = true`, and nobody works out who needs what.
template <class M>
inline constexpr bool sends_all = requires { requires M::sends_all; };

/// Indices [begin, end) into a run.
struct IndexRange {
  std::int32_t begin = 0;
  std::int32_t end = 0;
};

/// Which tokens of `run` lie in the interval.
KOKKOS_INLINE_FUNCTION IndexRange indices_in(const Interval& interval, const Run& run) {
  const auto index_of = [&run](std::int64_t position) {  // the first index at or after position
    if (position <= run.first) return std::int32_t{0};
    if (position > run.last()) return run.count;  // before any sum: an interval's end may be the largest integer
    return static_cast<std::int32_t>((position - run.first + run.stride - 1) / run.stride);
  };
  const std::int32_t begin = index_of(interval.lo);
  const std::int32_t end = index_of(interval.hi);
  return {begin, end < begin ? begin : end};
}

/// Whether some query sees some key, in any head of any batch entry.
template <Mask M>
bool sees_some(const M& mask, int batch, int heads, const Run& queries, const Run& keys) {
  const int different_heads = same_for_all_heads<M> ? 1 : heads;
  for (int b = 0; b < batch; ++b) {
    for (int h = 0; h < different_heads; ++h) {
      if (mask.coverage(b, h, queries, keys) != Coverage::none) return true;
    }
  }
  return false;
}

}  // namespace rondo
