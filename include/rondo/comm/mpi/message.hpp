/// \file
/// One message of an exchange on its way through MPI, in slices that MPI can count.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/comm/mpi/group.hpp>

#include <Kokkos_Core.hpp>

#include <mpi.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

namespace rondo::mpi {

/// Messages are used again and again: their vectors and host copies stay as large as they once were.
template <class MemorySpace>
class Message {
 public:
  using Bytes = typename Segment<MemorySpace>::Bytes;
  using HostBytes = Kokkos::View<std::byte*, Kokkos::HostSpace>;

  /// Makes a message of a segment. With `staged` a copy in host memory travels in its place.
  void prepare(const Segment<MemorySpace>& segment, bool staged) {
    segment_ = segment;
    staged_ = staged;
    finished_ = 0;
    error_ = MPI_SUCCESS;
    mismatch_ = false;
    if (staged && stage_.size() < size()) {
      stage_ = HostBytes(Kokkos::view_alloc(Kokkos::WithoutInitializing, "rondo::stage"), size());
    }
  }

  Direction direction() const { return segment_.direction; }
  int peer() const { return segment_.peer; }
  std::size_t size() const { return segment_.bytes.size(); }
  bool is_done() const { return error_ == MPI_SUCCESS && !mismatch_ && finished_ == slices_.size(); }
  bool has_error() const { return error_ != MPI_SUCCESS || mismatch_; }
  int error() const { return error_; }

  /// Queues the copy to host memory that is sent; to be followed by a fence.
  template <class Exec>
  void copy_out(const Exec& exec) {
    if (staged_ && direction() == Direction::send && size() > 0) Kokkos::deep_copy(exec, staged(), segment_.bytes);
  }
  /// Has it arrived in host memory only?
  bool is_in_stage() const { return staged_ && direction() == Direction::receive && size() > 0; }
  /// Copies it to its place, once.
  template <class Exec>
  void copy_in() {
    if constexpr (Kokkos::SpaceAccessibility<Kokkos::HostSpace, MemorySpace>::accessible) {
      std::memcpy(segment_.bytes.data(), stage_.data(), size());  // a kernel may be asking, which can start no other
    } else {
      const Exec exec{};
      Kokkos::deep_copy(exec, segment_.bytes, staged());
      exec.fence("rondo::stage");  // the host copy is used again
    }
    staged_ = false;
  }

  /// Starts all slices. A message without bytes is one slice without bytes.
  void start(MPI_Comm comm, int process, int tag, std::size_t slice_bytes) {
    slices_.assign(std::max<std::size_t>(1, (size() + slice_bytes - 1) / slice_bytes), MPI_REQUEST_NULL);
    slice_bytes_ = slice_bytes;
    std::byte* data = staged_ ? stage_.data() : segment_.bytes.data();
    for (std::size_t i = 0; i < slices_.size() && error_ == MPI_SUCCESS; ++i) {
      std::byte* begin = size() == 0 ? nullptr : data + i * slice_bytes;
      error_ = direction() == Direction::send ? MPI_Isend(begin, count(i), MPI_BYTE, process, tag, comm, &slices_[i])
                                              : MPI_Irecv(begin, count(i), MPI_BYTE, process, tag, comm, &slices_[i]);
    }
  }

  /// Asks MPI about the slices in turn, which is what makes it move them.
  void progress() {
    while (!has_error() && finished_ < slices_.size()) {
      int done = 0;
      MPI_Status status;
      error_ = MPI_Test(&slices_[finished_], &done, &status);
      if (error_ != MPI_SUCCESS || !done) return;
      if (direction() == Direction::receive) {
        MPI_Get_count(&status, MPI_BYTE, &received_);
        mismatch_ = received_ != count(finished_);
      }
      ++finished_;
    }
  }

  /// What is wrong with a message that is shorter or longer than its receiver expects.
  bool has_other_length() const { return mismatch_ || (has_error() && error_class(error_) == MPI_ERR_TRUNCATE); }
  std::string other_length(int receiver) const {
    return detail::message("rank ", peer(), " sends ", mismatch_ ? "" : "more than ", sent_bytes(),
                           " bytes where rank ", receiver, " expects ", size());
  }

  /// Gives back the memory that a finished message held.
  void release() { segment_ = {}; }

 private:
  int count(std::size_t slice) const { return static_cast<int>(std::min(slice_bytes_, size() - slice * slice_bytes_)); }
  std::size_t sent_bytes() const {
    return mismatch_ ? (finished_ - 1) * slice_bytes_ + static_cast<std::size_t>(received_)
                     : std::min(size(), finished_ * slice_bytes_ + static_cast<std::size_t>(count(finished_)));
  }
  HostBytes staged() const { return Kokkos::subview(stage_, std::pair{std::size_t{0}, size()}); }

  Segment<MemorySpace> segment_;
  HostBytes stage_;
  bool staged_ = false;
  std::vector<MPI_Request> slices_;
  std::size_t slice_bytes_ = 1;
  std::size_t finished_ = 0;
  int error_ = MPI_SUCCESS;
  int received_ = 0;
  bool mismatch_ = false;
};

}  // namespace rondo::mpi
