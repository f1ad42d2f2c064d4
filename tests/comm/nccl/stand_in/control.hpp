/// \file
/// What tests ask of the stand-in NCCL and tell it to do.
#pragma once

#include <nccl.h>

#include <chrono>
#include <string>
#include <vector>

namespace stand_in {

/// How slow it is. Nothing may depend on it.
struct Delays {
  std::chrono::microseconds launch{200};  ///< a non-blocking communicator's first group with a peer
  std::chrono::microseconds copy{0};      ///< before each copy
};
void set_delays(const Delays& delays);

/// From now on this communicator's asynchronous error is this, and its messages stand still.
void break_down(ncclComm_t comm, ncclResult_t error);

/// What was done that NCCL's documentation forbids, since the last call: a communicator used while a call on it is in
/// progress, or after its end; messages that wait for each other for ever; lengths that differ.
std::vector<std::string> take_misuses();

/// Communicators that were made and neither destroyed nor aborted.
int open_communicators();

}  // namespace stand_in
