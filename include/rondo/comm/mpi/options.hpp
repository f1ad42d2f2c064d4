/// \file
/// Settings of an mpi_communicator.
#pragma once

#include <rondo/comm/concept.hpp>

#include <cstddef>

namespace rondo {

/// What MPI is given for messages in device memory. Host memory is always given as it is, unless `staged` is asked for.
enum class MpiBuffers {
  automatic,  ///< device memory itself if the MPI library says that it can, host copies otherwise
  direct,     ///< the memory itself
  staged      ///< copies in host memory
};

/// Settings of an mpi_communicator, the same on every rank.
struct MpiOptions {
  Deadline deadline{300};                          ///< seconds that any call waits for its peers
  std::size_t slice_bytes = std::size_t{1} << 30;  ///< longer messages travel in slices; at most 2^31 - 1, MPI's count
  MpiBuffers buffers = MpiBuffers::automatic;
};

}  // namespace rondo
