/// \file
/// A rank's workspace: one allocation, laid out once, whose parts are known by purpose.
#pragma once

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace rondo {

/// Adds up the parts of a workspace before it exists. Each part starts at a multiple of 128 bytes.
class WorkspaceLayout {
 public:
  /// Reserves `bytes` and returns where they start.
  std::size_t add(std::size_t bytes) {
    const std::size_t offset = bytes_;
    bytes_ += (bytes + alignment - 1) / alignment * alignment;
    return offset;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  static constexpr std::size_t alignment = 128;
  std::size_t bytes_ = 0;
};

/// The memory behind a layout. Parts are handed out as reference-counted bytes, so that a transfer in flight keeps the
/// whole workspace alive.
template <class MemorySpace>
class Workspace {
 public:
  using Bytes = Kokkos::View<std::byte*, MemorySpace>;

  Workspace() = default;
  explicit Workspace(std::size_t bytes)
      : memory_(Kokkos::view_alloc(Kokkos::WithoutInitializing, "rondo::workspace"), bytes) {}

  Bytes bytes(std::size_t offset, std::size_t count) const {
    return Kokkos::subview(memory_, std::pair{offset, offset + count});
  }

  template <class T>
  T* at(std::size_t offset) const {
    return reinterpret_cast<T*>(memory_.data() + offset);
  }

 private:
  Bytes memory_;
};

}  // namespace rondo
