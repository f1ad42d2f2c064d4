/// \file
/// The BlockKernel for the matrix cores of AMD devices (gfx90a, gfx942), for bfloat16 and float16.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/mfma/block.hpp>
#include <rondo/kernel/tensor_core/kernel.hpp>

#include <Kokkos_Core.hpp>

#include <type_traits>

namespace rondo {
namespace mfma {

/// Whether an execution space has these instructions.
template <class Exec>
inline constexpr bool has_matrix_cores = false;
#if defined(KOKKOS_ENABLE_HIP) && (defined(KOKKOS_ARCH_AMD_GFX90A) || defined(KOKKOS_ARCH_AMD_GFX940) || \
                                   defined(KOKKOS_ARCH_AMD_GFX942) || defined(KOKKOS_ARCH_AMD_GFX942_APU))
template <>
inline constexpr bool has_matrix_cores<Kokkos::HIP> = true;
#endif

}  // namespace mfma

/// Blockwise attention with v_mfma (32x32x8, sums in float): tensor_core::Kernel says what it computes. On gfx90a the
/// gradients of float16 are portable_kernel's, and elements of float16 below 2^-14 are taken for 0.
/// \tparam T     bfloat16 or float16
/// \tparam Play  who plays the waves: on_device. The tests have a host do it
/// \tparam Size  16 takes v_mfma of 16x16x16
template <mfma::Element T, class Exec = Kokkos::DefaultExecutionSpace, class Play = mfma::on_device, int Size = 32>
class mfma_kernel : public tensor_core::Kernel<mfma::Model<Size>, T, Exec, Play> {
  static_assert(mfma::has_matrix_cores<Exec> || !std::is_same_v<Play, mfma::on_device>,
                "mfma_kernel runs on Kokkos::HIP for gfx90a and gfx942; elsewhere take default_kernel");
};

}  // namespace rondo
