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

/// A type that tensors may be stored in.
template <class T>
concept StorageType = requires {
  typename precision_traits<std::remove_const_t<T>>::accumulate_type;
  { precision_traits<std::remove_const_t<T>>::code } -> std::convertible_to<int>;
};

/// The type that sums over values of type T are held in: float for float and bfloat16, double for double.
template <StorageType T>
using accumulate_t = typename precision_traits<std::remove_const_t<T>>::accumulate_type;

}  // namespace rondo
