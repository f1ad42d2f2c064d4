/// The suite of communicators, on ranks that are threads: with the host copying, and with streams that copy.
#include "in_process_launcher.hpp"
#include "stand_in/streams.hpp"

#include <cstddef>
#include <tuple>
#include <vector>

namespace comm_test {

#if defined(KOKKOS_ENABLE_CUDA) || defined(KOKKOS_ENABLE_HIP)
using Launchers = std::tuple<InProcess>;
#else
/// Copies lie on streams, though the instances queue nothing.
struct InProcessOverStreams {
  using Exec = Kokkos::DefaultExecutionSpace;
  using Group = rondo::in_process_group<Exec, stand_in::HostStreams<Exec>>;
  using communicator = Group::communicator;
  static std::vector<int> sizes() { return InProcess::sizes(); }

  template <class Work>
  static Report run(int ranks, const Work& work) {
    std::vector<Findings> findings(static_cast<std::size_t>(ranks));
    Group(ranks, {.deadline = rondo::Deadline(60)}).run([&](communicator& comm) {
      work(comm, findings[static_cast<std::size_t>(comm.rank())]);
    });
    return report(findings);
  }
};
static_assert(InProcessOverStreams::communicator::stream_ordered);

using Launchers = std::tuple<InProcess, InProcessOverStreams>;
#endif

}  // namespace comm_test

#include "communicator_suite.hpp"
