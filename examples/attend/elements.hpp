/// \file
/// Numbers of one type from a file of another, each rounded once.
#pragma once

#include "safetensors.hpp"

#include <rondo/precision.hpp>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <type_traits>

namespace attend {

/// The format's name for a storage type.
template <rondo::StorageType T>
constexpr safetensors::Dtype dtype_of() {
  if constexpr (std::is_same_v<T, double>) {
    return safetensors::F64;
  } else if constexpr (std::is_same_v<T, float>) {
    return safetensors::F32;
  } else {
    return std::is_same_v<T, rondo::bfloat16> ? safetensors::BF16 : safetensors::F16;
  }
}

/// The float that is nearest to x from the side that a second, coarser rounding must know of: where x lies between two
/// floats, the one whose last bit is set.
inline float rounded_to_odd(double x) {
  const auto nearest = static_cast<float>(x);
  if (static_cast<double>(nearest) == x || !std::isfinite(nearest)) return nearest;
  std::uint32_t bits;
  std::memcpy(&bits, &nearest, sizeof bits);
  const float towards = x > static_cast<double>(nearest) ? std::numeric_limits<float>::infinity()
                                                         : -std::numeric_limits<float>::infinity();
  return (bits & 1u) != 0 ? nearest : std::nextafter(nearest, towards);
}

template <class To, class From>
To converted(From x) {
  constexpr bool from_wide = std::is_same_v<From, double>;
  if constexpr (std::is_same_v<To, From>) {
    return x;
  } else if constexpr (std::is_floating_point_v<From> && std::is_floating_point_v<To>) {
    return static_cast<To>(x);
  } else if constexpr (from_wide) {
    return To(rounded_to_odd(x));
  } else {
    return static_cast<To>(static_cast<float>(x));
  }
}

/// Copies `count` numbers of type From, at any address, to `to`.
template <class From, class To>
void convert_as(const std::byte* from, std::size_t count, To* to) {
  if constexpr (std::is_same_v<From, To>) {
    std::memcpy(to, from, count * sizeof(To));
  } else {
    for (std::size_t i = 0; i < count; ++i) {
      From x;
      std::memcpy(&x, from + i * sizeof(From), sizeof x);
      to[i] = converted<To>(x);
    }
  }
}

/// The same for a type that the file names: one of F64, F32, BF16 and F16.
template <class To>
void convert(const safetensors::Dtype& dtype, const std::byte* from, std::size_t count, To* to) {
  if (dtype == safetensors::F64) return convert_as<double>(from, count, to);
  if (dtype == safetensors::F32) return convert_as<float>(from, count, to);
  if (dtype == safetensors::BF16) return convert_as<rondo::bfloat16>(from, count, to);
  return convert_as<rondo::float16>(from, count, to);
}

}  // namespace attend
