/// \file
/// An execution-space instance for each rank of one process.
#pragma once

#include <Kokkos_Core.hpp>

#include <type_traits>
#include <vector>

namespace rondo::in_process {

/// An instance of its own for rank `rank` of `ranks`, called on that rank's thread.
/// \param threads  threads per rank, where the space lets one say so
template <class Exec>
Exec make_instance(int rank, int ranks, [[maybe_unused]] int threads) {
#ifdef KOKKOS_ENABLE_OPENMP
  if constexpr (std::is_same_v<Exec, Kokkos::OpenMP>) return Kokkos::OpenMP(threads);
#endif
#ifdef KOKKOS_ENABLE_SERIAL
  if constexpr (std::is_same_v<Exec, Kokkos::Serial>) return Kokkos::Serial(Kokkos::NewInstance{});
#endif
  const auto instances =
      Kokkos::Experimental::partition_space(Exec{}, std::vector<int>(static_cast<std::size_t>(ranks), 1));
  return instances[static_cast<std::size_t>(rank)];
}

}  // namespace rondo::in_process
