/// \file
/// Tensors with odd strides, and room between their elements in which writing shows.
#pragma once

#include <rondo/tensor.hpp>

#include <Kokkos_Core.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace rondo::test {

/// How a tensor lies in memory: last axis fastest with some room behind each row, or the first-but-one axis fastest.
enum class Order { rows, columns };

/// A tensor in a kernel's memory space with a copy on the host, filled with `fill`; the room between its elements holds
/// bytes that nobody may touch.
template <class T, int Rank, class Space>
class Held {
 public:
  using Sizes = std::array<std::int64_t, static_cast<std::size_t>(Rank)>;

  /// \param room  elements behind each row, or column
  Held(const Sizes& extents, Order order, T fill, std::int64_t room = 3) : extents_(extents) {
    std::int64_t stride = 1;
    const auto take = [&](std::size_t axis, std::int64_t more) {
      strides_[axis] = stride;
      stride *= extents[axis] + more;
    };
    if (order == Order::columns) take(1, room);
    for (std::size_t axis = Rank; axis-- > 0;) {
      if (order == Order::columns && axis == 1) continue;
      take(axis, axis + 1 == Rank ? room : 0);
    }
    memory_ = Kokkos::View<T*, Space>(Kokkos::view_alloc(Kokkos::WithoutInitializing, "held"),
                                      static_cast<std::size_t>(stride));
    host_ = Kokkos::create_mirror_view(memory_);
    std::memset(static_cast<void*>(host_.data()), untouched, host_.size() * sizeof(T));
    for_each([&](T& x, const Sizes&) { x = fill; });
    upload();
  }

  /// For the kernel.
  Tensor<T, Rank, Space> tensor() const {
    Kokkos::LayoutStride layout;
    for (std::size_t axis = 0; axis < Rank; ++axis) {
      layout.dimension[axis] = static_cast<std::size_t>(extents_[axis]);
      layout.stride[axis] = static_cast<std::size_t>(strides_[axis]);
    }
    return Tensor<T, Rank, Space>(memory_.data(), layout);
  }

  T& at(const Sizes& index) const {
    std::int64_t offset = 0;
    for (std::size_t axis = 0; axis < Rank; ++axis) offset += index[axis] * strides_[axis];
    return host_(static_cast<std::size_t>(offset));
  }

  /// Calls f(element, index) for every element of the host's copy.
  template <class F>
  void for_each(const F& f) const {
    std::int64_t count = 1;
    for (const std::int64_t extent : extents_) count *= extent;
    for (std::int64_t number = 0; number < count; ++number) {
      Sizes index;
      std::int64_t rest = number;
      for (std::size_t axis = Rank; axis-- > 0;) {
        index[axis] = rest % extents_[axis];
        rest /= extents_[axis];
      }
      f(at(index), index);
    }
  }

  void upload() const { Kokkos::deep_copy(memory_, host_); }
  void download() const { Kokkos::deep_copy(host_, memory_); }

  /// Whether the room between the elements is as it was. After download.
  bool is_room_untouched() const {
    std::vector<bool> inside(host_.size(), false);
    for_each([&](const T& x, const Sizes&) { inside[static_cast<std::size_t>(&x - host_.data())] = true; });
    for (std::size_t i = 0; i < host_.size(); ++i) {
      unsigned char bytes[sizeof(T)];
      std::memcpy(bytes, static_cast<const void*>(host_.data() + i), sizeof(T));
      for (const unsigned char byte : bytes) {
        if (!inside[i] && byte != untouched) return false;
      }
    }
    return true;
  }

 private:
  static constexpr unsigned char untouched = 0xc5;

  Sizes extents_;
  Sizes strides_{};
  Kokkos::View<T*, Space> memory_;
  decltype(Kokkos::create_mirror_view(Kokkos::View<T*, Space>())) host_;
};

}  // namespace rondo::test
