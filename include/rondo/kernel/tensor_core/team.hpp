/// \file
/// Teams and registers as the kernels on tensor cores see them: each thread of a device is one lane of a warp (AMD's word is
/// wave). The tests play the same parts on a host, all lanes one after the other.
#pragma once

#include <rondo/precision.hpp>

#include <Kokkos_Core.hpp>

#include <concepts>
#include <cstdint>
#include <type_traits>

// Loops over registers: an index that the compiler does not know sends all of them to memory.
#if defined(__CUDA_ARCH__)
#define RONDO_UNROLL _Pragma("unroll")
#define RONDO_NO_UNROLL _Pragma("unroll 1")
#elif defined(__HIP_DEVICE_COMPILE__)
#define RONDO_UNROLL _Pragma("clang loop unroll(full)")
#define RONDO_NO_UNROLL _Pragma("clang loop unroll(disable)")
#else
#define RONDO_UNROLL
#define RONDO_NO_UNROLL
#endif

namespace rondo::tensor_core {

/// What the kernels on tensor cores take.
template <class T>
concept Element = std::same_as<T, bfloat16> || std::same_as<T, float16>;

/// A place in a matrix.
struct Place {
  int row;
  int col;
  friend constexpr bool operator==(const Place&, const Place&) = default;
};

/// N numbers that each lane holds: a lane's own on a device, all lanes' where somebody plays the whole warp.
template <class Warp, class T, int N>
struct Held {
  T values[Warp::held_lanes][N];
  KOKKOS_FUNCTION T& at(int lane, int i) { return values[Warp::slot(lane)][i]; }
  KOKKOS_FUNCTION const T& at(int lane, int i) const { return values[Warp::slot(lane)][i]; }
};

/// Of two 16-bit elements in a register, 0 in the place of those that are not finite.
template <class T>
KOKKOS_FUNCTION std::uint32_t finite_pair(std::uint32_t pair) {
  constexpr std::uint32_t exponent = std::is_same_v<T, bfloat16> ? 0x7f80u : 0x7c00u;
  if ((pair & exponent) == exponent) pair &= 0xffff0000u;
  if ((pair & exponent << 16) == exponent << 16) pair &= 0x0000ffffu;
  return pair;
}

/// In how many parts weights are multiplied for a gradient. Rounded to 16 bits once, they add about as much to its error as
/// its own rounding does. Against plain arithmetic that is too much in grad_v (1.54 times its RMS error) and in grad_q (a
/// maximum of 2.07 times); in grad_k up to 1.37 times, but 1.6 with head_dim 1.
/// \tparam KeyParts  for grad_k
template <int KeyParts>
struct WeightParts {
  static constexpr int grad_q = 2;
  static constexpr int grad_k = KeyParts;
  static constexpr int grad_v = 2;
};

/// What rounding the halves of a register to T has left of two numbers.
template <class T>
KOKKOS_FUNCTION float rest_of(float x, std::uint32_t pair, int half) {
  return x - static_cast<float>(Kokkos::bit_cast<T>(static_cast<std::uint16_t>(half == 0 ? pair : pair >> 16)));
}

/// The team that this thread belongs to: `Warps` warps and memory that they share.
template <class Member, int Warps, class WarpType, int Lanes>
struct DeviceTeam {
  using Warp = WarpType;
  static constexpr int count = Warps;
  static constexpr int threads = Warps * Lanes;

  /// What each warp keeps.
  template <class S>
  struct PerWarp {
    S own;
    KOKKOS_FUNCTION S& operator[](const Warp& /*warp*/) { return own; }
  };

  const Member& member;
  int thread;

  KOKKOS_FUNCTION explicit DeviceTeam(const Member& given) : member(given), thread(given.team_rank()) {}

  /// Calls f(warp) for each warp.
  template <class F>
  KOKKOS_FUNCTION void warps(const F& f) const {
    f(Warp{thread / Lanes, thread % Lanes});
  }
  /// Calls f(i) for 0 ... count - 1, shared among the threads.
  template <class F>
  KOKKOS_FUNCTION void share(int count, const F& f) const {
    RONDO_NO_UNROLL
    for (int i = thread; i < count; i += threads) f(i);
  }
  KOKKOS_FUNCTION void barrier() const { member.team_barrier(); }
};

/// Runs the kernels where they belong: a thread for every lane.
template <template <class Member, int Warps> class DeviceTeamType>
struct on_device {
  template <class Member, int Warps>
  using Team = DeviceTeamType<Member, Warps>;

  static constexpr int scratch_level = 0;  ///< shared memory

  static constexpr int team_size(int threads) { return threads; }
};

}  // namespace rondo::tensor_core
