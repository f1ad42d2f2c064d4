/// \file
/// Eigen's view of the memory the layers work on: row-major maps, never a copy.
#pragma once

#include <rondo/layer/host_tensor.hpp>

// GCC 12's own AVX-512 headers, inlined into Eigen, warn of a value left undefined on purpose.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <Eigen/Core>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <cstdint>
#include <type_traits>

namespace rondo::detail {

template <class T>
using EigenMatrix = Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using EigenRow = Eigen::Array<std::remove_const_t<T>, 1, Eigen::Dynamic, Eigen::RowMajor>;

/// Rows of any stride, read and written in place.
template <class T>
using MatrixMap = Eigen::Map<std::conditional_t<std::is_const_v<T>, const EigenMatrix<T>, EigenMatrix<T>>,
                             Eigen::Unaligned, Eigen::OuterStride<>>;

/// One row as an array, for element-wise work and sums.
template <class T>
using RowMap = Eigen::Map<std::conditional_t<std::is_const_v<T>, const EigenRow<T>, EigenRow<T>>>;

template <class T>
MatrixMap<T> matrix(T* data, std::int64_t rows, std::int64_t columns) {
  return {data, rows, columns, Eigen::OuterStride<>(columns)};
}

/// The first element of a row of a rank 2 tensor with unit stride in its last axis.
template <class View>
auto row_pointer(const View& x, std::int64_t row) {
  return x.data() + row * static_cast<std::int64_t>(x.stride(0));
}

/// Rows [first, first + count) of such a tensor.
template <class View>
MatrixMap<typename View::value_type> matrix_rows(const View& x, std::int64_t first, std::int64_t count) {
  return {row_pointer(x, first), count, static_cast<std::int64_t>(x.extent(1)),
          Eigen::OuterStride<>(static_cast<std::int64_t>(x.stride(0)))};
}

template <class View>
auto matrix(const View& x) {
  return matrix_rows(x, 0, static_cast<std::int64_t>(x.extent(0)));
}

template <class T>
RowMap<T> row(T* data, std::int64_t size) {
  return {data, size};
}

}  // namespace rondo::detail
