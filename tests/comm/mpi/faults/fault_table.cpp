/// \file
/// One row of the fault table: mpi_fault_table <scenario> <directory>, under mpiexec on 4 ranks. Rank 1 does what the
/// scenario says in the third round; every other rank reports what it got, and after how long.
#include "report.hpp"
#include "sabotaged.hpp"
#include "work.hpp"

#include <rondo/error.hpp>

#include <Kokkos_Core.hpp>

#include <csignal>
#include <cstdint>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>

#include <unistd.h>

namespace {

using namespace rondo::test;

constexpr int guilty = 1;
constexpr std::int64_t tokens = 150;
constexpr double deadline = 2;
// Beyond the deadline: for a machine that is busy with other things.
constexpr double grace = 5;

/// What rank 1 does, where, and what that means for the others.
struct Scenario {
  std::string call;  ///< it happens before this call ...
  std::int64_t hop;  ///< ... of this hop
  enum { kill, stop, raise_exception, leave, other_call, other_length, other_operation } what;
  bool survives = false;  ///< rank 1 has a report of its own
  bool at_once = false;   ///< the others know long before the deadline
};

const std::map<std::string, Scenario> scenarios{
    {"killed_in_forward", {"forward", 1, Scenario::kill}},
    {"killed_in_backward", {"backward", 2, Scenario::kill}},
    {"killed_in_all_reduce", {"all_reduce", -1, Scenario::kill}},
    {"stopped_in_forward", {"forward", 1, Scenario::stop, true}},
    {"stopped_in_backward", {"backward", 1, Scenario::stop, true}},
    {"stopped_in_all_reduce", {"all_reduce", -1, Scenario::stop, true}},
    {"throws_in_forward", {"forward", 1, Scenario::raise_exception, true, true}},
    {"throws_in_backward", {"backward", 2, Scenario::raise_exception, true, true}},
    {"throws_before_all_reduce", {"all_reduce", -1, Scenario::raise_exception, true, true}},
    {"leaves_early", {"all_reduce", -1, Scenario::leave, true}},
    {"calls_barrier_in_forward", {"forward", 1, Scenario::other_call, true}},
    {"reduces_another_length", {"all_reduce", -1, Scenario::other_length, true, true}},
    {"calls_backward_instead", {"all_reduce", -1, Scenario::other_operation, true, true}},
};

class thrown_on_purpose : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
struct has_left {};

/// Stops this process; a child of its own lets it go on when the others must have given up.
void stop_for(int seconds) {
  const pid_t self = getpid();
  if (fork() == 0) {
    sleep(static_cast<unsigned>(seconds));
    kill(self, SIGCONT);
    _exit(0);
  }
  raise(SIGSTOP);
}

std::string run(const Scenario& scenario, const Report& report, sabotaged& comm, std::int64_t& round) {
  const bool mismatch = scenario.what == Scenario::other_length || scenario.what == Scenario::other_operation;
  try {
    KnownWork work(comm, tokens);
    for (round = 0; round < 1000; ++round) {
      work.forward(round);
      if (mismatch && round == 2 && comm.rank() == guilty) {
        report.fault_begins();
        if (scenario.what == Scenario::other_operation) {
          work.forward(round);
        } else {
          work.backward();
          double three[3] = {};
          comm.all_reduce(std::span<double>(three), rondo::Reduction::sum);
        }
      }
      work.backward();
      work.all_reduce(round);
    }
  } catch (const rondo::timeout_error& timeout) {
    return rondo::detail::message("timeout_error about rank ", timeout.peer(), ": ", timeout.what());
  } catch (const rondo::peer_failed& failure) {
    return rondo::detail::message("peer_failed about rank ", failure.rank(), ": ", failure.what());
  } catch (const rondo::agreement_error& difference) {
    return rondo::detail::message("agreement_error: ", difference.what());
  } catch (const has_left&) {
    return "left";
  }
  return "nothing";
}

/// "" or what is not as it should be.
std::string judge(const Scenario& scenario, const std::string& got, double seconds) {
  const bool is_guilty = world_rank() == guilty;
  const bool mismatch = scenario.what == Scenario::other_length || scenario.what == Scenario::other_operation;
  const auto starts = [&](const char* text) { return got.starts_with(text); };
  if (mismatch) {
    if (!starts("agreement_error: ")) return "should be an agreement_error";
    return got.find("rank 1") == std::string::npos ? "should name rank 1" : "";
  }
  if (is_guilty && scenario.what == Scenario::leave) return starts("left") ? "" : "should have left";
  if (!starts("peer_failed") && !starts("timeout_error")) return "should be peer_failed or timeout_error";
  // All wait in a circle then, rank 1 too: nobody is silent, and whoever's time is up first says so.
  const bool circle =
      scenario.what == Scenario::other_call && got.find("which itself waits for rank") != std::string::npos;
  if (!is_guilty && !circle && got.find("rank 1") == std::string::npos) return "should name rank 1";
  if (!is_guilty && seconds > deadline + grace) return "took longer than the deadline allows";
  if (!is_guilty && scenario.at_once && seconds > deadline * 0.75) return "should have come at once";
  return "";
}

/// After it, the communicator refuses every call; the survivors go on with one of their own.
std::string aftermath(const Scenario& scenario, const std::string& got, sabotaged& comm) {
  if (scenario.what == Scenario::other_length || scenario.what == Scenario::other_operation) {
    comm.barrier();
    return "";
  }
  if (got == "left") return "";
  try {
    comm.barrier();
    return "a failed communicator was used";
  } catch (const rondo::peer_failed&) {
  }
  if (world_rank() == guilty) return "";
  sabotaged rest = comm.shrink();
  if (rest.size() != 3) return "shrunk to " + std::to_string(rest.size()) + " ranks, needed are 3";
  KnownWork work(rest, tokens);
  for (int round = 1000; round < 1003; ++round) work.round(round);
  sabotaged part = rest.split(rest.rank() % 2, 0);
  KnownWork(part, tokens).round(0);
  return "";
}

}  // namespace

