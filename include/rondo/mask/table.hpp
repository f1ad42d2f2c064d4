/// \file
/// Whole numbers that a mask looks up on the host and on the device: what lies where, and who owns it.
#pragma once

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace rondo {

/// The same numbers in both memories. Trivially copyable, so that a mask may hold it; the memory is a Table's.
struct TableView {
  const std::int64_t* host = nullptr;
  const std::int64_t* device = nullptr;

  KOKKOS_FUNCTION std::int64_t operator[](std::int64_t index) const {
    KOKKOS_IF_ON_HOST((return host[index];))
    KOKKOS_IF_ON_DEVICE((return device[index];))
  }
};

namespace detail {

/// Numbers in host memory and, where kernels compute elsewhere, in theirs. Must outlive the masks that look into it.
template <class MemorySpace>
class Table {
 public:
  explicit Table(const std::vector<std::int64_t>& numbers)
      : host_(Kokkos::view_alloc(Kokkos::WithoutInitializing, "rondo::table"), numbers.size()) {
    for (std::size_t i = 0; i < numbers.size(); ++i) host_(i) = numbers[i];
    device_ = Kokkos::create_mirror_view_and_copy(MemorySpace{}, host_);
  }

  TableView view() const { return {host_.data(), device_.data()}; }
  std::size_t bytes() const { return host_.size() * sizeof(std::int64_t); }

 private:
  Kokkos::View<std::int64_t*, Kokkos::HostSpace> host_;
  Kokkos::View<std::int64_t*, MemorySpace> device_;
};

}  // namespace detail
}  // namespace rondo
