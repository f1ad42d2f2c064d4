/// \file
/// Memory that a layer owns: allocated once, through Kokkos, so that Kokkos' allocation callbacks see it.
#pragma once

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace rondo::detail {

/// `size` elements in host memory, not initialised. Moves, but does not copy: two layers that shared a workspace
/// would overwrite each other's values.
template <class T>
class HostBuffer {
 public:
  HostBuffer(const std::string& label, std::int64_t size) {
    if (size == 0) return;  // Kokkos would allocate, and count, a header
    elements_ = Elements(Kokkos::view_alloc(Kokkos::WithoutInitializing, label), static_cast<std::size_t>(size));
  }

  HostBuffer(HostBuffer&& other) noexcept : elements_(std::exchange(other.elements_, {})) {}
  HostBuffer& operator=(HostBuffer&& other) noexcept {
    elements_ = std::exchange(other.elements_, {});
    return *this;
  }
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;
  ~HostBuffer() = default;

  T* data() const { return elements_.data(); }
  std::size_t bytes() const { return elements_.size() * sizeof(T); }

 private:
  using Elements = Kokkos::View<T*, Kokkos::HostSpace>;
  Elements elements_;
};

}  // namespace rondo::detail
