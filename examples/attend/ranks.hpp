/// \file
/// The ranks' communicators, and the computation in each type over them: compiled in a file of its own for each type.
#pragma once

#include "mapped_file.hpp"
#include "request.hpp"

#include <rondo/rondo.hpp>

#ifdef ATTEND_WITH_MPI
#include <rondo/comm/mpi.hpp>
#endif

namespace attend {

using Exec = Kokkos::DefaultHostExecutionSpace;
using Threads = rondo::in_process_communicator<Exec>;

template <class T>
void compute_in(Threads& comm, const Request& request, const safetensors::Input& in, safetensors::Output* out);

#ifdef ATTEND_WITH_MPI
using Processes = rondo::mpi_communicator<Exec>;

template <class T>
void compute_in(Processes& comm, const Request& request, const safetensors::Input& in, safetensors::Output* out);
#endif

}  // namespace attend
