/// \file
/// The Communicator and Transfer concepts: ranks that move bytes to each other and never know what they mean.
#pragma once

#include <Kokkos_Core.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

namespace rondo {

/// Whether a segment leaves this rank or arrives at it.
enum class Direction { send, receive };

/// One message of an exchange. The View is reference-counted: the memory outlives what the transport may still touch.
template <class MemorySpace>
struct Segment {
  using Bytes = Kokkos::View<std::byte*, MemorySpace>;
  Direction direction = Direction::send;
  int peer = 0;
  Bytes bytes;
};

/// How all_reduce combines the ranks' values. Sums are taken in the order of ranks, so their bits repeat.
enum class Reduction { sum, minimum, maximum };

/// What an exchange belongs to, for error messages: "rank 2 waited ... at hop 3 of forward".
struct Where {
  const char* what = "exchange";
  std::int64_t hop = -1;
};

/// Seconds after which a call gives up on its peers.
using Deadline = std::chrono::duration<double>;

/// A started exchange. `test` makes progress and says whether all of it has arrived and left, or throws when that will
/// never be; `wait` returns when it has, or throws timeout_error or peer_failed; `order` makes later work on an instance
/// run after it.
template <class T, class Exec = Kokkos::DefaultExecutionSpace>
concept Transfer = std::movable<T> && requires(T& transfer, const Exec& exec) {
  { transfer.test() } -> std::same_as<bool>;
  transfer.wait();
  transfer.order(exec);
};

/// A fixed set of ranks 0 ... size() - 1. Calls are made by every rank in the same order; each returns within the
/// deadline, with a result or an exception.
///  - exchange(after, segments, where): starts all sends and receives as one group, after the work queued on `after`;
///    between two ranks, sends and receives match in order
///  - all_reduce(values, reduction): in place, on host memory
///  - broadcast(bytes, root), barrier()
///  - split(color, key): one communicator per color, its ranks in the order of (key, rank)
///  - agree(ok): true when every rank said true
///  - stream_ordered: whether `order` leaves the host free (NCCL; in process on a device) or makes it wait (MPI; in process
///    on the host). Exchanges are then worked off in order: a send and the receive that waits for it belong in exchanges of
///    the same number
///  - fence(exec, name), where it is stream-ordered: returns when the work queued on `exec` is done, which may wait for
///    peers, so that only the communicator can leave it at the deadline
template <class C>
concept Communicator =
    std::movable<C> && requires(C& comm, const C& observed, const typename C::execution_space& exec,
                                std::span<const Segment<typename C::memory_space>> segments, std::span<float> floats,
                                std::span<double> doubles, std::span<std::int64_t> integers,
                                std::span<std::byte> bytes, Reduction reduction, Where where, int number, bool ok) {
      { observed.rank() } -> std::same_as<int>;
      { observed.size() } -> std::same_as<int>;
      { observed.execution_instance() } -> std::convertible_to<typename C::execution_space>;
      { observed.deadline() } -> std::convertible_to<Deadline>;
      { C::stream_ordered } -> std::convertible_to<bool>;
      { comm.exchange(exec, segments, where) } -> Transfer<typename C::execution_space>;
      comm.all_reduce(floats, reduction);
      comm.all_reduce(doubles, reduction);
      comm.all_reduce(integers, reduction);
      comm.broadcast(bytes, number);
      comm.barrier();
      { comm.split(number, number) } -> std::same_as<C>;
      { comm.agree(ok) } -> std::same_as<bool>;
      requires !C::stream_ordered || requires { comm.fence(exec, "name"); };
    };

/// Returns when the work queued on an instance is done. Kokkos::Serial and Kokkos::OpenMP queue nothing: their calls
/// return when the work is done, and their fence would wait for the very kernel in which a ProgressCallback asks.
template <class Exec>
void fence_queue(const Exec& exec, const char* name) {
#ifdef KOKKOS_ENABLE_SERIAL
  if constexpr (std::is_same_v<Exec, Kokkos::Serial>) return;
#endif
#ifdef KOKKOS_ENABLE_OPENMP
  if constexpr (std::is_same_v<Exec, Kokkos::OpenMP>) return;
#endif
  exec.fence(name);
}

/// Returns when the work queued on an instance is done, or throws at the communicator's deadline when it waits for a
/// peer that never comes.
template <class C, class Exec>
void fence(C& comm, const Exec& exec, const char* name) {
  if constexpr (C::stream_ordered) {
    comm.fence(exec, name);
  } else {
    exec.fence(name);
  }
}

/// Whether started exchanges move only while `test` or `wait` is called, as MPI's do: such a communicator says so with
/// `static constexpr bool moves_when_asked = true`, and the engine asks while it computes.
template <class C>
inline constexpr bool moves_when_asked = requires { requires C::moves_when_asked; };

}  // namespace rondo
