/// The suite of communicators, on ranks that are threads.
#include "in_process_launcher.hpp"

#include <tuple>

namespace comm_test {
using Launchers = std::tuple<InProcess>;
}

#include "communicator_suite.hpp"
