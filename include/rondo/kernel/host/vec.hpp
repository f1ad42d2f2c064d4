/// \file
/// Vectors of the width that the compiler's flags name: AVX-512, AVX2, SSE or NEON, or one element at a time.
#pragma once

#include <rondo/kernel/host/float16.hpp>
#include <rondo/precision.hpp>

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#ifdef __AVX__
#include <immintrin.h>
#endif

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

// Whether pairs of bfloat16 are multiplied as they are. Faster (docs/performance.md); probabilities are rounded to bfloat16
// for it. Define RONDO_HOST_NO_PAIRS to have them widened to float instead.
#if defined(__AVX512BF16__) && RONDO_HOST_VECTOR_BYTES == 64 && !defined(RONDO_HOST_NO_PAIRS)
#define RONDO_HOST_PAIRS 1
#else
#define RONDO_HOST_PAIRS 0
#endif

// Whether they are multiplied in AMX tiles, should Linux allow it when the program runs. RONDO_HOST_NO_AMX: never.
#ifndef RONDO_HOST_AMX
#if RONDO_HOST_PAIRS && defined(__AMX_BF16__) && defined(__linux__) && !defined(RONDO_HOST_NO_AMX)
#define RONDO_HOST_AMX 1
#else
#define RONDO_HOST_AMX 0
#endif
#endif

// Second-level cache of a core in KiB, which blocks are sized for.
#ifndef RONDO_HOST_CACHE_KIB
#define RONDO_HOST_CACHE_KIB 1024
#endif

// Parts of a program built for different processors have kernels of different names, so they can be linked together.
#define RONDO_HOST_NAME_(unit, bytes, cache) unit##_bytes_##bytes##_cache_##cache
#define RONDO_HOST_NAME(unit, bytes, cache) RONDO_HOST_NAME_(unit, bytes, cache)
#if RONDO_HOST_AMX
#define RONDO_HOST_NAMESPACE RONDO_HOST_NAME(amx, RONDO_HOST_VECTOR_BYTES, RONDO_HOST_CACHE_KIB)
#elif RONDO_HOST_PAIRS
#define RONDO_HOST_NAMESPACE RONDO_HOST_NAME(pairs, RONDO_HOST_VECTOR_BYTES, RONDO_HOST_CACHE_KIB)
#else
#define RONDO_HOST_NAMESPACE RONDO_HOST_NAME(plain, RONDO_HOST_VECTOR_BYTES, RONDO_HOST_CACHE_KIB)
#endif

// For lambdas whose captures must stay in registers.
#define RONDO_INLINE_LAMBDA __attribute__((always_inline))

