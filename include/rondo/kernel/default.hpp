/// \file
/// The kernel that RingAttention uses when it is not told which.
#pragma once

#include <rondo/kernel/host/host.hpp>
#include <rondo/kernel/portable/portable.hpp>

#include <Kokkos_Core.hpp>

#include <type_traits>

namespace rondo {

/// The fastest kernel for storage type T on an execution space: host_kernel where the host computes, portable_kernel on
/// devices.
template <StorageType T, class Exec = Kokkos::DefaultExecutionSpace>
using default_kernel =
    std::conditional_t<std::is_same_v<typename Exec::memory_space, Kokkos::HostSpace>, host_kernel<T, Exec>,
                       portable_kernel<T, Exec>>;

}  // namespace rondo
