/// \file
/// Ranks as threads of the test program.
#pragma once

#include "launcher.hpp"

#include <rondo/comm/in_process.hpp>

#include <cstddef>
#include <vector>

namespace comm_test {

struct InProcess {
  using communicator = rondo::in_process_communicator<>;
  static std::vector<int> sizes() { return {1, 2, 3, 4, 7}; }

  template <class Work>
  static Report run(int ranks, const Work& work) {
    std::vector<Findings> findings(static_cast<std::size_t>(ranks));
    rondo::in_process_group(ranks, {.deadline = rondo::Deadline(60)}).run([&](communicator& comm) {
      work(comm, findings[static_cast<std::size_t>(comm.rank())]);
    });
    return report(findings);
  }
};

}  // namespace comm_test
