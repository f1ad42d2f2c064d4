/// \file
/// What the flags of a translation unit chose: versions, execution space, kernel, vectors, components.
#pragma once

#include <rondo/kernel/default.hpp>
#include <rondo/kernel/host/vec.hpp>
#include <rondo/version.hpp>

#include <Kokkos_Core.hpp>

#include <string>
#include <type_traits>

namespace rondo {

/// See build_info().
struct BuildInfo {
  std::string version;               ///< of Rondo, "0.1.0"
  std::string kokkos_version;        ///< "5.2.2"
  std::string execution_space;       ///< Kokkos' default, "OpenMP" or "Cuda"
  std::string host_execution_space;  ///< Kokkos' default on the host
  std::string kernel;               ///< default_kernel on the default execution space: "host" or "portable"; "portable,
                                    ///< mma for 16 bits" where the device has tensor cores for that
  int vector_bytes = 0;             ///< of a vector of the host kernel; 8: one element at a time
  int cache_kib = 0;                ///< of second-level cache that its blocks are sized for
  std::string instructions;         ///< widest vector instructions that the flags name: "AVX-512", ... or "none"
  bool fused_multiply_add = false;  ///< the flags name an instruction for a·b + c
  bool bfloat16_pairs = false;      ///< the host kernel multiplies bfloat16 in pairs
  bool amx = false;                 ///< and, where the running system allows it, in AMX tiles
  bool layers = false;              ///< linked to Rondo::layers
  bool mpi = false;                 ///< linked to Rondo::mpi
  bool nccl = false;                ///< linked to Rondo::nccl

  /// A line for each part, for a log or a report of a fault.
  std::string text() const {
    const auto yes = [](bool value) { return value ? "yes" : "no"; };
    std::string components;
    if (layers) components += " layers";
    if (mpi) components += " mpi";
    if (nccl) components += " nccl";
    std::string text = "rondo " + version + ", Kokkos " + kokkos_version + "\n";
    text += "execution space: " + execution_space + ", on the host " + host_execution_space + "\n";
    text += "default kernel: " + kernel + "\n";
    text += "host vectors: " + std::to_string(vector_bytes) + " bytes, instructions " + instructions;
    text += std::string(", fused multiply-add ") + yes(fused_multiply_add);
    text += std::string(", bfloat16 pairs ") + (amx ? "in AMX tiles" : yes(bfloat16_pairs));
    text += ", blocks for " + std::to_string(cache_kib) + " KiB of cache\n";
    return text + "components:" + (components.empty() ? " none" : components) + "\n";
  }
};

namespace detail {

inline std::string dotted(int version) {  // Kokkos writes major · 10000 + minor · 100 + patch
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

}  // namespace detail

/// What was chosen for the translation unit that calls this, by its own flags: parts of one program may differ.
/// Needs no running Kokkos.
static inline BuildInfo build_info() {
  BuildInfo info;
  info.version = version_string;
  info.kokkos_version = detail::dotted(KOKKOS_VERSION);
  info.execution_space = Kokkos::DefaultExecutionSpace::name();
  info.host_execution_space = Kokkos::DefaultHostExecutionSpace::name();
  const bool portable = std::is_same_v<default_kernel<float>, portable_kernel<float, Kokkos::DefaultExecutionSpace>>;
  info.kernel = portable ? "portable" : "host";
  if (mma::has_tensor_cores<Kokkos::DefaultExecutionSpace>) info.kernel += ", mma for 16 bits";
  if (mfma::has_matrix_cores<Kokkos::DefaultExecutionSpace>) info.kernel += ", mfma for 16 bits";
  info.vector_bytes = host::vector_bytes;
  info.cache_kib = host::cache_bytes >> 10;
#if defined(__AVX512F__)
  info.instructions = "AVX-512";
#elif defined(__AVX2__)
  info.instructions = "AVX2";
#elif defined(__AVX__)
  info.instructions = "AVX";
#elif defined(__SSE2__)
  info.instructions = "SSE2";
#elif defined(__ARM_NEON)
  info.instructions = "NEON";
#else
  info.instructions = "none";
#endif
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
  info.fused_multiply_add = true;
#endif
  info.bfloat16_pairs = RONDO_HOST_PAIRS != 0;
  info.amx = RONDO_HOST_AMX != 0;
#ifdef RONDO_HAS_LAYERS
  info.layers = true;
#endif
#ifdef RONDO_HAS_MPI
  info.mpi = true;
#endif
#ifdef RONDO_HAS_NCCL
  info.nccl = true;
#endif
  return info;
}

}  // namespace rondo
