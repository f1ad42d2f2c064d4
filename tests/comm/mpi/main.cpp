/// \file
/// The main of test programs that run under mpiexec: starts MPI and Kokkos, then Catch2, in step on all ranks.
#include <Kokkos_Core.hpp>
#include <catch2/catch_session.hpp>

#include <mpi.h>

#include <iostream>

int main(int argc, char** argv) {
  int level = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
  int result = 0;
  {
    Catch::Session session;
    session.configData().rngSeed = 20231003;  // --rng-seed gives another, to all ranks
    result = session.applyCommandLine(argc, argv);
    if (result == 0) {
      const Kokkos::ScopeGuard kokkos;
      result = session.run();
    }
  }
  std::cout << std::flush;
  // A rank that failed may have left messages behind that the others wait for in MPI_Finalize.
  if (result != 0) MPI_Abort(MPI_COMM_WORLD, result);
  MPI_Finalize();
  return 0;
}
