/// \file
/// The communicator whose ranks are devices, and whose messages NCCL or RCCL moves.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/comm/nccl/options.hpp>
#include <rondo/comm/nccl/traffic.hpp>
#include <rondo/comm/nccl/transfer.hpp>
#include <rondo/comm/streams.hpp>

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <utility>

namespace rondo {
namespace nccl {

/// The streams of an execution space. \note one without is refused here, where a reader is told what is needed
template <class Exec>
struct streams_of : rondo::streams_of<Exec> {
  static_assert(Streams<rondo::streams_of<Exec>>,
                "NCCL needs an execution space with streams: Kokkos::Cuda or Kokkos::HIP");
};

}  // namespace nccl

/// One rank per device. Exchanges are NCCL's grouped sends and receives on a stream of their own, ordered with events
/// against the instances that they are given: the host goes on at once. What is small and on the host (reductions,
/// broadcasts, agreement, splits, news of failures) goes over the communicator that it is made with, which also hands
/// round what NCCL needs to start.
///
///     rondo::nccl_communicator comm{rondo::mpi_communicator<Kokkos::DefaultHostExecutionSpace>{MPI_COMM_WORLD}};
///
/// What is queued is worked off in order: a send and the receive that waits for it belong in exchanges of the same
/// number on their two ranks. Lengths are not compared: NCCL does not know what a receiver expects, so ranks that have
/// different ones in mind get a timeout_error or each other's bytes. RingAttention compares the arguments beforehand.
///
/// Every call returns within the deadline of the communicator it is made with, counted from when nothing but a peer is
/// waited for. A failure aborts the ncclComm_t, so that the device goes on, and tells the other ranks; after that every
/// call throws. \note calls make the instance's device the calling thread's.
template <nccl::Control ControlT, class Exec = Kokkos::DefaultExecutionSpace, Streams S = nccl::streams_of<Exec>>
class nccl_communicator {
 public:
  using execution_space = Exec;
  using memory_space = typename Exec::memory_space;
  using TrafficType = nccl::Traffic<ControlT, S>;
  static constexpr bool stream_ordered = true;

  /// Collective over the ranks of `control`. \throws argument_error, timeout_error, peer_failed, error with NCCL's words
  explicit nccl_communicator(ControlT control, Exec exec = Exec{}, const NcclOptions& options = {})
      : exec_(selected(std::move(exec))), options_(checked(options)) {
    traffic_ = std::make_shared<TrafficType>(std::move(control), options.under_way);
  }

  /// Adopts a user's ncclComm_t, blocking or not, and the stream that its messages travel on; both stay the user's, who
  /// destroys them after this. A failure aborts the ncclComm_t: `handle()` is null from then on, and it must not be
  /// destroyed again. \throws argument_error when its ranks are not those of `control`
  nccl_communicator(ControlT control, ncclComm_t comm, typename S::stream stream, Exec exec = Exec{},
                    const NcclOptions& options = {})
      : exec_(selected(std::move(exec))), options_(checked(options)) {
    traffic_ = std::make_shared<TrafficType>(std::move(control), comm, stream, options.under_way);
  }

  nccl_communicator(nccl_communicator&&) noexcept = default;
  nccl_communicator& operator=(nccl_communicator&&) noexcept = default;

  /// A rank that unwinds past its communicator leaves nothing behind that its device would wait for.
  ~nccl_communicator() {
    if (traffic_ && std::uncaught_exceptions() > exceptions_) traffic_->abort();
  }

  int rank() const { return control().rank(); }
  int size() const { return control().size(); }
  const Exec& execution_instance() const { return exec_; }
  /// Seconds that any call waits for its peers.
  Deadline deadline() const { return control().deadline(); }
  /// NCCL's own; null after a failure.
  ncclComm_t handle() const { return traffic_->handle(); }

  /// Starts all segments as one group, after the work queued on `after`. Messages without bytes are none.
  /// \throws argument_error for an unknown peer; timeout_error, peer_failed
  nccl::Transfer<TrafficType> exchange(const Exec& after, std::span<const Segment<memory_space>> segments,
                                       Where where = {}) {
    for (const auto& segment : segments) check_peer("exchange", segment.peer);
    S::select(exec_);
    return {traffic_, traffic_->start(after, segments, where)};
  }

  /// Returns when the work queued on `exec` is done, which may wait for exchanges. \throws timeout_error, peer_failed
  void fence(const Exec& exec, const char* /*name*/) { traffic_->fence(exec); }

  /// Combines the values of all ranks in place, in the order of ranks, on the host.
  /// \throws agreement_error when lengths or reductions differ between ranks; timeout_error, peer_failed
  void all_reduce(std::span<float> values, Reduction reduction) { usable().all_reduce(values, reduction); }
  void all_reduce(std::span<double> values, Reduction reduction) { usable().all_reduce(values, reduction); }
  void all_reduce(std::span<std::int64_t> values, Reduction reduction) { usable().all_reduce(values, reduction); }
  /// Copies the bytes of rank `root` to all, on the host.
  void broadcast(std::span<std::byte> bytes, int root) { usable().broadcast(bytes, root); }
  /// Returns when every rank has called it. Exchanges may still be under way.
  void barrier() { usable().barrier(); }
  /// True on every rank when every rank said true.
  bool agree(bool ok) { return usable().agree(ok); }

  /// The communicator of all ranks that gave the same color, in the order of (key, rank), with an ncclComm_t and a
  /// stream of its own.
  nccl_communicator split(int color, int key) {
    S::select(exec_);
    return nccl_communicator(usable().split(color, key), exec_, options_);
  }

 private:
  const ControlT& control() const { return traffic_->control(); }
  ControlT& usable() {
    traffic_->throw_if_failed();
    return traffic_->control();
  }

  static Exec selected(Exec exec) {
    S::select(exec);
    return exec;
  }
  static NcclOptions checked(const NcclOptions& options) {
    if (options.under_way < 1) {
      throw argument_error(
          detail::message("nccl_communicator: under_way is ", options.under_way, ", it must be at least 1"));
    }
    return options;
  }

  void check_peer(const char* what, int peer) const {
    if (peer < 0 || peer >= size()) {
      throw argument_error(detail::message(what, ": rank ", peer, " does not exist, there are ", size(), " ranks"));
    }
  }

  Exec exec_;
  NcclOptions options_;
  std::shared_ptr<TrafficType> traffic_;
  int exceptions_ = std::uncaught_exceptions();
};

}  // namespace rondo
