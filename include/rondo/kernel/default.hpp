/// \file
/// The kernel that RingAttention uses when it is not told which.
#pragma once

#include <rondo/kernel/portable/portable.hpp>

namespace rondo {

/// The fastest kernel for storage type T on an execution space.
template <StorageType T, class Exec = Kokkos::DefaultExecutionSpace>
using default_kernel = portable_kernel<T, Exec>;

}  // namespace rondo
