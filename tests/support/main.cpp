/// \file
/// The main of every test program: starts Kokkos, then Catch2 with a fixed seed that it prints, and at the end lists
/// what the tests measured.
#include <support/measurements.hpp>

#include <Kokkos_Core.hpp>
#include <catch2/catch_session.hpp>

#include <cstdint>
#include <iostream>

int main(int argc, char** argv) {
  Catch::Session session;
  session.configData().rngSeed = 20231003;  // --rng-seed gives another
  if (const int refused = session.applyCommandLine(argc, argv); refused != 0) return refused;
  const Kokkos::ScopeGuard kokkos;
  const auto& config = session.configData();
  const bool lists = config.listTests || config.listTags || config.listReporters || config.listListeners;
  if (!lists) std::cout << "seed " << config.rngSeed << "\n";
  const int result = session.run();
  if (!lists) rondo::test::Measurements::instance().print(std::cout);
  return result;
}