namespace rondo::host {
inline namespace RONDO_HOST_NAMESPACE {

inline constexpr int vector_bytes = RONDO_HOST_VECTOR_BYTES;

/// What a thread's scratch memory has to fit: the second-level cache, of which more than 1 MiB would gain nothing.
inline constexpr int cache_bytes = (RONDO_HOST_CACHE_KIB < 1024 ? RONDO_HOST_CACHE_KIB : 1024) << 10;
static_assert(RONDO_HOST_CACHE_KIB >= 256, "RONDO_HOST_CACHE_KIB is at least 256: blocks do not get smaller than that");

/// Bytes of a vector of A: never less than one element. With vectors of 4 bytes everything is one element at a time.
template <class A>
inline constexpr int bytes_of_vector = vector_bytes < static_cast<int>(sizeof(A)) ? static_cast<int>(sizeof(A))
                                                                                  : vector_bytes;

template <class A>
struct vector_of;
template <>
struct vector_of<float> {
  typedef float type __attribute__((vector_size(bytes_of_vector<float>)));
  typedef std::int32_t integers __attribute__((vector_size(bytes_of_vector<float>)));
};
template <>
struct vector_of<double> {
  typedef double type __attribute__((vector_size(bytes_of_vector<double>)));
  typedef std::int64_t integers __attribute__((vector_size(bytes_of_vector<double>)));
};

/// A vector of float or double, and the integers of its size.
template <class A>
using Vec = typename vector_of<A>::type;
template <class A>
using Ints = typename vector_of<A>::integers;

template <class T, int Lanes>
struct bits_of {
  using integer =
      std::conditional_t<sizeof(T) == 2, std::int16_t, std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>>;
  typedef integer type __attribute__((vector_size(Lanes * static_cast<int>(sizeof(T)))));
};
/// A vector of Lanes elements of T as integers, to be moved about.
template <class T, int Lanes>
using Bits = typename bits_of<T, Lanes>::type;

/// Elements in a vector.
template <class A>
inline constexpr int width = bytes_of_vector<A> / static_cast<int>(sizeof(A));

template <class A>
[[gnu::always_inline]] inline Vec<A> splat(A value) {
  return value - Vec<A>{};  // the compiler's way of saying broadcast
}

/// Calls f(integral constant) for 0 ... Count - 1: unrolled before the compiler decides what lives in registers.
template <int Count, class F>
[[gnu::always_inline]] inline void unrolled(const F& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) RONDO_INLINE_LAMBDA { (f(std::integral_constant<int, I>{}), ...); }
  (std::make_integer_sequence<int, Count>{});
}

/// The elements 0, 1, 2, ...
template <class A>
inline Ints<A> lane_numbers() {
  Ints<A> numbers{};
  for (int lane = 0; lane < width<A>; ++lane) numbers[lane] = lane;
  return numbers;
}

/// How many neighbouring elements of the depth the processor multiplies and adds at a time: 2 for bfloat16 where it has
/// dot products of pairs. Their products are exact and are summed in float.
template <class T>
inline constexpr int depth_step = 1;
#if RONDO_HOST_PAIRS
template <>
inline constexpr int depth_step<bfloat16> = 2;

/// sums[i] + a[2i]·b[2i] + a[2i + 1]·b[2i + 1], with the same pair `a` for all i.
[[gnu::always_inline]] inline Vec<float> add_pairs(Vec<float> sums, const bfloat16* a, const bfloat16* b) {
  std::int32_t pair;
  Bits<float, 16> pairs;
  std::memcpy(&pair, a, sizeof(pair));
  std::memcpy(&pairs, b, sizeof(pairs));
  const Bits<float, 16> repeated = pair - Bits<float, 16>{};
  return _mm512_dpbf16_ps(sums, std::bit_cast<__m512bh>(repeated), std::bit_cast<__m512bh>(pairs));
}
#endif

/// Loads width<A> elements of any storage type from memory of any alignment.
template <class A, class T>
[[gnu::always_inline]] inline Vec<A> load(const T* source) {
  Vec<A> result;
  if constexpr (std::is_same_v<T, A>) {
    std::memcpy(&result, source, sizeof(result));
  } else if constexpr (std::is_same_v<T, bfloat16>) {
#if defined(__AVX512F__) && RONDO_HOST_VECTOR_BYTES == 64  // which GCC would do by halves
    __m256i bits;
    std::memcpy(&bits, source, sizeof(bits));
    const Ints<A> wide = std::bit_cast<Ints<A>>(_mm512_maskz_cvtepu16_epi32(0xffff, bits));
#else
    typename parts_of<Vec<A>>::halves bits;
    std::memcpy(&bits, source, sizeof(bits));
    const Ints<A> wide = __builtin_convertvector(bits, Ints<A>);
#endif
    result = std::bit_cast<Vec<A>>(wide << 16);
  } else if constexpr (std::is_same_v<T, float16>) {
    result = float16_as_floats<Vec<A>>(source);
  } else {
    for (int lane = 0; lane < width<A>; ++lane) result[lane] = static_cast<A>(source[lane]);
  }
  return result;
}

/// Stores elements to memory of any alignment. (Of memcpy GCC makes a second copy of a vector that is used further.)
template <class A>
[[gnu::always_inline]] inline void store(A* target, Vec<A> value) {
  typedef A Unaligned __attribute__((vector_size(bytes_of_vector<A>), aligned(alignof(A)), may_alias));
  *reinterpret_cast<Unaligned*>(target) = value;
}

/// Stores elements rounded to bfloat16, as bfloat16 rounds them itself.
template <class A>
[[gnu::always_inline]] inline void store(bfloat16* target, Vec<A> value) {
  using Words = typename parts_of<Vec<A>>::unsigned_words;
  using Halves = typename parts_of<Vec<A>>::halves;
  const Words bits = std::bit_cast<Words>(value);
  const Words rounded = bits + 0x7fffu + (bits >> 16 & 1u);
  const Words wide = (bits & 0x7fffffffu) > 0x7f800000u ? bits | 0x00400000u : rounded;  // NaN stays NaN
  const Halves halves = __builtin_convertvector(wide >> 16, Halves);
  std::memcpy(static_cast<void*>(target), &halves, sizeof(halves));
}

/// Stores elements rounded to float16.
template <class A>
[[gnu::always_inline]] inline void store(float16* target, Vec<A> value) {
  store_as_float16(target, value);
}

/// Stores elements of which those below the normal numbers may become zero: what the processor's own rounding to bfloat16
/// makes of them.
template <class A, class T>
[[gnu::always_inline]] inline void store_or_flush(T* target, Vec<A> value) {
#if RONDO_HOST_PAIRS
  if constexpr (std::is_same_v<T, bfloat16>) {
    const __m256bh rounded = _mm512_cvtneps_pbh(value);
    std::memcpy(static_cast<void*>(target), &rounded, sizeof(rounded));
    return;
  }
#endif
  store<A>(target, value);
}

/// a > b ? a : b, so b where either is NaN.
template <class A>
[[gnu::always_inline]] inline Vec<A> maximum(Vec<A> a, Vec<A> b) {
#if defined(__AVX__) && RONDO_HOST_VECTOR_BYTES == 32
  if constexpr (std::is_same_v<A, float>) return _mm256_max_ps(a, b);  // compilers make two instructions of it
#endif
  return a > b ? a : b;
}

#if defined(__AVX2__) && RONDO_HOST_VECTOR_BYTES == 32
/// Of eight numbers, for each place the one that the low three bits there name: an instruction of AVX2.
[[gnu::always_inline]] inline Ints<float> chosen(Ints<float> numbers, Ints<float> places) {
  return std::bit_cast<Ints<float>>(
      _mm256_permutevar8x32_epi32(std::bit_cast<__m256i>(numbers), std::bit_cast<__m256i>(places)));
}
#endif

#if defined(__AVX512F__) && RONDO_HOST_VECTOR_BYTES == 64
/// x rounded to integers, and x·2^n for integers n: instructions of AVX-512.
template <class A>
[[gnu::always_inline]] inline Vec<A> nearest_integers(Vec<A> x) {
  if constexpr (std::is_same_v<A, float>) {
    return _mm512_maskz_roundscale_ps(0xffff, x, _MM_FROUND_TO_NEAREST_INT);
  } else {
    return _mm512_maskz_roundscale_pd(0xff, x, _MM_FROUND_TO_NEAREST_INT);
  }
}
template <class A>
[[gnu::always_inline]] inline Vec<A> scaled_by_powers(Vec<A> x, Vec<A> n) {
  if constexpr (std::is_same_v<A, float>) {
    return _mm512_maskz_scalef_ps(0xffff, x, n);
  } else {
    return _mm512_maskz_scalef_pd(0xff, x, n);
  }
}
#endif

namespace lanes_detail {

/// The elements of a and, from sizeof...(Lanes) on, of b, at the given places.
template <int... Lanes, class V>
[[gnu::always_inline]] inline V shuffled(V a, V b) {
#if defined(__NVCC__)  // whose front end expands no pack in either builtin
  constexpr int count = sizeof...(Lanes);
  return V{(Lanes < count ? a[Lanes % count] : b[Lanes % count])...};
#elif __has_builtin(__builtin_shufflevector)
  return __builtin_shufflevector(a, b, Lanes...);
#else
  return __builtin_shuffle(a, b, decltype(a == b){Lanes...});
#endif
}

/// v with its elements exchanged across a distance of Half lanes.
template <int Half, class A, int... Lanes>
[[gnu::always_inline]] inline Vec<A> swapped(Vec<A> v, std::integer_sequence<int, Lanes...>) {
  return shuffled<(Lanes ^ Half)...>(v, v);
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

/// One step of turning rows into lanes: lane L of the result combines lanes L and L ^ Half of `a` where bit Half of L is
/// clear, of `b` where it is set.
template <int Half, class A, class Combine, int... Lanes>
[[gnu::always_inline]] inline Vec<A> folded(Vec<A> a, Vec<A> b, const Combine& combine,
                                            std::integer_sequence<int, Lanes...>) {
  const Vec<A> own = shuffled<((Lanes & Half) != 0 ? Lanes + width<A> : Lanes)...>(a, b);
  const Vec<A> other = shuffled<((Lanes & Half) != 0 ? (Lanes ^ Half) + width<A> : Lanes ^ Half)...>(a, b);
  return combine(own, other);
}

/// combine over the elements of each of width<A> vectors: lane L holds that of rows[L]. Overwrites the rows.
template <class A, int Half = width<A> / 2, class Combine>
[[gnu::always_inline]] inline Vec<A> reduced_rows(Vec<A>* rows, const Combine& combine) {
  if constexpr (Half == 0) {
    return rows[0];
  } else {
    unrolled<Half>([&](auto row) RONDO_INLINE_LAMBDA {
      rows[row] = folded<Half, A>(rows[row], rows[row + Half], combine, std::make_integer_sequence<int, width<A>>{});
    });
    return reduced_rows<A, Half / 2>(rows, combine);
  }
}

/// One step of a transposition: exchanges the off-diagonal halves of blocks of 2·Half lanes of two rows.
template <int Half, class V, int... Lanes>
[[gnu::always_inline]] inline void exchange(V& a, V& b, std::integer_sequence<int, Lanes...>) {
  constexpr int count = sizeof...(Lanes);
  const V first = shuffled<((Lanes & Half) != 0 ? Lanes - Half + count : Lanes)...>(a, b);
  b = shuffled<((Lanes & Half) != 0 ? Lanes + count : Lanes + Half)...>(a, b);
  a = first;
}

}  // namespace lanes_detail

/// The largest element of each of width<A> vectors; NaN does not win. Overwrites the rows.
template <class A>
[[gnu::always_inline]] inline Vec<A> largest_of_rows(Vec<A>* rows) {
  return lanes_detail::reduced_rows<A>(rows, [](Vec<A> a, Vec<A> b) RONDO_INLINE_LAMBDA { return maximum<A>(a, b); });
}

/// The sum of the elements of each of width<A> vectors. Overwrites the rows.
template <class A>
[[gnu::always_inline]] inline Vec<A> totals_of_rows(Vec<A>* rows) {
  return lanes_detail::reduced_rows<A>(rows, [](Vec<A> a, Vec<A> b) RONDO_INLINE_LAMBDA { return a + b; });
}

/// Transposes Lanes vectors of Lanes integers: lane j of rows[i] changes places with lane i of rows[j].
template <int Lanes, class V, int Half = Lanes / 2>
[[gnu::always_inline]] inline void transpose(V* rows) {
  if constexpr (Half > 0) {
    unrolled<Lanes>([&](auto row) RONDO_INLINE_LAMBDA {
      if constexpr ((row & Half) == 0) {
        lanes_detail::exchange<Half>(rows[row], rows[row + Half], std::make_integer_sequence<int, Lanes>{});
      }
    });
    transpose<Lanes, V, Half / 2>(rows);
  }
}

/// The sum of the elements.
template <class A>
[[gnu::always_inline]] inline A total(Vec<A> v) {
  return lanes_detail::reduced<A>(v, [](Vec<A> a, Vec<A> b) { return a + b; })[0];
}

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace rondo::host
