/// \file
/// A ring of MPI processes: the component Rondo::mpi.
#pragma once

#include <rondo/comm/mpi/abort.hpp>
#include <rondo/comm/mpi/communicator.hpp>
