/// \file
/// Vectors of the width that the compiler's flags name: AVX-512, AVX2, SSE or NEON, or one element at a time.
#pragma once

#include <rondo/precision.hpp>

#include <bit>
#include <cstdint>
#include <cstring>
#include <utility>
#include <type_traits>

#ifndef RONDO_HOST_VECTOR_BYTES
#if defined(__AVX512F__)
#define RONDO_HOST_VECTOR_BYTES 64
#elif defined(__AVX__)
#define RONDO_HOST_VECTOR_BYTES 32
#elif defined(__SSE2__) || defined(__ARM_NEON)
#define RONDO_HOST_VECTOR_BYTES 16
#else
#define RONDO_HOST_VECTOR_BYTES 8
#endif
#endif

// Parts of a program built for different widths have kernels of different names, so they can be linked together.
#define RONDO_HOST_CONCATENATE_(a, b) a##b
#define RONDO_HOST_CONCATENATE(a, b) RONDO_HOST_CONCATENATE_(a, b)
#define RONDO_HOST_NAMESPACE RONDO_HOST_CONCATENATE(bytes_, RONDO_HOST_VECTOR_BYTES)

// For lambdas whose captures must stay in registers.
#define RONDO_INLINE_LAMBDA __attribute__((always_inline))

namespace rondo::host {
inline namespace RONDO_HOST_NAMESPACE {

inline constexpr int vector_bytes = RONDO_HOST_VECTOR_BYTES;

template <class A>
struct vector_of;
template <>
struct vector_of<float> {
  typedef float type __attribute__((vector_size(vector_bytes)));
  typedef std::int32_t integers __attribute__((vector_size(vector_bytes)));
};
template <>
struct vector_of<double> {
  typedef double type __attribute__((vector_size(vector_bytes)));
  typedef std::int64_t integers __attribute__((vector_size(vector_bytes)));
};

/// A vector of float or double, and the integers of its size.
template <class A>
using Vec = typename vector_of<A>::type;
template <class A>
using Ints = typename vector_of<A>::integers;

/// Elements in a vector.
template <class A>
inline constexpr int width = vector_bytes / static_cast<int>(sizeof(A));

template <class A>
[[gnu::always_inline]] inline Vec<A> splat(A value) {
  return value - Vec<A>{};  // the compiler's way of saying broadcast
}

/// Calls f(integral constant) for 0 ... Count - 1: unrolled before the compiler decides what lives in registers.
template <int Count, class F>
[[gnu::always_inline]] inline void unrolled(const F& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) RONDO_INLINE_LAMBDA {
    (f(std::integral_constant<int, I>{}), ...);
  }(std::make_integer_sequence<int, Count>{});
}

/// The elements 0, 1, 2, ...
template <class A>
inline Ints<A> lane_numbers() {
  Ints<A> numbers{};
  for (int lane = 0; lane < width<A>; ++lane) numbers[lane] = lane;
  return numbers;
}

/// Loads width<A> elements of any storage type from memory of any alignment.
template <class A, class T>
[[gnu::always_inline]] inline Vec<A> load(const T* source) {
  Vec<A> result;
  if constexpr (std::is_same_v<T, A>) {
    std::memcpy(&result, source, sizeof(result));
  } else if constexpr (std::is_same_v<T, bfloat16>) {
    typedef std::uint16_t Halves __attribute__((vector_size(vector_bytes / 2)));
    Halves bits;
    std::memcpy(&bits, source, sizeof(bits));
    const Ints<A> wide = __builtin_convertvector(bits, Ints<A>) << 16;
    result = std::bit_cast<Vec<A>>(wide);
  } else {
    for (int lane = 0; lane < width<A>; ++lane) result[lane] = static_cast<A>(source[lane]);
  }
  return result;
}

template <class A>
[[gnu::always_inline]] inline void store(A* target, Vec<A> value) {
  std::memcpy(target, &value, sizeof(value));
}

template <class A>
[[gnu::always_inline]] inline Vec<A> maximum(Vec<A> a, Vec<A> b) {
  return a > b ? a : b;
}

namespace lanes_detail {

/// v with its elements exchanged across a distance of Half lanes.
template <int Half, class A, int... Lanes>
[[gnu::always_inline]] inline Vec<A> swapped(Vec<A> v, std::integer_sequence<int, Lanes...>) {
  return __builtin_shuffle(v, Ints<A>{(Lanes ^ Half)...});
}

/// combine over all elements, in a fixed tree; every lane holds the result.
template <class A, int Half = width<A> / 2, class Combine>
[[gnu::always_inline]] inline Vec<A> reduced(Vec<A> v, const Combine& combine) {
  if constexpr (Half == 0) {
    return v;
  } else {
    return reduced<A, Half / 2>(combine(v, swapped<Half, A>(v, std::make_integer_sequence<int, width<A>>{})), combine);
  }
}

}  // namespace detail

/// The largest element; NaN does not win.
template <class A>
[[gnu::always_inline]] inline A largest(Vec<A> v) {
  return lanes_detail::reduced<A>(v, [](Vec<A> a, Vec<A> b) { return maximum<A>(a, b); })[0];
}

/// The sum of the elements.
template <class A>
[[gnu::always_inline]] inline A total(Vec<A> v) {
  return lanes_detail::reduced<A>(v, [](Vec<A> a, Vec<A> b) { return a + b; })[0];
}

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace rondo::host
