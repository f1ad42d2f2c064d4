/// \file
/// A block of warp groups on an NVIDIA Hopper device: each thread is one lane and does its part. What the kernel is
/// written in terms of; the tests play the same parts on a host, all lanes of a group one after the other.
#pragma once

#include <rondo/kernel/hopper/layout.hpp>
#include <rondo/kernel/hopper/wgmma.hpp>
#include <rondo/kernel/mma/device.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>

#ifdef KOKKOS_ENABLE_CUDA
#include <cuda.h>
#endif

namespace rondo::hopper {

using mma::Held;

/// Counts what has to happen before somebody may go on (an mbarrier), again and again: phase after phase.
using Barrier = std::uint64_t;

KOKKOS_INLINE_FUNCTION std::uint32_t shared_address([[maybe_unused]] const void* pointer) {
#if defined(__CUDA_ARCH__)
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
#else
  return 0;
#endif
}

/// Returns once the phase of that parity is over.
KOKKOS_INLINE_FUNCTION void wait_for([[maybe_unused]] const Barrier* barrier, [[maybe_unused]] std::uint32_t parity) {
#if defined(RONDO_HAS_WGMMA)
  std::uint32_t done = 0;
  while (done == 0) {
    asm volatile(
        "{\n.reg .pred done;\nmbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\nselp.u32 %0, 1, 0, done;\n}"
        : "=r"(done)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
  }
#endif
}

#ifdef KOKKOS_ENABLE_CUDA
/// How tensor copies see a kernel's two sources.
struct Maps {
  CUtensorMap of[2];
};
#else
struct Maps {};
#endif

/// The one thread that fills the places in shared memory.
struct DeviceProducer {
  const Maps& maps;

  KOKKOS_FUNCTION void wait(const Barrier* barrier, std::uint32_t parity) const { wait_for(barrier, parity); }
  /// Arrives at a barrier whose phase is over when so many bytes have been copied as well.
  KOKKOS_FUNCTION void expect([[maybe_unused]] Barrier* barrier, [[maybe_unused]] std::uint32_t bytes) const {
#if defined(RONDO_HAS_WGMMA)
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
#endif
  }
  /// Starts to copy a box of a source, with the 128-byte swizzle.
  KOKKOS_FUNCTION void copy([[maybe_unused]] void* to, [[maybe_unused]] Barrier* barrier, [[maybe_unused]] int source,
                            [[maybe_unused]] int column, [[maybe_unused]] int row, [[maybe_unused]] int slice,
                            [[maybe_unused]] int block) const {
#if defined(RONDO_HAS_WGMMA)
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, "
        "%5}], "
        "[%6];" ::"r"(shared_address(to)),
        "l"(&maps.of[source]), "r"(column), "r"(row), "r"(slice), "r"(block), "r"(shared_address(barrier))
        : "memory");
#endif
  }
};

/// The warp group that this thread is a lane of, one of those that compute.
struct DeviceGroup {
  static constexpr int held_lanes = 1;
  KOKKOS_FUNCTION static constexpr int slot(int /*lane*/) { return 0; }

  int number;  ///< among those that compute
  int lane;

  /// Calls f(lane) for each lane.
  template <class F>
  KOKKOS_FUNCTION void each(const F& f) const {
    f(lane);
  }
  /// Calls f(lane) for each lane of the warps in which `wanted` is true of any; where it is not, f changes nothing.
  template <class Wanted, class F>
  KOKKOS_FUNCTION void each_if_any([[maybe_unused]] const Wanted& wanted, [[maybe_unused]] const F& f) const {
#if defined(__CUDA_ARCH__)
    if (__any_sync(0xffffffffu, wanted(lane)) != 0) f(lane);
#endif
  }
  /// Calls f(warp) for each of the group's warps, which are numbered through all groups that compute.
  template <class F>
  KOKKOS_FUNCTION void warps(const F& f) const {
    f(mma::DeviceWarp{number * group_warps + lane / mma::warp_lanes, lane % mma::warp_lanes});
  }
  /// Calls f(i) for 0 ... count - 1, shared among the lanes.
  template <class F>
  KOKKOS_FUNCTION void share(int count, const F& f) const {
    RONDO_NO_UNROLL
    for (int i = lane; i < count; i += group_lanes) f(i);
  }
  /// What this group's lanes have written to shared memory becomes visible to products.
  KOKKOS_FUNCTION void publish() const {
#if defined(RONDO_HAS_WGMMA)
    asm volatile("fence.proxy.async.shared::cta;\nbarrier.cta.sync %0, %1;" ::"r"(number + 1), "n"(group_lanes)
                 : "memory");
#endif
  }
  /// Whether any lane of the group holds something other than 0.
  KOKKOS_FUNCTION bool any([[maybe_unused]] const Held<DeviceGroup, std::uint32_t, 1>& x) const {
    std::uint32_t result = 0;
#if defined(RONDO_HAS_WGMMA)
    asm volatile(
        "{\n.reg .pred mine, all;\nsetp.ne.u32 mine, %1, 0;\nbarrier.cta.red.or.pred all, %2, %3, mine;\n"
        "selp.u32 %0, 1, 0, all;\n}"
        : "=r"(result)
        : "r"(x.values[0][0]), "r"(number + 1), "n"(group_lanes)
        : "memory");
#endif
    return result != 0;
  }