int main(int argc, char** argv) {
  start_world(argc, argv);
  if (argc < 3 || scenarios.count(argv[1]) == 0) {
    std::cerr << "mpi_fault_table <scenario> <directory>; scenarios:\n";
    for (const auto& [name, scenario] : scenarios) std::cerr << "  " << name << "\n";
    return 2;
  }
  const Scenario& scenario = scenarios.at(argv[1]);
  const Report report(argv[2]);
  Kokkos::initialize(argc, argv);

  std::int64_t round = 0;
  const auto saboteur = [&](any_communicator& comm, const std::string& call, std::int64_t hop) {
    if (world_rank() != guilty || round != 2 || call != scenario.call || hop != scenario.hop) return;
    switch (scenario.what) {
      case Scenario::kill:
        report.fault_begins();
        raise(SIGKILL);
        break;
      case Scenario::stop:
        report.fault_begins();
        round = -1;  // once
        stop_for(static_cast<int>(4 * deadline));
        break;
      case Scenario::raise_exception:
        report.fault_begins();
        throw thrown_on_purpose("a user's own exception");
      case Scenario::leave:
        report.fault_begins();
        throw has_left{};
      case Scenario::other_call:
        report.fault_begins();
        comm.barrier();
        break;
      default:
        break;
    }
  };
  std::string got;
  std::string complaint;
  double seconds = 0;
  try {
    sabotaged comm(world({.deadline = rondo::Deadline(deadline)}), saboteur);
    got = run(scenario, report, comm, round);
    seconds = report.seconds_since_fault();
    complaint = judge(scenario, got, seconds);
    if (complaint.empty()) complaint = aftermath(scenario, got, comm);
  } catch (const thrown_on_purpose& exception) {
    // It has left the communicator's scope.
    got = rondo::detail::message("its own exception: ", exception.what());
  } catch (const std::exception& exception) {
    complaint = std::string("unexpected: ") + exception.what();
  }
  report.outcome((complaint.empty() ? "as needed" : complaint) + " | " + std::to_string(seconds) + " s | " + got);
  report.end_together(scenario.survives ? world_size() : world_size() - 1);
}
