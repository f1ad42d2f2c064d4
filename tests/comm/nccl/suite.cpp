/// The suite of communicators, over the stand-in NCCL.
#include "launcher.hpp"

#include <tuple>

namespace comm_test {
using Launchers = std::tuple<Nccl>;
}

#include "../communicator_suite.hpp"
