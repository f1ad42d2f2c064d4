/// \file
/// Vectors of float16 as vectors of float and back: one instruction where the processor has it, elsewhere bit arithmetic.
#pragma once

#include <rondo/precision.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__F16C__)
#include <immintrin.h>
#endif

namespace rondo::host {

template <class Floats>
struct parts_of {
  typedef std::uint16_t halves __attribute__((vector_size(sizeof(Floats) / 2)));
  typedef std::int32_t words __attribute__((vector_size(sizeof(Floats))));
  typedef std::uint32_t unsigned_words __attribute__((vector_size(sizeof(Floats))));
};

/// float16's conversion to float, for as many as a vector of floats holds: exact, NaN becomes quiet.
template <class Floats>
[[gnu::always_inline]] inline Floats float16_as_floats_by_bits(const float16* source) {
  using Halves = typename parts_of<Floats>::halves;
  using Words = typename parts_of<Floats>::words;
  constexpr std::int32_t exponent_offset = (127 - 15) << 23;  // float's bias of the exponent minus half's
  Halves halves;
  std::memcpy(&halves, source, sizeof(halves));
  const Words bits = __builtin_convertvector(halves, Words);
  const Words size = bits & 0x7fff;
  const Words below_normal = std::bit_cast<Words>(__builtin_convertvector(size, Floats) * 0x1p-24f);
  const Words normal = (size << 13) + exponent_offset;
  const Words not_finite = (normal + exponent_offset) | ((size > 0x7c00) & 0x00400000);
  const Words wide = size < 0x0400 ? below_normal : size < 0x7c00 ? normal : not_finite;
  return std::bit_cast<Floats>((bits & 0x8000) << 16 | wide);
}

/// The same by the processor's instruction for this width, where the compiler's flags allow it.
template <class Floats>
[[gnu::always_inline]] inline Floats float16_as_floats(const float16* source) {
#ifdef __AVX512F__
  if constexpr (sizeof(Floats) == 64) {
    __m256i halves;
    std::memcpy(&halves, source, sizeof(halves));
    return _mm512_maskz_cvtph_ps(0xffff, halves);
  }
#endif
#ifdef __F16C__
  if constexpr (sizeof(Floats) == 32) {
    __m128i halves;
    std::memcpy(&halves, source, sizeof(halves));
    return _mm256_cvtph_ps(halves);
  } else if constexpr (sizeof(Floats) == 16) {
    return _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(source)));
  }
#endif
  return float16_as_floats_by_bits<Floats>(source);
}

/// Stores floats rounded to float16, as float16 rounds them itself.
template <class Floats>
[[gnu::always_inline]] inline void store_as_float16(float16* target, Floats values) {
#ifdef __AVX512F__
  if constexpr (sizeof(Floats) == 64) {
    const __m256i halves = _mm512_maskz_cvtps_ph(0xffff, values, _MM_FROUND_TO_NEAREST_INT);
    std::memcpy(static_cast<void*>(target), &halves, sizeof(halves));
    return;
  }
#endif
#ifdef __F16C__
  if constexpr (sizeof(Floats) == 32) {
    const __m128i halves = _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT);
    std::memcpy(static_cast<void*>(target), &halves, sizeof(halves));
    return;
  }
#endif
  for (std::size_t lane = 0; lane < sizeof(Floats) / sizeof(float); ++lane) {
    target[lane] = static_cast<float16>(values[lane]);
  }
}

}  // namespace rondo::host
