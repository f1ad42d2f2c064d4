/// \file
/// Where a rank's keys and values come from, part by part, when they need not all be in memory at once.
#pragma once

#include <rondo/precision.hpp>
#include <rondo/problem.hpp>
#include <rondo/sharding/shard_table.hpp>
#include <rondo/tensor.hpp>

#include <Kokkos_Core.hpp>

#include <concepts>
#include <cstdint>
#include <exception>
#include <thread>
#include <utility>

namespace rondo {

/// Keys and values of a part: [batch, tokens of the part, kv_heads, head_dim], and value_dim of values.
template <class T, class MemorySpace>
struct KeyValues {
  Tensor<const T, 4, MemorySpace> k;
  Tensor<const T, 4, MemorySpace> v;
};

/// Gives the parts of a rank's own pieces as they are needed:
///  - part(exec, p): the keys and values of p, readable by work on `exec` until the next call
///  - expect(p): p is asked for next, after the step that begins now, or at once where it is a piece's second part: a
///    chance to fetch it meanwhile
template <class S, class T, class Exec>
concept KeyValueSource = requires(S& source, const Exec& exec, const Part& part) {
  { source.part(exec, part) } -> std::same_as<KeyValues<T, typename Exec::memory_space>>;
  source.expect(part);
};

/// A rank's whole shard in memory: Views, wrapped memory, a mapped file.
template <class T, class MemorySpace = Kokkos::DefaultExecutionSpace::memory_space>
class tensor_source {
 public:
  tensor_source(const Tensor<const T, 4, MemorySpace>& k, const Tensor<const T, 4, MemorySpace>& v) : k_(k), v_(v) {}

  template <class Exec>
  KeyValues<T, MemorySpace> part(const Exec& /*exec*/, const Part& part) const {
    return {detail::token_rows(k_, part.row, part.tokens.count), detail::token_rows(v_, part.row, part.tokens.count)};
  }
  void expect(const Part& /*part*/) const {}

 private:
  Tensor<const T, 4, MemorySpace> k_;
  Tensor<const T, 4, MemorySpace> v_;
};

/// Keys and values that a function writes, on a thread of its own while the ring computes with the part before. Holds
/// two parts, whatever the length of the sequence. Memory that the host can write.
/// \tparam Fill  fill(part, k, v) writes [batch, tokens, kv_heads, head_dim], and value_dim of values
template <class T, class Fill, class MemorySpace = Kokkos::HostSpace>
class streamed_source {
 public:
  streamed_source(const Shape& shape, std::int64_t chunk, Fill fill) : shape_(shape.checked()), fill_(std::move(fill)) {
    for (Room& room : rooms_) {
      const auto make = [&](int width) {
        return View(Kokkos::view_alloc(Kokkos::WithoutInitializing, "rondo::streamed"), shape_.batch, chunk,
                    shape_.kv_heads, width);
      };
      room.k = make(shape_.head_dim);
      room.v = make(shape_.value_dim);
    }
  }
  streamed_source(const streamed_source&) = delete;
  streamed_source& operator=(const streamed_source&) = delete;
  ~streamed_source() { join(); }

  /// \throws whatever fill threw
  template <class Exec>
  KeyValues<T, MemorySpace> part(const Exec& exec, const Part& part) {
    exec.fence("rondo::source");  // the part before is packed
    join();
    if (!(coming_.tokens == part.tokens && coming_.row == part.row)) {
      failure_ = nullptr;
      write(part);
    }
    coming_ = {};
    if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    std::swap(rooms_[0], rooms_[1]);
    return {of(rooms_[0].k, part), of(rooms_[0].v, part)};
  }

  void expect(const Part& part) {
    join();
    coming_ = part;
    thread_ = std::thread([this] { write(coming_); });
  }

 private:
  using View = Kokkos::View<T****, Kokkos::LayoutRight, MemorySpace>;
  struct Room {
    View k, v;
  };

  static Tensor<T, 4, MemorySpace> of(const View& view, const Part& part) {
    return detail::token_rows(view, 0, part.tokens.count);
  }
  /// Into the room that nobody reads.
  void write(const Part& part) {
    try {
      fill_(part, of(rooms_[1].k, part), of(rooms_[1].v, part));
    } catch (...) {
      failure_ = std::current_exception();
    }
  }
  void join() {
    if (thread_.joinable()) thread_.join();
  }

  Shape shape_;
  Fill fill_;
  Room rooms_[2];
  Part coming_{};
  std::thread thread_;
  std::exception_ptr failure_;
};

template <class T, class Fill>
auto make_streamed_source(const Shape& shape, std::int64_t chunk, Fill fill) {
  return streamed_source<T, Fill>(shape, chunk, std::move(fill));
}

}  // namespace rondo
