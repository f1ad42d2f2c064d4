/// \file
/// The kernel that RingAttention uses when it is not told which.
#pragma once

#include <rondo/kernel/host/host.hpp>
#include <rondo/kernel/mfma/mfma.hpp>
#include <rondo/kernel/mma/mma.hpp>
#include <rondo/kernel/portable/portable.hpp>

#include <Kokkos_Core.hpp>

#include <type_traits>

namespace rondo {

namespace detail {

template <class T, class Exec>
struct chosen_kernel {
  using type = std::conditional_t<std::is_same_v<typename Exec::memory_space, Kokkos::HostSpace>, host_kernel<T, Exec>,
                                  portable_kernel<T, Exec>>;
};
template <mma::Element T, class Exec>
  requires mma::has_tensor_cores<Exec>
struct chosen_kernel<T, Exec> {
  using type = mma_kernel<T, Exec>;
};
template <mfma::Element T, class Exec>
  requires mfma::has_matrix_cores<Exec>
struct chosen_kernel<T, Exec> {
  using type = mfma_kernel<T, Exec>;
};

}  // namespace detail

/// The fastest kernel for storage type T on an execution space: host_kernel where the host computes; for bfloat16 and float16
/// mma_kernel on Kokkos::Cuda and mfma_kernel on Kokkos::HIP, for gfx90a and gfx942; else portable_kernel (docs/devices.md).
template <StorageType T, class Exec = Kokkos::DefaultExecutionSpace>
using default_kernel = typename detail::chosen_kernel<T, Exec>::type;

}  // namespace rondo
