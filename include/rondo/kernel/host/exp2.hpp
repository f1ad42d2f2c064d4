/// \file
/// Powers of two of whole vectors, with the polynomial of rondo::detail::exp2.
#pragma once

#include <rondo/kernel/exp2.hpp>
#include <rondo/kernel/host/vec.hpp>

#include <bit>

namespace rondo::host {
inline namespace RONDO_HOST_NAMESPACE {

/// 2^x for x ≤ 127; relative error at most 2 units in the last place down to 2^-126, 0 below; NaN gives NaN, and more
/// than 127 counts as 127.
[[gnu::always_inline]] inline Vec<float> exp2(Vec<float> x) {
  const Vec<float> shift = splat(12582912.0f);
  Vec<float> clamped = x < splat(-126.0f) ? splat(-126.0f) : x;
  clamped = clamped > splat(127.0f) ? splat(127.0f) : clamped;
  const Vec<float> shifted = clamped + shift;
  const Vec<float> r = clamped - (shifted - shift);
  Vec<float> p = splat(1.54531629e-4f);
  p = p * r + splat(1.33908634e-3f);
  p = p * r + splat(9.61808256e-3f);
  p = p * r + splat(5.55035711e-2f);
  p = p * r + splat(2.40226508e-1f);
  p = p * r + splat(6.93147188e-1f);
  p = p * r + splat(1.0f);
  const Ints<float> exponent = (std::bit_cast<Ints<float>>(shifted) - (0x4b400000 - 127)) << 23;
  const Vec<float> result = p * std::bit_cast<Vec<float>>(exponent);
  return x < splat(-126.0f) ? Vec<float>{} : result;
}

inline Vec<double> exp2(Vec<double> x) {
  for (int lane = 0; lane < width<double>; ++lane) x[lane] = rondo::detail::exp2(x[lane]);
  return x;
}

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace rondo::host
