/// \file
/// Masks joined by &, | and !. What is known of a tile follows from what the parts know of it: never wrong, and as sharp as
/// the parts let it be. Intervals stay intervals under &.
#pragma once

#include <rondo/fingerprint.hpp>
#include <rondo/mask/causal.hpp>
#include <rondo/mask/count.hpp>
#include <rondo/mask/full.hpp>
#include <rondo/mask/window.hpp>

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <type_traits>

namespace rondo {
namespace detail {

/// A number for a kind of combination, different for every nesting of kinds.
constexpr int joined_code(int operation, int a, int b) {
  const auto mix = [](std::uint32_t x, int y) { return (x ^ static_cast<std::uint32_t>(y)) * 16777619u; };
  return static_cast<int>(mix(mix(mix(2166136261u, operation), a), b) >> 2);
}

/// What any combination of two has.
template <Mask A, Mask B>
struct JoinedMasks {
  static constexpr bool same_for_all_heads = rondo::same_for_all_heads<A> && rondo::same_for_all_heads<B>;

  A a;
  B b;

  void check(int batch, std::int64_t queries, std::int64_t keys) const {
    check_policy(a, batch, queries, keys);
    check_policy(b, batch, queries, keys);
  }
  std::int64_t fingerprint() const { return mixed(detail::fingerprint(a), detail::fingerprint(b)); }
};

}  // namespace detail

/// The pairs that both masks allow. An interval mask when both are.
template <Mask A, Mask B>
struct and_mask : detail::JoinedMasks<A, B> {
  static constexpr int code = detail::joined_code(1, A::code, B::code);

  KOKKOS_FUNCTION Interval keys(int batch, int head, std::int64_t query) const
      requires(IntervalMask<A>&& IntervalMask<B>) {
    const Interval a = this->a.keys(batch, head, query);
    const Interval b = this->b.keys(batch, head, query);
    return {a.lo > b.lo ? a.lo : b.lo, a.hi < b.hi ? a.hi : b.hi};
  }
  KOKKOS_FUNCTION bool allows(int batch, int head, std::int64_t query, std::int64_t key) const
      requires(!IntervalMask<A> || !IntervalMask<B>) {
    return rondo::allows(this->a, batch, head, query, key) && rondo::allows(this->b, batch, head, query, key);
  }
  KOKKOS_FUNCTION Coverage coverage(int batch, int head, const Run& queries, const Run& keys) const {
    const Coverage of_a = this->a.coverage(batch, head, queries, keys);
    if (of_a == Coverage::none) return Coverage::none;
    const Coverage of_b = this->b.coverage(batch, head, queries, keys);
    return of_a == Coverage::all || of_b == Coverage::none ? of_b : Coverage::some;
  }
  std::int64_t work(int batch, int head, const Run& queries, const Run& keys) const {
    return detail::count_allowed(*this, batch, head, queries, keys);
  }
};

/// The pairs that one mask or the other allows.
template <Mask A, Mask B>
struct or_mask : detail::JoinedMasks<A, B> {
  static constexpr int code = detail::joined_code(2, A::code, B::code);

  KOKKOS_FUNCTION bool allows(int batch, int head, std::int64_t query, std::int64_t key) const {
    return rondo::allows(this->a, batch, head, query, key) || rondo::allows(this->b, batch, head, query, key);
  }
  KOKKOS_FUNCTION Coverage coverage(int batch, int head, const Run& queries, const Run& keys) const {
    const Coverage of_a = this->a.coverage(batch, head, queries, keys);
    if (of_a == Coverage::all) return Coverage::all;
    const Coverage of_b = this->b.coverage(batch, head, queries, keys);
    return of_a == Coverage::none || of_b == Coverage::all ? of_b : Coverage::some;
  }
  std::int64_t work(int batch, int head, const Run& queries, const Run& keys) const {
    return detail::count_allowed(*this, batch, head, queries, keys);
  }
};

/// The pairs that a mask does not allow.
template <Mask M>
struct not_mask {
  static constexpr int code = detail::joined_code(3, M::code, 0);

  static constexpr bool same_for_all_heads = rondo::same_for_all_heads<M>;

  M mask;

  void check(int batch, std::int64_t queries, std::int64_t keys) const {
    detail::check_policy(mask, batch, queries, keys);
  }
  std::int64_t fingerprint() const { return detail::fingerprint(mask); }

  KOKKOS_FUNCTION bool allows(int batch, int head, std::int64_t query, std::int64_t key) const {
    return !rondo::allows(mask, batch, head, query, key);
  }
  KOKKOS_FUNCTION Coverage coverage(int batch, int head, const Run& queries, const Run& keys) const {
    if (queries.count == 0 || keys.count == 0) return Coverage::none;
    const Coverage inner = mask.coverage(batch, head, queries, keys);
    if (inner == Coverage::some) return Coverage::some;
    return inner == Coverage::none ? Coverage::all : Coverage::none;
  }
  std::int64_t work(int batch, int head, const Run& queries, const Run& keys) const {
    return std::int64_t{queries.count} * keys.count - mask.work(batch, head, queries, keys);
  }
};

template <Mask A, Mask B>
constexpr and_mask<A, B> operator&(const A& a, const B& b) {
  return {{a, b}};
}
template <Mask A, Mask B>
constexpr or_mask<A, B> operator|(const A& a, const B& b) {
  return {{a, b}};
}
template <Mask M>
constexpr not_mask<M> operator!(const M& mask) {
  return {mask};
}

// Causal masks and windows are one window, whose coverage stays exact.
constexpr window operator&(const window& a, const window& b) {
  return {std::min(a.left, b.left), std::min(a.right, b.right)};
}
constexpr window operator&(const causal&, const window& b) { return {b.left, std::min<std::int64_t>(b.right, 0)}; }
constexpr window operator&(const window& a, const causal& b) { return b & a; }
constexpr causal operator&(const causal&, const causal&) { return {}; }

// Twice negated is the mask itself.
template <Mask M>
constexpr M operator!(const not_mask<M>& negated) {
  return negated.mask;
}

static_assert(IntervalMask<and_mask<causal, full>> && Mask<and_mask<causal, full>>);
static_assert(PairMask<or_mask<causal, full>> && Mask<or_mask<causal, full>>);
static_assert(PairMask<not_mask<causal>> && Mask<not_mask<causal>>);

}  // namespace rondo
