/// \file
/// The instructions wgmma.mma_async for 64 and 128 columns, with sums in float. Their operands are lists of registers,
/// hence the macros, which end with this file.
#pragma once

#include <rondo/precision.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>
#include <type_traits>

// Only the machine that these instructions belong to has them: sm_90a, not sm_90.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define RONDO_HAS_WGMMA
#endif

namespace rondo::hopper {

#define RONDO_SUMS_8(i)                                                                                       \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
      "+f"(d[i + 7])
#define RONDO_SUMS_64(i) RONDO_SUMS_8(i), RONDO_SUMS_8(i + 8), RONDO_SUMS_8(i + 16), RONDO_SUMS_8(i + 24)
#define RONDO_SUMS_128(i) RONDO_SUMS_64(i), RONDO_SUMS_64(i + 32)
#define RONDO_NAMES_64                                                                                         \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, " \
  "%23, %24, %25, %26, %27, %28, %29, %30, %31}, "
#define RONDO_NAMES_128                                                                                        \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, " \
  "%23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, "  \
  "%44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
// d = a · b, or d += a · b where the operand named last is not 0.
#define RONDO_WGMMA(columns, type, operands, accumulate, transposed, ...)                   \
  asm volatile("{\n.reg .pred accumulates;\nsetp.ne.b32 accumulates, " accumulate           \
               ", 0;\nwgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." type "." type  \
               " " RONDO_NAMES_##columns operands ", accumulates, 1, 1, " transposed ";\n}" \
               : RONDO_SUMS_##columns(0)                                                    \
               : __VA_ARGS__                                                                \
               : "memory")

/// d (64 x Columns) = a · b, or d += a · b. Both operands lie in shared memory, the depth of 16 along the rows of their
/// tiles.
template <class T, int Columns>
KOKKOS_FUNCTION void multiply_tiles([[maybe_unused]] float (&d)[Columns / 2], [[maybe_unused]] std::uint64_t a,
                                    [[maybe_unused]] std::uint64_t b, [[maybe_unused]] int accumulate) {
  static_assert(Columns == 64 || Columns == 128);
#if defined(RONDO_HAS_WGMMA)
  constexpr bool brain = std::is_same_v<T, bfloat16>;
  if constexpr (Columns == 64 && brain) {
    RONDO_WGMMA(64, "bf16", "%32, %33", "%34", "0, 0", "l"(a), "l"(b), "r"(accumulate));
  } else if constexpr (Columns == 64) {
    RONDO_WGMMA(64, "f16", "%32, %33", "%34", "0, 0", "l"(a), "l"(b), "r"(accumulate));
  } else if constexpr (brain) {
    RONDO_WGMMA(128, "bf16", "%64, %65", "%66", "0, 0", "l"(a), "l"(b), "r"(accumulate));
  } else {
    RONDO_WGMMA(128, "f16", "%64, %65", "%66", "0, 0", "l"(a), "l"(b), "r"(accumulate));
  }
#endif
}

/// d (64 x Columns) += a · b. a is in registers, b in shared memory, the depth of 16 down the columns of its tile.
template <class T, int Columns>
KOKKOS_FUNCTION void multiply_weights([[maybe_unused]] float (&d)[Columns / 2],
                                      [[maybe_unused]] const std::uint32_t (&a)[4], [[maybe_unused]] std::uint64_t b) {
  static_assert(Columns == 64 || Columns == 128);
#if defined(RONDO_HAS_WGMMA)
  constexpr bool brain = std::is_same_v<T, bfloat16>;
  constexpr int yes = 1;
  if constexpr (Columns == 64 && brain) {
    RONDO_WGMMA(64, "bf16", "{%32, %33, %34, %35}, %36", "%37", "1", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),
                "r"(yes));
  } else if constexpr (Columns == 64) {
    RONDO_WGMMA(64, "f16", "{%32, %33, %34, %35}, %36", "%37", "1", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),
                "r"(yes));
  } else if constexpr (brain) {
    RONDO_WGMMA(128, "bf16", "{%64, %65, %66, %67}, %68", "%69", "1", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]),
                "l"(b), "r"(yes));
  } else {
    RONDO_WGMMA(128, "f16", "{%64, %65, %66, %67}, %68", "%69", "1", "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),
                "r"(yes));
  }
#endif
}

#undef RONDO_WGMMA
#undef RONDO_NAMES_64
#undef RONDO_NAMES_128
#undef RONDO_SUMS_8
#undef RONDO_SUMS_64
#undef RONDO_SUMS_128

}  // namespace rondo::hopper
