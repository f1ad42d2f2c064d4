/// \file
/// A rank's workspace: one allocation, laid out once, whose parts are known by purpose.
#pragma once

#include <rondo/workspace_layout.hpp>

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <utility>

namespace rondo {

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