  KOKKOS_FUNCTION void wait(const Barrier* barrier, std::uint32_t parity) const { wait_for(barrier, parity); }
  /// Each warp arrives once, when all its lanes have come here.
  KOKKOS_FUNCTION void arrive([[maybe_unused]] Barrier* barrier) const {
#if defined(RONDO_HAS_WGMMA)
    __syncwarp();
    if (lane % mma::warp_lanes == 0) {
      asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
    }
#endif
  }

  /// Before products are begun: what this group did to their registers has been done.
  KOKKOS_FUNCTION void begin_products() const {
#if defined(RONDO_HAS_WGMMA)
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
  }
  /// Begins d = a · b or d += a · b, by descriptors of operands whose depth runs along rows.
  template <class T, int Columns>
  KOKKOS_FUNCTION void multiply(Held<DeviceGroup, float, Columns / 2>& d, std::uint64_t a, std::uint64_t b,
                                bool accumulate) const {
    multiply_tiles<T, Columns>(d.values[0], a, b, accumulate ? 1 : 0);
  }
  /// Begins d += a · b for a in registers and b with its depth down columns.
  template <class T, int Columns>
  KOKKOS_FUNCTION void multiply(Held<DeviceGroup, float, Columns / 2>& d, const Held<DeviceGroup, std::uint32_t, 4>& a,
                                std::uint64_t b) const {
    multiply_weights<T, Columns>(d.values[0], a.values[0], b);
  }
  /// Ends a batch of products.
  KOKKOS_FUNCTION void end_products() const {
#if defined(RONDO_HAS_WGMMA)
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
  }
  /// Waits for all batches but the last `Pending`.
  template <int Pending>
  KOKKOS_FUNCTION void wait_products() const {
#if defined(RONDO_HAS_WGMMA)
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
#endif
  }
  /// After such a wait: whatever is done with these sums is not done before it.
  template <int N>
  KOKKOS_FUNCTION void settle([[maybe_unused]] Held<DeviceGroup, float, N>& d) const {
#if defined(__CUDA_ARCH__)
    RONDO_UNROLL
    for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d.values[0][i])::"memory");
#endif
  }

  /// The same for what products have read from registers: these are not used for anything else before.
  KOKKOS_FUNCTION void settle([[maybe_unused]] const Held<DeviceGroup, std::uint32_t, 4>& a) const {
#if defined(__CUDA_ARCH__)
    RONDO_UNROLL
    for (int i = 0; i < 4; ++i) asm volatile("" ::"r"(a.values[0][i]) : "memory");
#endif
  }

  template <class T>
  KOKKOS_FUNCTION static std::uint32_t rounded_pair(float low, float high) {
    return mma::DeviceWarp::rounded_pair<T>(low, high);
  }
  /// Combines what the four lanes of a row of sums hold; each gets the result.
  template <int N, class Combine>
  KOKKOS_FUNCTION void combine_rows([[maybe_unused]] Held<DeviceGroup, float, N>& x,
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
};

/// The block that this thread belongs to: one group that copies and `Consumers` that compute.
template <int Consumers>
struct DeviceBlock {
  using Group = DeviceGroup;
  using Producer = DeviceProducer;

  int number;
  unsigned char* shared;  ///< a multiple of 1024
  const Maps& maps;

  KOKKOS_FUNCTION static std::uint32_t address(const void* pointer) { return shared_address(pointer); }

  /// A barrier whose phases are over when `arrivals` have arrived. Before `play`.
  KOKKOS_FUNCTION void make_barrier([[maybe_unused]] Barrier* barrier, [[maybe_unused]] int arrivals) const {
#if defined(RONDO_HAS_WGMMA)
    if (threadIdx.x == 0) {
      asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
    }
#endif
  }

