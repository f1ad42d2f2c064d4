/// \file
/// Powers of two, written so that a loop over them becomes vector code on a host.
#pragma once

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo::detail {

/// 2^x. In float: relative error at most 2 units in the last place for results in float's normal range; below 2^-126
/// the result is 0, from 2^128 on infinity; NaN gives NaN. Splits x = n + r with |r| ≤ 1/2 by adding and subtracting
/// 1.5·2^23 (so nothing may reorder it: never -ffast-math), and takes a polynomial of degree 6 in r. On devices one
/// instruction does the same (PTX ISA, ex2.approx.ftz: relative error at most 2^-22; CDNA ISA, v_exp_f32: one unit in the
/// last place).
KOKKOS_INLINE_FUNCTION float exp2(float x) {
#if defined(__CUDA_ARCH__)
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
#elif defined(__HIP_DEVICE_COMPILE__)
  return __builtin_amdgcn_exp2f(x);
#else
  constexpr float shift = 12582912.0f;
  // Comparisons written so that NaN falls through to the arithmetic and stays NaN.
  const float clamped = x < -127.0f ? -127.0f : (x > 128.0f ? 128.0f : x);
  const float shifted = clamped + shift;
  const float r = clamped - (shifted - shift);
  float p = 1.54531629e-4f;  // (2^r - 1) / r at Chebyshev points: 5e-9 from 2^r before rounding
  p = p * r + 1.33908634e-3f;
  p = p * r + 9.61808256e-3f;
  p = p * r + 5.55035711e-2f;
  p = p * r + 2.40226508e-1f;
  p = p * r + 6.93147188e-1f;
  p = p * r + 1.0f;
  // The integer n stands in the low bits of `shifted`. Two factors, as 2^128 alone is not a float.
  const std::int32_t n = Kokkos::bit_cast<std::int32_t>(shifted) - 0x4b400000;
  const std::int32_t half = n >> 1;
  const float low = Kokkos::bit_cast<float>((half + 127) << 23);
  const float high = Kokkos::bit_cast<float>((n - half + 127) << 23);
  const float result = p * low * high;
  return x < -126.0f ? 0.0f : result;
#endif
}

KOKKOS_INLINE_FUNCTION double exp2(double x) { return Kokkos::exp2(x); }

}  // namespace rondo::detail
