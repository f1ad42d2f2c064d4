/// \file
/// Matrix products on the tensors of the model: Eigen maps of their memory, never a copy.
#pragma once

#include <rondo/layers.hpp>

#include <Eigen/Core>

#include <cstdint>
#include <type_traits>

namespace train {

template <class T>
using EigenMatrix = Eigen::Matrix<std::remove_const_t<T>, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class T>
using MatrixMap = Eigen::Map<std::conditional_t<std::is_const_v<T>, const EigenMatrix<T>, EigenMatrix<T>>>;

/// A contiguous [rows, columns] tensor as Eigen sees it.
template <class View>
auto matrix(const View& x) {
  using T = typename View::value_type;
  return MatrixMap<T>(x.data(), static_cast<Eigen::Index>(x.extent(0)), static_cast<Eigen::Index>(x.extent(1)));
}

/// A vector as a row.
template <class View>
auto row(const View& x) {
  using T = typename View::value_type;
  using Row = Eigen::Matrix<std::remove_const_t<T>, 1, Eigen::Dynamic>;
  return Eigen::Map<std::conditional_t<std::is_const_v<T>, const Row, Row>>(x.data(),
                                                                            static_cast<Eigen::Index>(x.extent(0)));
}

/// Adds the rows of x to `sums`, one after the other. Eigen's colwise().sum() takes them in an order that depends on where
/// `sums` lies: equal runs would not have equal bits.
template <class View, class Vector>
void add_rows(const View& x, const Vector& sums) {
  const auto rows = matrix(x);
  for (Eigen::Index i = 0; i < rows.rows(); ++i) row(sums) += rows.row(i);
}

}  // namespace train
