/// \file
/// The few things that communicators need of a device's runtime: streams, events and copies.
#pragma once

#include <rondo/error.hpp>

#include <Kokkos_Core.hpp>

#include <concepts>
#include <cstddef>
#include <type_traits>

namespace rondo {

/// A runtime's streams and events, for one execution space.
///  - queues: whether instances of the space queue their work. Where they do not, there is nothing that could wait for an
///    event but the host
///  - select(exec): makes the instance's device the calling thread's
///  - record(event, stream): the event is reached when the work queued so far on the stream is done
///  - wait(stream, event): work queued later on the stream runs after the event, as it was recorded last
///  - reached(event): asks, and never waits
///  - copy(stream, target, source, bytes): queued, from the space's memory to the space's memory
template <class S>
concept Streams = requires(const typename S::execution_space& exec, typename S::stream stream, typename S::event event,
                           void* target, const void* source, std::size_t bytes) {
  { S::queues } -> std::convertible_to<bool>;
  S::select(exec);
  { S::stream_of(exec) } -> std::same_as<typename S::stream>;
  { S::make_stream() } -> std::same_as<typename S::stream>;
  S::drop_stream(stream);
  { S::make_event() } -> std::same_as<typename S::event>;
  S::drop_event(event);
  S::record(event, stream);
  S::wait(stream, event);
  { S::reached(event) } -> std::same_as<bool>;
  S::copy(stream, target, source, bytes);
};

/// The streams of an execution space. Specialised for the spaces that have some, no Streams for the others.
template <class Exec>
struct streams_of {};

/// In the place of Streams where there are none: the host waits for instances, and copies.
struct no_streams {};

/// An execution space's streams, or no_streams.
template <class Exec>
using streams_or_none = std::conditional_t<Streams<streams_of<Exec>>, streams_of<Exec>, no_streams>;

#ifdef KOKKOS_ENABLE_CUDA
template <>
struct streams_of<Kokkos::Cuda> {
  using execution_space = Kokkos::Cuda;
  using stream = cudaStream_t;
  using event = cudaEvent_t;
  static constexpr bool queues = true;

  static void select(const Kokkos::Cuda& exec) { check(cudaSetDevice(exec.cuda_device()), "cudaSetDevice"); }
  static stream stream_of(const Kokkos::Cuda& exec) { return exec.cuda_stream(); }
  static stream make_stream() {
    stream made = nullptr;
    int lowest = 0, highest = 0;  // messages first: blocks of a kernel that fills the device would hold them up
    check(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "cudaDeviceGetStreamPriorityRange");
    check(cudaStreamCreateWithPriority(&made, cudaStreamNonBlocking, highest), "cudaStreamCreateWithPriority");
    return made;
  }
  static void drop_stream(stream given) { static_cast<void>(cudaStreamDestroy(given)); }
  static event make_event() {
    event made = nullptr;
    check(cudaEventCreateWithFlags(&made, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    return made;
  }
  static void drop_event(event given) { static_cast<void>(cudaEventDestroy(given)); }
  static void record(event given, stream on) { check(cudaEventRecord(given, on), "cudaEventRecord"); }
  static void wait(stream later, event given) { check(cudaStreamWaitEvent(later, given, 0), "cudaStreamWaitEvent"); }
  static bool reached(event given) {
    const cudaError_t code = cudaEventQuery(given);
    if (code != cudaErrorNotReady) check(code, "cudaEventQuery");
    return code == cudaSuccess;
  }
  static void copy(stream on, void* target, const void* source, std::size_t bytes) {
    check(cudaMemcpyAsync(target, source, bytes, cudaMemcpyDefault, on), "cudaMemcpyAsync");
  }

 private:
  static void check(cudaError_t code, const char* function) {
    if (code != cudaSuccess) throw error(detail::message(function, " failed: ", cudaGetErrorString(code)));
  }
};
#endif

#ifdef KOKKOS_ENABLE_HIP
template <>
struct streams_of<Kokkos::HIP> {
  using execution_space = Kokkos::HIP;
  using stream = hipStream_t;
  using event = hipEvent_t;
  static constexpr bool queues = true;

  static void select(const Kokkos::HIP& exec) { check(hipSetDevice(exec.hip_device()), "hipSetDevice"); }
  static stream stream_of(const Kokkos::HIP& exec) { return exec.hip_stream(); }
  static stream make_stream() {
    stream made = nullptr;
    int lowest = 0, highest = 0;
    check(hipDeviceGetStreamPriorityRange(&lowest, &highest), "hipDeviceGetStreamPriorityRange");
    check(hipStreamCreateWithPriority(&made, hipStreamNonBlocking, highest), "hipStreamCreateWithPriority");
    return made;
  }
  static void drop_stream(stream given) { static_cast<void>(hipStreamDestroy(given)); }
  static event make_event() {
    event made = nullptr;
    check(hipEventCreateWithFlags(&made, hipEventDisableTiming), "hipEventCreateWithFlags");
    return made;
  }
  static void drop_event(event given) { static_cast<void>(hipEventDestroy(given)); }
  static void record(event given, stream on) { check(hipEventRecord(given, on), "hipEventRecord"); }
  static void wait(stream later, event given) { check(hipStreamWaitEvent(later, given, 0), "hipStreamWaitEvent"); }
  static bool reached(event given) {
    const hipError_t code = hipEventQuery(given);
    if (code != hipErrorNotReady) check(code, "hipEventQuery");
    return code == hipSuccess;
  }
  static void copy(stream on, void* target, const void* source, std::size_t bytes) {
    check(hipMemcpyAsync(target, source, bytes, hipMemcpyDefault, on), "hipMemcpyAsync");
  }

 private:
  static void check(hipError_t code, const char* function) {
    if (code != hipSuccess) throw error(detail::message(function, " failed: ", hipGetErrorString(code)));
  }
};
#endif

}  // namespace rondo
