/// \file
/// Ranks as processes of the test program: mpiexec has started it on all of them, and they run each test in step.
#pragma once

#include "../launcher.hpp"
#include "world.hpp"

#include <vector>

namespace comm_test {

/// Runs everything three times: as it is; with slices so short that messages take the way of those beyond 2^31 bytes;
/// and through host copies, the way of device memory that MPI cannot read. Every process reports what it found itself.
struct Mpi {
  using communicator = rondo::test::any_communicator;
  static std::vector<int> sizes() { return {rondo::test::world_size()}; }

  template <class Work>
  static Report run(int /*ranks*/, const Work& work) {
    std::vector<Findings> findings(1);
    const rondo::MpiOptions variants[] = {{}, {.slice_bytes = 100'003}, {.buffers = rondo::MpiBuffers::staged}};
    for (rondo::MpiOptions options : variants) {
      options.deadline = rondo::Deadline(60);
      communicator comm = rondo::test::world(options);
      work(comm, findings.front());
      comm.barrier();
    }
    return report(findings, rondo::test::world_rank());
  }
};

}  // namespace comm_test
