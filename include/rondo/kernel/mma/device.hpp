/// \file
/// A warp and a team on an NVIDIA device: each thread is one lane and does its part. What the kernel is written in terms of;
/// the tests play the same parts on a host, lane by lane.
#pragma once

#include <rondo/error.hpp>
#include <rondo/kernel/mma/fragments.hpp>
#include <rondo/precision.hpp>

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace rondo::mma {

/// Four registers with two 16-bit elements each: an A fragment, or two of B.
template <class Warp>
using Pairs = Held<Warp, std::uint32_t, 4>;
/// A C fragment.
template <class Warp>
using Sums = Held<Warp, float, 4>;

/// The warp that this thread is a lane of.
struct DeviceWarp {
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
#if defined(__CUDA_ARCH__)
    asm volatile("" : "+r"(same));
#endif
    f(same);
  }

  /// Calls f(lane) for each lane if `wanted` is true of any; where it is not, f changes nothing.
  template <class Wanted, class F>
  KOKKOS_FUNCTION void each_if_any([[maybe_unused]] const Wanted& wanted, [[maybe_unused]] const F& f) const {
#if defined(__CUDA_ARCH__)
    if (__any_sync(0xffffffffu, wanted(lane)) != 0) f(lane);
#endif
  }

  /// ldmatrix.x4: four matrices of 8 x 8, from rows that begin at tile + offset(lane), counted in elements. (Addresses of
  /// shared memory have 32 bits: one register each.)
  template <bool Transposed, class T, class Offset>
  KOKKOS_FUNCTION void load_matrices([[maybe_unused]] Pairs<DeviceWarp>& to, [[maybe_unused]] const T* tile,
                                     [[maybe_unused]] const Offset& offset) const {
#if defined(__CUDA_ARCH__)
    const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(tile)) +
                             static_cast<unsigned>(sizeof(T)) * static_cast<unsigned>(offset(lane));
    auto& x = to.values[0];
    if constexpr (Transposed) {
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                   : "r"(address)
                   : "memory");
    } else {
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                   : "r"(address)
                   : "memory");
    }
#endif
  }

  /// c += a · b for elements of type T; b stands in the registers `first` and `first` + 1.
  template <class T>
  KOKKOS_FUNCTION void multiply_add([[maybe_unused]] Sums<DeviceWarp>& c, [[maybe_unused]] const Pairs<DeviceWarp>& a,
                                    [[maybe_unused]] const Pairs<DeviceWarp>& b, [[maybe_unused]] int first) const {
#if defined(__CUDA_ARCH__)
    auto& s = c.values[0];
    const auto& x = a.values[0];
    const auto& y = b.values[0];
    if constexpr (std::is_same_v<T, bfloat16>) {
      asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
          "{%0, %1, %2, %3};"
          : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3])
          : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[first]), "r"(y[first + 1]));
    } else {
      asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
          "{%0, %1, %2, %3};"
          : "+f"(s[0]), "+f"(s[1]), "+f"(s[2]), "+f"(s[3])
          : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[first]), "r"(y[first + 1]));
    }
#endif
  }

  /// Two numbers rounded to T in one register, the first in the low half.
  template <class T>
  KOKKOS_FUNCTION static std::uint32_t rounded_pair([[maybe_unused]] float low, [[maybe_unused]] float high) {
    std::uint32_t pair = 0;
#if defined(__CUDA_ARCH__)
    if constexpr (std::is_same_v<T, bfloat16>) {
      asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    } else {
      asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    }
#endif
    return pair;
  }

  /// Combines what the four lanes of a row of C hold; each gets the result.
  template <int N, class Combine>
  KOKKOS_FUNCTION void combine_rows([[maybe_unused]] Held<DeviceWarp, float, N>& x,
                                    [[maybe_unused]] const Combine& combine) const {
#if defined(__CUDA_ARCH__)
    RONDO_UNROLL
    for (int i = 0; i < N; ++i) {
      float& mine = x.values[0][i];
      mine = combine(mine, __shfl_xor_sync(0xffffffffu, mine, 1));
      mine = combine(mine, __shfl_xor_sync(0xffffffffu, mine, 2));
    }
#endif
  }

  /// Whether any lane holds something other than 0.
  KOKKOS_FUNCTION bool any([[maybe_unused]] const Held<DeviceWarp, std::uint32_t, 1>& x) const {
#if defined(__CUDA_ARCH__)
    return __any_sync(0xffffffffu, x.values[0][0] != 0) != 0;
#else
    return false;
#endif
  }
};

