/// \file
/// mpi_random_kills <seed> <directory>, under mpiexec: while all ranks compute, one of them is killed at a random moment;
/// the others go on without it, until two are left. No rank may hang, and no wrong result may pass for a right one.
#include "report.hpp"
#include "work.hpp"

#include <rondo/error.hpp>

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <iostream>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>

namespace {

using namespace rondo::test;

constexpr std::int64_t tokens = 150;
constexpr double deadline = 2;

/// Computes until a rank dies; in `seconds`, how long that took to be known.
bool work_until_failure(any_communicator& comm, std::int64_t& round, double& seconds, const Report& report) {
  try {
    KnownWork work(comm, tokens);
    for (const double end = now() + 30; now() < end; ++round) work.round(round);
    return false;
  } catch (const rondo::peer_failed&) {
  } catch (const rondo::timeout_error&) {
  }
  seconds = std::max(seconds, report.seconds_since_fault());
  return true;
}

any_communicator shrunk(any_communicator& comm) {
  for (int attempt = 0;; ++attempt) {
    try {
      return comm.shrink();
    } catch (const rondo::agreement_error&) {
      if (attempt == 2) throw;
    }
  }
}

std::string story(int seed, const Report& report) {
  std::mt19937 random(static_cast<unsigned>(seed));  // in step on all ranks
  any_communicator comm = world({.deadline = rondo::Deadline(deadline)});
  std::int64_t round = 0;
  double seconds = 0;
  int kills = 0;
  while (comm.size() > 2) {
    const int victim = static_cast<int>(random() % static_cast<unsigned>(comm.size()));
    const std::chrono::microseconds delay(random() % 150'000);
    comm.barrier();
    if (comm.rank() == victim) {
      std::thread([&report, delay] {
        std::this_thread::sleep_for(delay);
        report.fault_begins();
        raise(SIGKILL);
      }).detach();
    }
    if (!work_until_failure(comm, round, seconds, report))
      return "nobody noticed that rank " + std::to_string(victim) + " died";
    const int before = comm.size();
    any_communicator rest = shrunk(comm);
    if (rest.size() != before - 1) {
      return std::to_string(before) + " ranks were shrunk to " + std::to_string(rest.size());
    }
    comm = std::move(rest);
    round += 1000 - round % 1000;
    ++kills;
  }
  KnownWork work(comm, tokens);
  for (int last = 0; last < 3; ++last) work.round(round + last);
  return "as needed | " + std::to_string(kills) + " kills, known after " + std::to_string(seconds) + " s at most";
}

}  // namespace

int main(int argc, char** argv) {
  start_world(argc, argv);
  if (argc < 3) {
    std::cerr << "mpi_random_kills <seed> <directory>\n";
    return 2;
  }
  const Report report(argv[2]);
  Kokkos::initialize(argc, argv);
  std::string outcome;
  try {
    outcome = story(std::stoi(argv[1]), report);
  } catch (const wrong_result& wrong) {
    outcome = std::string("a wrong result: ") + wrong.what();
  } catch (const std::exception& exception) {
    outcome = std::string("unexpected: ") + exception.what();
  }
  report.outcome(outcome);
  report.end_together(2);
}
