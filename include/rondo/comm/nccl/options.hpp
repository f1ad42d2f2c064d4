/// \file
/// Settings of an nccl_communicator.
#pragma once

namespace rondo {

/// Settings of an nccl_communicator. Its deadline is that of the communicator it is made with.
struct NcclOptions {
  /// Exchanges that may be queued before the host waits for the first of them. Without a bound a rank whose peer never
  /// comes would go on queueing until the device's queue is full, where nobody can leave.
  int under_way = 16;
};

}  // namespace rondo
