/// \file
/// The ncclComm_t of one rank: how it comes into being, how it is asked for errors, how it ends.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/comm/nccl/library.hpp>
#include <rondo/comm/patience.hpp>
#include <rondo/error.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <span>
#include <type_traits>

namespace rondo::nccl {

using Clock = std::chrono::steady_clock;

/// A communicator among hosts that hands round what NCCL needs to start, carries what is small, and brings news of
/// failures: in_process_communicator and mpi_communicator are such.
///  - listen(): throws peer_failed when a rank is known to have failed; never waits
///  - give_up(what): tells the others that this rank has failed
template <class C>
concept Control = Communicator<C> && requires(C& comm, const char* what) {
  comm.listen();
  comm.give_up(what);
};

/// Owns an ncclComm_t that never blocks the host. One that was adopted belongs to its user, unless it had to be aborted.
class Connection {
 public:
  /// Collective over the ranks of `control`, on the calling thread's device.
  /// \throws error with NCCL's words; timeout_error, peer_failed
  template <Control C>
  explicit Connection(C& control) : is_own_(true) {
    struct Invitation {
      ncclResult_t code = ncclSuccess;
      ncclUniqueId id{};
    } invitation;
    static_assert(std::is_trivially_copyable_v<Invitation>);
    if (control.rank() == 0) invitation.code = ncclGetUniqueId(&invitation.id);
    control.broadcast(std::as_writable_bytes(std::span(&invitation, 1)), 0);
    check(invitation.code, "ncclGetUniqueId on rank 0");
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    try {
      const ncclResult_t code = ncclCommInitRankConfig(&comm_, control.size(), invitation.id, control.rank(), &config);
      if (code != ncclInProgress) check(code, "ncclCommInitRankConfig");
      const auto end = Clock::now() + control.deadline();
      for (detail::Patience patience; !is_ready("ncclCommInitRankConfig"); patience.pause()) {
        control.listen();
        if (Clock::now() > end) {
          throw timeout_error(
              -1, detail::message("rank ", control.rank(), " of ", control.size(), " waited ",
                                  control.deadline().count(), " s for the others at ncclCommInitRankConfig"));
        }
      }
    } catch (const std::exception& failure) {
      abort();
      control.give_up(failure.what());
      throw;
    }
  }

  /// Takes over a user's. \throws argument_error when it has other ranks than `control`
  template <Control C>
  Connection(const C& control, ncclComm_t given) : comm_(given) {
    if (given == nullptr) throw argument_error("nccl_communicator: the ncclComm_t is null");
    int rank = 0, size = 0;
    check(ncclCommUserRank(given, &rank), "ncclCommUserRank");
    check(ncclCommCount(given, &size), "ncclCommCount");
    if (rank != control.rank() || size != control.size()) {
      throw argument_error(detail::message("nccl_communicator: the ncclComm_t is rank ", rank, " of ", size,
                                           ", the communicator given with it is rank ", control.rank(), " of ",
                                           control.size()));
    }
  }

  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() {
    if (is_own_) abort();  // close() is the quiet way
  }

  ncclComm_t handle() const { return comm_; }
  bool is_open() const { return comm_ != nullptr; }

  /// Whether everything given to NCCL so far has been handed on to the device. Never waits.
  /// \throws error with what NCCL has met meanwhile
  bool is_ready(const char* function) const {
    ncclResult_t state = ncclSuccess;
    check(ncclCommGetAsyncError(comm_, &state), "ncclCommGetAsyncError");
    if (state == ncclSuccess || state == ncclInProgress) return state == ncclSuccess;
    if (state == ncclRemoteError) {
      throw peer_failed(-1, detail::message(function, ": another rank has failed, ", text(state, comm_)));
    }
    throw error(detail::message(function, " failed: ", text(state, comm_)));
  }

  /// Ends whatever the device is still doing for this communicator, so that its streams go on.
  void abort() {
    if (comm_ != nullptr) static_cast<void>(ncclCommAbort(comm_));
    comm_ = nullptr;
  }

  /// Ends in agreement with the other ranks, within the deadline. Everything queued must be done.
  void close(Deadline deadline) {
    if (comm_ == nullptr || !is_own_) return;
    const auto end = Clock::now() + deadline;
    ncclResult_t state = ncclCommFinalize(comm_);
    for (detail::Patience patience; state == ncclInProgress && Clock::now() < end; patience.pause()) {
      if (ncclCommGetAsyncError(comm_, &state) != ncclSuccess) state = ncclInternalError;
    }
    if (state != ncclSuccess) return abort();
    static_cast<void>(ncclCommDestroy(comm_));
    comm_ = nullptr;
  }

 private:
  ncclComm_t comm_ = nullptr;
  bool is_own_ = false;
};

}  // namespace rondo::nccl
