/// \file
/// What the layers take: host tensors of float or double with unit stride in the last axis, and the checks of that.
#pragma once

#include <rondo/error.hpp>
#include <rondo/tensor.hpp>

#include <Kokkos_Core.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace rondo {

/// A number type the layers compute in.
template <class T>
concept Real = std::same_as<T, float> || std::same_as<T, double>;

/// A tensor in host memory. Every `Kokkos::View` of that rank in HostSpace converts to it.
template <class T, int Rank>
using HostTensor = Tensor<T, Rank, Kokkos::HostSpace>;

namespace detail {

/// \throws argument_error unless `value` is at least 1. `layer` and `name` are for the message.
inline void check_positive(const char* layer, const char* name, std::int64_t value) {
  if (value < 1) throw argument_error(message(layer, ": ", name, " is ", value, ", it must be at least 1"));
}

/// \throws shape_error unless neighbours along the last axis are neighbours in memory.
template <class View>
void check_unit_stride(const char* name, const View& view) {
  constexpr auto last = static_cast<std::size_t>(View::rank()) - 1;
  if (view.size() == 0 || view.extent(last) <= 1 || view.stride(last) == 1) return;
  throw shape_error(message(name, " has stride ", view.stride(last), " along its last axis, needed is 1"));
}

/// \throws shape_error unless `matrix` is [rows, columns] with unit stride along a row and rows that do not overlap.
template <class View>
void check_matrix(const char* name, const char* axes, const View& matrix, std::int64_t rows, std::int64_t columns) {
  check_extents(name, axes, matrix, {rows, columns});
  check_unit_stride(name, matrix);
  if (rows > 1 && static_cast<std::int64_t>(matrix.stride(0)) < columns) {
    throw shape_error(
        message(name, " has stride ", matrix.stride(0), " between rows of ", columns, " elements: rows overlap"));
  }
}

/// Do two matrices (as check_matrix admits them) share an element? Exact for equal row strides, as for two ranges of
/// columns of one matrix; for unequal ones, whether the memory they span overlaps.
template <class A, class B>
bool share_memory(const A& a, const B& b) {
  if (a.size() == 0 || b.size() == 0) return false;
  const auto address = [](const auto& view) { return reinterpret_cast<std::uintptr_t>(view.data()); };
  const auto row_bytes = [](const auto& view) { return view.extent(1) * sizeof(*view.data()); };
  const auto stride_bytes = [](const auto& view) { return view.stride(0) * sizeof(*view.data()); };
  const auto end = [&](const auto& view) {
    return address(view) + (view.extent(0) - 1) * stride_bytes(view) + row_bytes(view);
  };
  if (end(a) <= address(b) || end(b) <= address(a)) return false;
  if (stride_bytes(a) != stride_bytes(b)) return true;
  const std::uintptr_t stride = stride_bytes(a);
  const std::uintptr_t ahead = (address(b) % stride + stride - address(a) % stride) % stride;
  return ahead < row_bytes(a) || ahead + row_bytes(b) > stride;
}

/// \throws argument_error when `output` shares memory with `input`.
template <class Output, class Input>
void check_apart(const char* output_name, const Output& output, const char* input_name, const Input& input) {
  if (share_memory(output, input)) {
    throw argument_error(message(output_name, " at ", output.data(), " shares memory with ", input_name, " at ",
                                 input.data(), ": it must not"));
  }
}

/// \throws argument_error when `output` shares memory with `input` and is not exactly the same matrix.
template <class Output, class Input>
void check_same_or_apart(const char* output_name, const Output& output, const char* input_name, const Input& input) {
  const bool same = output.data() == input.data() && (output.extent(0) <= 1 || output.stride(0) == input.stride(0));
  if (!same) check_apart(output_name, output, input_name, input);
}

}  // namespace detail
}  // namespace rondo
