/// \file
/// The processes that mpiexec has started, for programs that do not see MPI themselves: they are compiled once and
/// linked with each library's world.cpp.
#pragma once

#include <support/any_communicator.hpp>

#include <rondo/comm/mpi/options.hpp>

namespace rondo::test {

/// MPI_Init_thread with MPI_THREAD_FUNNELED.
void start_world(int& argc, char**& argv);
/// MPI_Finalize, or with another result than 0 abort_all: a rank that failed may have left messages behind that the
/// others would wait for.
void end_world(int result);

int world_rank();
int world_size();

/// An mpi_communicator of all processes.
any_communicator world(const MpiOptions& options = {});

}  // namespace rondo::test
