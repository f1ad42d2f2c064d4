/// \file
/// Tensors: Kokkos Views with any strides, made from a View or from a pointer, and the checks of their extents.
#pragma once

#include <rondo/error.hpp>

#include <Kokkos_Core.hpp>

#include <array>
#include <concepts>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

namespace rondo {
namespace detail {

template <class T, int Rank>
struct pointers {
  using type = typename pointers<T*, Rank - 1>::type;
};
template <class T>
struct pointers<T, 0> {
  using type = T;
};

}  // namespace detail

/// What every Rondo function takes: memory somebody else owns, with any strides. A `Kokkos::View` of the same rank
/// converts to it; for other memory see rondo::tensor.
template <class T, int Rank, class MemorySpace = Kokkos::DefaultExecutionSpace::memory_space>
using Tensor = Kokkos::View<typename detail::pointers<T, Rank>::type, Kokkos::LayoutStride, MemorySpace,
                            Kokkos::MemoryTraits<Kokkos::Unmanaged>>;

/// Wraps memory that is not a Kokkos View.
/// \param data     the element at index 0, 0, ...
/// \param extents  elements along each axis
/// \param strides  elements (not bytes) between neighbours along each axis
template <class MemorySpace = Kokkos::DefaultExecutionSpace::memory_space, class T, std::integral Extent,
          std::size_t Rank>
Tensor<T, static_cast<int>(Rank), MemorySpace> tensor(T* data, const Extent (&extents)[Rank],
                                                      const std::type_identity_t<Extent> (&strides)[Rank]) {
  Kokkos::LayoutStride layout;
  for (std::size_t axis = 0; axis < Rank; ++axis) {
    if (extents[axis] < 0) {
      throw shape_error(detail::message("tensor: extent ", extents[axis], " of axis ", axis, " is negative"));
    }
    layout.dimension[axis] = static_cast<std::size_t>(extents[axis]);
    layout.stride[axis] = static_cast<std::size_t>(strides[axis]);
  }
  return Tensor<T, static_cast<int>(Rank), MemorySpace>(data, layout);
}

/// Wraps contiguous memory, last axis fastest.
template <class MemorySpace = Kokkos::DefaultExecutionSpace::memory_space, class T, std::integral Extent,
          std::size_t Rank>
Tensor<T, static_cast<int>(Rank), MemorySpace> tensor(T* data, const Extent (&extents)[Rank]) {
  Extent strides[Rank];
  Extent stride = 1;
  for (std::size_t axis = Rank; axis-- > 0;) {
    strides[axis] = stride;
    stride *= extents[axis];
  }
  return tensor<MemorySpace>(data, extents, strides);
}

/// A View, or anything that converts to Tensor<T, Rank>. (A pointer says nothing of extents; Kokkos 4 converts it all the
/// same.)
template <class X, class T, int Rank, class MemorySpace>
concept TensorOf = std::convertible_to<X, Tensor<T, Rank, MemorySpace>> && !std::is_pointer_v<std::decay_t<X>>;

namespace detail {

template <int Rank>
using Extents = std::array<std::int64_t, static_cast<std::size_t>(Rank)>;

template <class View>
auto extents_of(const View& view) {
  Extents<static_cast<int>(View::rank())> extents;
  for (std::size_t axis = 0; axis < extents.size(); ++axis) {
    extents[axis] = static_cast<std::int64_t>(view.extent(axis));
  }
  return extents;
}

template <std::size_t Rank>
std::string shape_text(const std::array<std::int64_t, Rank>& extents) {
  std::string text = "[";
  for (std::size_t axis = 0; axis < Rank; ++axis) text += (axis ? ", " : "") + std::to_string(extents[axis]);
  return text + "]";
}

/// Throws shape_error unless `view` has the extents needed.
/// \param axes  the names of the axes, for the message: "[batch, sequence, heads, head_dim]"
template <class View, int Rank = static_cast<int>(View::rank())>
void check_extents(const char* name, const char* axes, const View& view,
                   const std::type_identity_t<Extents<Rank>>& needed) {
  const auto given = extents_of(view);
  if (given != needed) {
    throw shape_error(message(name, " has shape ", shape_text(given), ", needed is ", axes, " = ", shape_text(needed)));
  }
}

/// Rows [first, first + count) of axis 1: the tokens of [batch, sequence, heads, head_dim].
template <class T, class... Properties>
auto token_rows(const Kokkos::View<T****, Properties...>& x, std::int64_t first, std::int64_t count) {
  return Kokkos::subview(x, Kokkos::ALL, std::pair{first, first + count}, Kokkos::ALL, Kokkos::ALL);
}

/// Columns [first, first + count) of axis 2: the tokens of [batch, heads, sequence].
template <class T, class... Properties>
auto token_columns(const Kokkos::View<T***, Properties...>& x, std::int64_t first, std::int64_t count) {
  return Kokkos::subview(x, Kokkos::ALL, Kokkos::ALL, std::pair{first, first + count});
}

}  // namespace detail
}  // namespace rondo