/// A team of so many warps, with copies that go on while it computes.
template <class Member, int Warps>
struct DeviceTeam : tensor_core::DeviceTeam<Member, Warps, DeviceWarp, warp_lanes> {
  using tensor_core::DeviceTeam<Member, Warps, DeviceWarp, warp_lanes>::DeviceTeam;

  /// Calls f(warp) for each warp. (The exchange lets the compiler know that a warp's lanes agree about its number.)
  template <class F>
  KOKKOS_FUNCTION void warps(const F& f) const {
    int number = this->thread / warp_lanes;
#if defined(__CUDA_ARCH__)
    number = __shfl_sync(0xffffffffu, number, 0);
#endif
    f(DeviceWarp{number, this->thread % warp_lanes});
  }
  /// Calls f(thread) for each thread.
  template <class F>
  KOKKOS_FUNCTION void each_thread(const F& f) const {
    f(static_cast<unsigned>(this->thread));
  }

  /// Starts to copy 16 bytes, both aligned, into shared memory, or to put zeros there. They are there after a wait for their
  /// group, and for other threads after a barrier more.
  KOKKOS_FUNCTION static void start_copy([[maybe_unused]] void* to, [[maybe_unused]] const void* from,
                                         [[maybe_unused]] bool is_there) {
#if defined(__CUDA_ARCH__)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(static_cast<unsigned>(__cvta_generic_to_shared(to))), "l"(__cvta_generic_to_global(from)),
                   "r"(is_there ? 16 : 0)
                 : "memory");
#endif
  }
  /// Ends a group of copies.
  KOKKOS_FUNCTION static void end_group() {
#if defined(__CUDA_ARCH__)
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
  }
  /// Waits for all groups but the last `Pending`.
  template <int Pending>
  KOKKOS_FUNCTION static void wait() {
#if defined(__CUDA_ARCH__)
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
#endif
  }
};

/// A block of a grid, with the names that Kokkos gives to a team and its place in the league.
struct GridTeam {
  unsigned char* memory;
#if defined(__CUDA_ARCH__)
  /// (Read anew every time, so that what was computed from it before does not have to be kept.)
  KOKKOS_FUNCTION static int league_rank() {
    int rank;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(rank));
    return rank;
  }
  KOKKOS_FUNCTION static int team_rank() { return static_cast<int>(threadIdx.x); }
  KOKKOS_FUNCTION static void team_barrier() { __syncthreads(); }
#else
  KOKKOS_FUNCTION static int league_rank() { return 0; }
  KOKKOS_FUNCTION static int team_rank() { return 0; }
  KOKKOS_FUNCTION static void team_barrier() {}
#endif
};

#ifdef KOKKOS_ENABLE_CUDA
/// Runs a kernel's functor: a team of it for each block of the grid.
template <class Functor>
__global__ void __launch_bounds__(Functor::warps* warp_lanes, Functor::teams_together)
    run_teams(const __grid_constant__ Functor functor) {
  extern __shared__ __align__(16) unsigned char mma_shared_memory[];
  functor(GridTeam{mma_shared_memory});
}
#endif

/// Runs the kernels where they belong: on a grid of its own, as Kokkos gives a team 48 KiB of shared memory and no more.
struct on_device {
  template <class Member, int Warps>
  using Team = DeviceTeam<Member, Warps>;
  template <class Exec>
  using Member = GridTeam;

  /// A team's memory, a multiple of 16.
  KOKKOS_FUNCTION static void* shared(const GridTeam& team, std::size_t /*bytes*/) { return team.memory; }

  /// Queues a league of teams that share so many bytes each; false if the device has not that much.
  template <class Exec, class Functor>
  static bool launch([[maybe_unused]] const char* name, [[maybe_unused]] const Exec& exec, [[maybe_unused]] int league,
                     [[maybe_unused]] int bytes, [[maybe_unused]] const Functor& functor) {
#ifdef KOKKOS_ENABLE_CUDA
    if (cudaFuncSetAttribute(run_teams<Functor>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) != cudaSuccess) {
      static_cast<void>(cudaGetLastError());
      return false;
    }
    run_teams<Functor><<<league, Functor::warps * warp_lanes, bytes, exec.cuda_stream()>>>(functor);
    if (const cudaError_t status = cudaGetLastError(); status != cudaSuccess) {
      throw error(rondo::detail::message(name, " could not be launched: ", cudaGetErrorString(status)));
    }
    return true;
#else
    return false;
#endif
  }
};

}  // namespace rondo::mma
