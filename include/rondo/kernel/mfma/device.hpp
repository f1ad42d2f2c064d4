/// \file
/// A wave on an AMD device with matrix cores (gfx90a, gfx942): each thread is one lane and does its part. The tests play the
/// same parts on a host, lane by lane.
#pragma once

#include <rondo/kernel/mfma/fragments.hpp>
#include <rondo/precision.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>
#include <type_traits>

namespace rondo::mfma {

/// Four 16-bit elements of each lane: an A or a B.
template <class Wave>
using Quad = Held<Wave, std::uint32_t, 2>;
/// A C.
template <class Wave, int Size>
using Sums = Held<Wave, float, lane_sums<Size>>;

/// Two numbers rounded to T in one register, the first in the low half.
template <class T>
KOKKOS_FUNCTION std::uint32_t rounded_pair(float low, float high) {
#if defined(__HIP_DEVICE_COMPILE__)
  if constexpr (std::is_same_v<T, float16>) {
    return Kokkos::bit_cast<std::uint16_t>(static_cast<_Float16>(low)) |
           static_cast<std::uint32_t>(Kokkos::bit_cast<std::uint16_t>(static_cast<_Float16>(high))) << 16;
  }
#endif
  return T(low).bits() | static_cast<std::uint32_t>(T(high).bits()) << 16;
}

/// The wave that this thread is a lane of.
struct DeviceWave {
  static constexpr int held_lanes = 1;
  KOKKOS_FUNCTION static constexpr int slot(int /*lane*/) { return 0; }

  int number;
  int lane;

  /// Calls f(lane) for each lane.
  template <class F>
  KOKKOS_FUNCTION void each(const F& f) const {
    f(lane);
  }

  /// The same, with nothing kept that was computed from the lane's number before: it would take registers meanwhile.
  template <class F>
  KOKKOS_FUNCTION void each_anew(const F& f) const {
    int same = lane;
#if defined(__HIP_DEVICE_COMPILE__)
    asm volatile("" : "+v"(same));
#endif
    f(same);
  }

  /// Four elements in shared memory, from and into registers. The first stands at a multiple of 8 bytes.
  template <class T>
  KOKKOS_FUNCTION static void read(const T* from, std::uint32_t& low, std::uint32_t& high) {
    const auto* words = reinterpret_cast<const std::uint64_t*>(from);
    low = static_cast<std::uint32_t>(*words);
    high = static_cast<std::uint32_t>(*words >> 32);
  }
  template <class T>
  KOKKOS_FUNCTION static void write(T* to, std::uint32_t low, std::uint32_t high) {
    *reinterpret_cast<std::uint64_t*>(to) = low | static_cast<std::uint64_t>(high) << 32;
  }
  template <class T>
  KOKKOS_FUNCTION static T read_one(const T* from) {
    return *from;
  }
  template <class T>
  KOKKOS_FUNCTION static void write(T* to, T x) {
    *to = x;
  }

  /// c += a · b for elements of type T.
  template <class T, int N>
  KOKKOS_FUNCTION void multiply_add([[maybe_unused]] Held<DeviceWave, float, N>& c,
                                    [[maybe_unused]] const Quad<DeviceWave>& a,
                                    [[maybe_unused]] const Quad<DeviceWave>& b) const {
#if defined(__HIP_DEVICE_COMPILE__)
    using Vector = float __attribute__((ext_vector_type(N)));
    using Bits = short __attribute__((ext_vector_type(4)));
    using Halves = _Float16 __attribute__((ext_vector_type(4)));
    Vector sums;
    RONDO_UNROLL
    for (int i = 0; i < N; ++i) sums[i] = c.values[0][i];
    if constexpr (std::is_same_v<T, bfloat16>) {
      const Bits x = __builtin_bit_cast(Bits, a), y = __builtin_bit_cast(Bits, b);
      if constexpr (N == lane_sums<32>) {
        sums = __builtin_amdgcn_mfma_f32_32x32x8bf16_1k(x, y, sums, 0, 0, 0);
      } else {
        sums = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(x, y, sums, 0, 0, 0);
      }
    } else {
      const Halves x = __builtin_bit_cast(Halves, a), y = __builtin_bit_cast(Halves, b);
      if constexpr (N == lane_sums<32>) {
        sums = __builtin_amdgcn_mfma_f32_32x32x8f16(x, y, sums, 0, 0, 0);
      } else {
        sums = __builtin_amdgcn_mfma_f32_16x16x16f16(x, y, sums, 0, 0, 0);
      }
    }
    RONDO_UNROLL
    for (int i = 0; i < N; ++i) c.values[0][i] = sums[i];
#endif
  }

  /// Combines each lane's numbers with those of the lane whose number differs by `step`, a power of two.
  template <int N, class Combine>
  KOKKOS_FUNCTION void combine_lanes([[maybe_unused]] Held<DeviceWave, float, N>& x, [[maybe_unused]] int step,
                                     [[maybe_unused]] const Combine& combine) const {
#if defined(__HIP_DEVICE_COMPILE__)
    RONDO_UNROLL
    for (int i = 0; i < N; ++i) x.values[0][i] = combine(x.values[0][i], __shfl_xor(x.values[0][i], step));
#endif
  }

  /// Whether any lane holds something other than 0.
  KOKKOS_FUNCTION bool any([[maybe_unused]] const Held<DeviceWave, std::uint32_t, 1>& x) const {
#if defined(__HIP_DEVICE_COMPILE__)
    return __any(x.values[0][0] != 0) != 0;
#else
    return false;
#endif
  }
};

template <class Member, int Waves>
using DeviceTeam = tensor_core::DeviceTeam<Member, Waves, DeviceWave, wave_lanes>;

using on_device = tensor_core::on_device<DeviceTeam>;

}  // namespace rondo::mfma
