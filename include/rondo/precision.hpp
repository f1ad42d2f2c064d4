/// \file
/// Number types: what Rondo stores, and what it accumulates in.
#pragma once

#include <Kokkos_Core.hpp>

#include <bit>
#include <concepts>
#include <cstdint>
#include <type_traits>

#ifdef __FAST_MATH__
#error "Rondo cannot be built with -ffast-math: it undoes the rounding that the exponential and the running softmax rely on"
#endif

namespace rondo {

/// Two-byte storage with float's exponent and 8 bits of precision. Only storage: arithmetic happens in float.
/// (On a host-only Kokkos, Kokkos::Experimental::bhalf_t is a float, so Rondo brings its own.)
class bfloat16 {
 public:
  bfloat16() = default;

  /// Rounds to nearest, ties to even; NaN stays NaN.
  KOKKOS_FUNCTION explicit bfloat16(float value) {
    const auto bits = Kokkos::bit_cast<std::uint32_t>(value);
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    const std::uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    bits_ = static_cast<std::uint16_t>((is_nan ? (bits | 0x00400000u) : rounded) >> 16);
  }

  KOKKOS_FUNCTION explicit operator float() const {
    return Kokkos::bit_cast<float>(static_cast<std::uint32_t>(bits_) << 16);
  }

  KOKKOS_FUNCTION std::uint16_t bits() const { return bits_; }

 private:
  std::uint16_t bits_;
};

/// Two-byte storage of IEEE 754's half precision: 5 bits of exponent, 11 of precision. Only storage: arithmetic happens
/// in float. Finite values reach 65504; below 2^-14 they lie 2^-24 apart.
/// (On a host-only Kokkos, Kokkos::Experimental::half_t is a float, so Rondo brings its own.)
class float16 {
 public:
  float16() = default;

  /// Rounds to nearest, ties to even, below the normal numbers too; from 65520 on to infinity. NaN stays NaN and becomes
  /// quiet. The processors' own conversions give the same bits.
  KOKKOS_FUNCTION explicit float16(float value) {
    const auto bits = Kokkos::bit_cast<std::uint32_t>(value);
    const std::uint32_t size = bits & 0x7fffffffu;
    const std::uint32_t rounded = size < smallest_normal ? rounded_below_normal(size) : rounded_normal(size);
    const std::uint32_t quiet = infinity | 0x0200u | ((size >> 13) & 0x03ffu);
    bits_ = static_cast<std::uint16_t>(((bits >> 16) & 0x8000u) | (size > 0x7f800000u ? quiet : rounded));
  }

  /// Exact; NaN becomes quiet.
  KOKKOS_FUNCTION explicit operator float() const {
    const std::uint32_t size = bits_ & 0x7fffu;
    const float multiple = static_cast<float>(static_cast<std::int32_t>(size)) * 0x1p-24f;
    const auto below_normal = Kokkos::bit_cast<std::uint32_t>(multiple);
    const std::uint32_t normal = (size << 13) + exponent_offset;
    const std::uint32_t not_finite = (normal + exponent_offset) | (size > infinity ? 0x00400000u : 0u);
    const std::uint32_t wide = size < 0x0400u ? below_normal : size < infinity ? normal : not_finite;
    return Kokkos::bit_cast<float>((bits_ & 0x8000u) << 16 | wide);
  }

  KOKKOS_FUNCTION std::uint16_t bits() const { return bits_; }

 private:
  static constexpr std::uint32_t infinity = 0x7c00u;
  static constexpr std::uint32_t exponent_offset = (127u - 15u) << 23;  // float's bias of the exponent minus half's
  static constexpr std::uint32_t smallest_normal = exponent_offset + (1u << 23);

  /// What is too large for half grows past the pattern of infinity and ends there.
  KOKKOS_FUNCTION static std::uint32_t rounded_normal(std::uint32_t size) {
    const std::uint32_t rounded = (size - exponent_offset + 0x0fffu + ((size >> 13) & 1u)) >> 13;
    return rounded < infinity ? rounded : infinity;
  }

  /// The significand as a multiple of 2^-24. From a shift of 25 on that is less than a half: nothing.
  KOKKOS_FUNCTION static std::uint32_t rounded_below_normal(std::uint32_t size) {
    const std::uint32_t significand = (size & 0x007fffffu) | 0x00800000u;
    const std::uint32_t exponent = size >> 23;
    const std::uint32_t shift = exponent > 101u ? 126u - exponent : 25u;
    return (significand + (1u << (shift - 1u)) - 1u + ((significand >> shift) & 1u)) >> shift;
  }

  std::uint16_t bits_;
};

/// What a storage type accumulates in, and what two ranks compare to see that they use the same one.
template <class T>
struct precision_traits;

template <>
struct precision_traits<float> {
  using accumulate_type = float;
  static constexpr const char* name = "float";
  static constexpr int code = 32;
};

template <>
struct precision_traits<double> {
  using accumulate_type = double;
  static constexpr const char* name = "double";
  static constexpr int code = 64;
};

template <>
struct precision_traits<bfloat16> {
  using accumulate_type = float;
  static constexpr const char* name = "bfloat16";
  static constexpr int code = 16;
};

template <>
struct precision_traits<float16> {
  using accumulate_type = float;
  static constexpr const char* name = "float16";
  static constexpr int code = 17;  // 16 bits are bfloat16's
};

/// A type that tensors may be stored in.
template <class T>
concept StorageType = requires {
  typename precision_traits<std::remove_const_t<T>>::accumulate_type;
  { precision_traits<std::remove_const_t<T>>::code } -> std::convertible_to<int>;
};

/// The type that sums over values of type T are held in: float for float, bfloat16 and float16, double for double.
template <StorageType T>
using accumulate_t = typename precision_traits<std::remove_const_t<T>>::accumulate_type;

}  // namespace rondo
