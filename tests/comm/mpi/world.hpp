/// \file
/// The processes that mpiexec has started, for tests that do not see MPI themselves: they are compiled once and linked
/// with each library's world.cpp.
#pragma once

#include <support/any_communicator.hpp>

#include <rondo/comm/mpi/options.hpp>

namespace rondo::test {

int world_rank();
int world_size();

/// An mpi_communicator of all processes.
any_communicator world(const MpiOptions& options = {});

}  // namespace rondo::test
