/// \file
/// The main of test programs that run under mpiexec: starts MPI and Kokkos, then Catch2, in step on all ranks.
#include "world.hpp"

#include <Kokkos_Core.hpp>
#include <catch2/catch_session.hpp>

#include <iostream>

int main(int argc, char** argv) {
  rondo::test::start_world(argc, argv);
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
  rondo::test::end_world(result);
  return 0;
}