  /// Calls produce(producer) and, for each group that computes, consume(group), all at the same time.
  template <class Produce, class Consume>
  KOKKOS_FUNCTION void play([[maybe_unused]] const Produce& produce, [[maybe_unused]] const Consume& consume) const {
#if defined(RONDO_HAS_WGMMA)
    // What each thread may keep in registers: the ones that compute get what the copying ones do without.
    constexpr int registers = Consumers == 2 ? 240 : 160;
    static_assert(Consumers == 2 || Consumers == 3);
    asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    const int group = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / group_lanes, 0);
    if (group == 0) {
      asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");
      if (threadIdx.x == 0) produce(Producer{maps});
    } else {
      asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
      consume(Group{group - 1, static_cast<int>(threadIdx.x) % group_lanes});
    }
#endif
  }
};

#ifdef KOKKOS_ENABLE_CUDA

/// Runs a kernel's functor: a block of it for each block of the grid.
template <class Functor>
__global__ void __launch_bounds__((Functor::consumers + 1) * group_lanes, 1)
    run_blocks([[maybe_unused]] const __grid_constant__ Functor functor,
               [[maybe_unused]] const __grid_constant__ Maps maps) {
#if defined(RONDO_HAS_WGMMA)
  extern __shared__ unsigned char raw[];
  const std::uint32_t misplaced = shared_address(raw) % pattern_bytes;
  unsigned char* const shared = raw + (misplaced == 0 ? 0 : pattern_bytes - misplaced);
  functor(DeviceBlock<Functor::consumers>{static_cast<int>(blockIdx.x), shared, maps});
#elif defined(__CUDA_ARCH__)
  __trap();  // never launched there: see has_instructions
#endif
}

/// Never launched: the machine code for sm_90a has shared memory here, that for other architectures has none.
template <int Size = 64>
__global__ void say_architecture([[maybe_unused]] int* sink) {
#if defined(RONDO_HAS_WGMMA)
  __shared__ int numbers[Size];
  numbers[threadIdx.x] = sink[threadIdx.x];
  __syncthreads();
  sink[threadIdx.x] = numbers[Size - 1 - threadIdx.x];
#endif
}

#endif

/// Runs the kernels where they belong.
struct on_device {
  /// Whether the device of `exec` has the instructions, and the program machine code with them that has been taken for
  /// it.
  template <class Exec>
  static bool has_instructions([[maybe_unused]] const Exec& exec) {
#ifdef KOKKOS_ENABLE_CUDA
    if (exec.cuda_device_prop().major != 9 || exec.cuda_device_prop().minor != 0) return false;
    cudaFuncAttributes attributes{};
    if (cudaFuncGetAttributes(&attributes, say_architecture<>) != cudaSuccess) {
      static_cast<void>(cudaGetLastError());
      return false;
    }
    return attributes.sharedSizeBytes > 0;
#else
    return false;
#endif
  }

  /// Queues `blocks` blocks of the functor; false if that cannot be.
  template <class Exec, class Functor>
  static bool launch([[maybe_unused]] const Exec& exec, [[maybe_unused]] int blocks,
                     [[maybe_unused]] const Functor& functor, [[maybe_unused]] const CopySource (&sources)[2]) {
#ifdef KOKKOS_ENABLE_CUDA
    Maps maps;
    for (int i = 0; i < 2; ++i) {
      if (!make_map(maps.of[i], sources[i], Functor::is_bfloat16)) return false;
    }
    constexpr int bytes = Functor::shared_bytes + pattern_bytes;  // and room to align it
    if (cudaFuncSetAttribute(run_blocks<Functor>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) != cudaSuccess) {
      static_cast<void>(cudaGetLastError());
      return false;
    }
    run_blocks<Functor><<<blocks, (Functor::consumers + 1) * group_lanes, bytes, exec.cuda_stream()>>>(functor, maps);
    if (const cudaError_t status = cudaGetLastError(); status != cudaSuccess) {
      throw error(detail::message("hopper_kernel could not be launched: ", cudaGetErrorString(status)));
    }
    return true;
#else
    return false;
#endif
  }

#ifdef KOKKOS_ENABLE_CUDA
 private:
  static bool make_map(CUtensorMap& map, const CopySource& source, bool is_bfloat16) {
    const auto unsigned_64 = [](std::int64_t x) { return static_cast<cuuint64_t>(x); };
    const cuuint64_t extents[4] = {unsigned_64(source.columns), unsigned_64(source.rows), unsigned_64(source.slices),
                                   unsigned_64(source.blocks)};
    const cuuint64_t bytes[3] = {unsigned_64(2 * source.row_stride), unsigned_64(2 * source.slice_stride),
                                 unsigned_64(2 * source.block_stride)};
    const cuuint32_t box[4] = {panel_columns, static_cast<cuuint32_t>(source.box_rows), 1, 1};
    const cuuint32_t steps[4] = {1, 1, 1, 1};
    return cuTensorMapEncodeTiled(
               &map, is_bfloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 4,
               const_cast<void*>(source.data), extents, bytes, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
               CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
               CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
  }
#endif
};

}  // namespace rondo::hopper
