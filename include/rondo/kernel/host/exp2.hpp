/// \file
/// Powers of two of whole vectors, the way rondo::detail::exp2 takes them of one float.
#pragma once

#include <rondo/kernel/host/vec.hpp>

#include <bit>
#include <cstdint>
#include <iterator>
#include <type_traits>

namespace rondo::host {
inline namespace RONDO_HOST_NAMESPACE {

/// What the two precisions differ in: (2^r - 1) / r at Chebyshev points of |r| ≤ 1/2, the exponent's place and bias, and
/// the number whose addition rounds to an integer and leaves that, biased, in the low bits.
template <class A>
struct Exp2Constants;
template <>
struct Exp2Constants<float> {  // 5e-9 from 2^r before rounding
  static constexpr float coefficients[] = {1.54531629e-4f, 1.33908634e-3f, 9.61808256e-3f,
                                           5.55035711e-2f, 2.40226508e-1f, 6.93147188e-1f};
  static constexpr float shift = 12582912.0f + 127;
  static constexpr std::int32_t bias = 127;
  static constexpr int mantissa = 23;
};
template <>
struct Exp2Constants<double> {  // 9e-18 from 2^r before rounding
  static constexpr double coefficients[] = {4.45496059818651839e-10, 7.0725859492692237e-9,  1.01780624458457735e-7,
                                            1.32154425879216897e-6,  1.52527338298361184e-5, 1.54035304417360502e-4,
                                            1.33335581464169353e-3,  9.61812910760688853e-3, 5.55041086648215843e-2,
                                            2.40226506959100982e-1,  6.93147180559945309e-1};
  static constexpr double shift = 6755399441055744.0 + 1023;
  static constexpr std::int64_t bias = 1023;
  static constexpr int mantissa = 52;
};

/// 2^r for |r| ≤ 1/2.
template <class A>
[[gnu::always_inline]] inline Vec<A> exp2_near_zero(Vec<A> r) {
  using C = Exp2Constants<A>;
  Vec<A> p = splat(C::coefficients[0]);
  unrolled<std::size(C::coefficients) - 1>([&](auto i)
                                               RONDO_INLINE_LAMBDA { p = p * r + splat(C::coefficients[i + 1]); });
  return p * r + splat(A{1});
}

#if defined(__AVX2__) && RONDO_HOST_VECTOR_BYTES == 32
/// 2^x for x from -127 to below 128 by the nearest power of 2^(1/8), looked up, and a polynomial of degree 3 for the rest:
/// a chain of operations half as long, and the chain is what takes the time at this width. Relative error at most 1.5
/// units in the last place.
[[gnu::always_inline]] inline Vec<float> exp2_by_eighths(Vec<float> x) {
  // Adding 1.5·2^20 rounds to eighths and leaves their number in the low bits. Of the powers, what that number puts into
  // the mantissa is taken away before.
  const Vec<float> shift = splat(1572864.0f);
  const Ints<float> powers{0x3f800000 - (0 << 20), 0x3f8b95c2 - (1 << 20), 0x3f9837f0 - (2 << 20),
                           0x3fa5fed7 - (3 << 20), 0x3fb504f3 - (4 << 20), 0x3fc5672a - (5 << 20),
                           0x3fd744fd - (6 << 20), 0x3feac0c7 - (7 << 20)};
  const Vec<float> shifted = x + shift;
  const Vec<float> r = x - (shifted - shift);
  const Ints<float> eighths = std::bit_cast<Ints<float>>(shifted);
  const Vec<float> power = std::bit_cast<Vec<float>>((eighths << 20) + chosen(powers, eighths));
  const Vec<float> p = (splat(5.550802e-2f) * r + splat(2.4025469e-1f)) * r + splat(6.9314718e-1f);
  return power * r * p + power;  // (2^r - 1) / r at Chebyshev points of |r| ≤ 1/16: 4e-8 from 2^r before rounding
}
#endif

/// 2^x; relative error at most 2 units in the last place where the result is a normal number; below, some number from 0
/// to the smallest normal one, and 0 from 2^-127 on; NaN gives NaN, and x beyond the largest exponent counts as that or
/// gives infinity.
/// \tparam Small  x is known to stay below the largest exponent
template <class A, bool Small = false>
[[gnu::always_inline]] inline Vec<A> exp2_of(Vec<A> x) {
#if defined(__AVX512F__) && RONDO_HOST_VECTOR_BYTES == 64
  const Vec<A> whole = nearest_integers<A>(x);
  const Vec<A> r = x - whole;  // of -inf: NaN, which scaling by 2^-inf makes 0
  return scaled_by_powers<A>(exp2_near_zero<A>(r), whole);
#else
  using C = Exp2Constants<A>;
  const Vec<A> lowest = splat(static_cast<A>(-C::bias));  // whose power is the number with exponent bits 0: 0
  const Vec<A> highest = splat(static_cast<A>(C::bias));
  Vec<A> clamped = maximum<A>(lowest, x);
  if constexpr (!Small) clamped = highest < clamped ? highest : clamped;
#if defined(__AVX2__) && RONDO_HOST_VECTOR_BYTES == 32
  if constexpr (std::is_same_v<A, float>) return exp2_by_eighths(clamped);
#endif
  const Vec<A> shift = splat(C::shift);
  const Vec<A> shifted = clamped + shift;
  const Vec<A> p = exp2_near_zero<A>(clamped - (shifted - shift));
  const Ints<A> exponent = std::bit_cast<Ints<A>>(shifted) << C::mantissa;
  return p * std::bit_cast<Vec<A>>(exponent);
#endif
}

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace rondo::host
