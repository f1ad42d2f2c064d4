/// \file
/// Rows of head_dim elements in tensors, and their way to the host kernel's packed rows and back.
#pragma once

#include <rondo/kernel/host/vec.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace rondo::host {
inline namespace RONDO_HOST_NAMESPACE {

/// One row of a tensor: element d stands at data[d · element].
template <class T>
struct Row {
  T* data = nullptr;
  std::ptrdiff_t element = 1;
  int count = 0;

  T& operator[](int d) const { return data[d * element]; }
};

/// The row of one (batch, token, head) of a tensor [batch, sequence, heads, head_dim].
template <class Tensor4>
auto row_of(const Tensor4& x, int b, std::int64_t token, int head) {
  return Row<typename Tensor4::value_type>{&x(b, token, head, 0), static_cast<std::ptrdiff_t>(x.stride(3)),
                                           static_cast<int>(x.extent(3))};
}

/// Cache lines of a row of T, if it begins with one.
template <class T>
constexpr int lines_of(int count) {
  constexpr int line = 64 / static_cast<int>(sizeof(T));
  return (count + line - 1) / line;
}

/// Asks for lines [begin, end) of the row of one (batch, token, head) to come into the second-level cache: rows lie far
/// apart, so that the processor does not see the next one coming.
template <bool Written, class Tensor4>
[[gnu::always_inline]] inline void fetch_row(const Tensor4& x, int b, std::int64_t token, int head, int begin,
                                             int end) {
  constexpr int line = 64 / static_cast<int>(sizeof(typename Tensor4::value_type));
  const auto* const row = &x(b, token, head, 0);
  for (int at = begin; at < end; ++at) __builtin_prefetch(row + at * line, Written, 2);
}

/// Copies a row, or nothing where there is none, and fills the target with zeros up to `padded` elements.
/// \tparam A  the accumulate type, which the target holds unless it holds what the row does
template <class A, class To, class T>
void load_row(To* to, int padded, const Row<T>& from) {
  int d = 0;
  if (from.element == 1) {
    if constexpr (std::is_same_v<To, A>) {
      for (; d + width<A> <= from.count; d += width<A>) store<A>(to + d, load<A>(from.data + d));
    } else {
      for (; d + width<A> <= from.count; d += width<A>) std::memcpy(to + d, from.data + d, width<A> * sizeof(To));
    }
  }
  for (; d < from.count; ++d) to[d] = static_cast<To>(from[d]);
  for (; d < padded; ++d) to[d] = static_cast<To>(A{0});
}

template <class A>
void store_row(const Row<A>& to, const A* from) {
  int d = 0;
  if (to.element == 1) {
    for (; d + width<A> <= to.count; d += width<A>) store(to.data + d, load<A>(from + d));
  }
  for (; d < to.count; ++d) to[d] = from[d];
}

/// to += from.
template <class A>
void add_row(const Row<A>& to, const A* from) {
  int d = 0;
  if (to.element == 1) {
    for (; d + width<A> <= to.count; d += width<A>) store(to.data + d, load<A>(to.data + d) + load<A>(from + d));
  }
  for (; d < to.count; ++d) to[d] += from[d];
}

/// to = from / divisor, rounded to T; 0 where the divisor is.
template <class A, class T>
void divide_row(const Row<T>& to, const Row<const A>& from, A divisor) {
  int d = 0;
  if (divisor == A{0}) {
    for (; d < to.count; ++d) to[d] = static_cast<T>(A{0});
    return;
  }
  if (to.element == 1 && from.element == 1) {
    const Vec<A> divisors = splat(divisor);
    for (; d + width<A> <= to.count; d += width<A>) store<A>(to.data + d, load<A>(from.data + d) / divisors);
  }
  for (; d < to.count; ++d) to[d] = static_cast<T>(from[d] / divisor);
}

/// Σ over d of a[d] · b[d], in whole vectors first.
template <class A, class T>
A row_product(const Row<T>& a, const Row<T>& b) {
  Vec<A> sums{};
  int d = 0;
  if (a.element == 1 && b.element == 1) {
    for (; d + width<A> <= a.count; d += width<A>) sums += load<A>(a.data + d) * load<A>(b.data + d);
  }
  A sum = total<A>(sums);
  for (; d < a.count; ++d) sum += static_cast<A>(a[d]) * static_cast<A>(b[d]);
  return sum;
}

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace rondo::host
