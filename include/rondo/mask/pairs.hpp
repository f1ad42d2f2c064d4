/// \file
/// A mask from a function of the user's.
#pragma once

#include <rondo/mask/count.hpp>

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace rondo {

/// A function that says of one pair whether query i may see key j. Trivially copyable and, where kernels run on devices,
/// callable there.
template <class F>
concept PairFunction = std::is_trivially_copyable_v<F> &&
    requires(const F& f, int batch, int head, std::int64_t query, std::int64_t key) {
  { f(batch, head, query, key) } -> std::convertible_to<bool>;
};

/// Query i sees the keys j for which f(batch, head, i, j) is true:
///
///     rondo::pairs even{KOKKOS_LAMBDA(int, int, std::int64_t i, std::int64_t j) { return (i - j) % 2 == 0; }};
///
/// Nothing is known of whole tiles, so every pair is asked and every piece is sent; joined with & to a mask that knows,
/// only what that leaves. Ranks cannot compare functions: they must have the same.
template <PairFunction F>
struct pairs {
  static constexpr int code = 8;

  F f;

  KOKKOS_FUNCTION bool allows(int batch, int head, std::int64_t query, std::int64_t key) const {
    return f(batch, head, query, key);
  }
  KOKKOS_FUNCTION Coverage coverage(int /*batch*/, int /*head*/, const Run& queries, const Run& keys) const {
    return queries.count == 0 || keys.count == 0 ? Coverage::none : Coverage::some;
  }
  /// Asks for every pair.
  std::int64_t work(int batch, int head, const Run& queries, const Run& keys) const {
    return detail::count_allowed(*this, batch, head, queries, keys);
  }
};

template <class F>
pairs(F) -> pairs<F>;

}  // namespace rondo
