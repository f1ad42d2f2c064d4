/// \file
/// An execution-space instance for each rank of one process.
#pragma once

#include <Kokkos_Core.hpp>

#include <type_traits>
#include <vector>

namespace rondo::in_process {

/// An instance that no other rank has, on a device with a stream of its own.
/// \param threads  threads per rank, where the space lets one say so
template <class Exec>
Exec make_instance([[maybe_unused]] int threads) {
#ifdef KOKKOS_ENABLE_OPENMP
  if constexpr (std::is_same_v<Exec, Kokkos::OpenMP>) return Kokkos::OpenMP(threads);
#endif
#ifdef KOKKOS_ENABLE_SERIAL
  if constexpr (std::is_same_v<Exec, Kokkos::Serial>) return Kokkos::Serial(Kokkos::NewInstance{});
#endif
  return Kokkos::Experimental::partition_space(Exec{}, std::vector<int>{1}).front();
}

}  // namespace rondo::in_process
