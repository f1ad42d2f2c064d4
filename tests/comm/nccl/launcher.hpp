/// \file
/// Ranks as threads of the test program, whose messages go over the stand-in NCCL.
#pragma once

#include "../in_process_launcher.hpp"
#include "../stand_in/streams.hpp"
#include "stand_in/control.hpp"

#include <rondo/comm/nccl.hpp>

#include <vector>

namespace comm_test {

template <class Exec = Kokkos::DefaultExecutionSpace>
using NcclComm = rondo::nccl_communicator<rondo::in_process_communicator<>, Exec, stand_in::HostStreams<Exec>>;

static_assert(rondo::Communicator<NcclComm<>>);
static_assert(rondo::nccl::Control<rondo::in_process_communicator<>>);
static_assert(!rondo::nccl::Control<NcclComm<>>, "messages that NCCL moves do not start NCCL");
static_assert(!rondo::Streams<int>);

/// A communicator of all ranks of an in-process one.
inline NcclComm<> over_nccl(rondo::in_process_communicator<>& comm, const rondo::NcclOptions& options = {}) {
  return NcclComm<>(comm.split(0, comm.rank()), comm.execution_instance(), options);
}

/// Beside what ranks find: what the stand-in has seen that NCCL forbids, and communicators that nobody has closed.
struct Nccl {
  using communicator = NcclComm<>;
  static std::vector<int> sizes() { return {1, 2, 3, 4, 7}; }

  template <class Work>
  static Report run(int ranks, const Work& work) {
    Report report = InProcess::run(ranks, [&](auto& comm, Findings& found) {
      communicator nccl = over_nccl(comm);
      work(nccl, found);
    });
    for (const std::string& misuse : stand_in::take_misuses()) report.push_back(misuse);
    if (stand_in::open_communicators() != 0) report.push_back("a communicator is left open");
    return report;
  }
};

}  // namespace comm_test
