/// The suite of communicators, on ranks that are MPI processes.
#include "launcher.hpp"

#include <tuple>

namespace comm_test {
using Launchers = std::tuple<Mpi>;
}

#include "../communicator_suite.hpp"
