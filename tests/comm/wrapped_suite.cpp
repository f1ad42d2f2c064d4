/// The suite of communicators, on wrapped ones.
#include "in_process_launcher.hpp"

#include <rondo/comm/counting.hpp>
#include <rondo/comm/paced.hpp>

#include <tuple>
#include <vector>

namespace comm_test {

struct Counted {
  using communicator = rondo::counting<rondo::in_process_communicator<>>;
  static std::vector<int> sizes() { return {1, 2, 4}; }
  template <class Work>
  static Report run(int ranks, const Work& work) {
    return InProcess::run(ranks, [&](auto& comm, Findings& found) {
      communicator counted(comm.split(0, comm.rank()));
      work(counted, found);
    });
  }
};

/// Behind a link with latency, in slices that cut every message of more than a few numbers.
struct Paced {
  using communicator = rondo::paced<rondo::in_process_communicator<>>;
  static std::vector<int> sizes() { return {1, 2, 4}; }
  template <class Work>
  static Report run(int ranks, const Work& work) {
    return InProcess::run(ranks, [&](auto& comm, Findings& found) {
      communicator paced(comm.split(0, comm.rank()), {.latency = 1e-4, .bytes_per_second = 2e9, .slice_bytes = 50'000});
      work(paced, found);
    });
  }
};

using Launchers = std::tuple<Counted, Paced>;

}  // namespace comm_test

#include "communicator_suite.hpp"
