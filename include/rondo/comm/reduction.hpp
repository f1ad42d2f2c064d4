/// \file
/// The arithmetic of all_reduce, the same in every communicator.
#pragma once

#include <rondo/comm/concept.hpp>

#include <cstddef>

namespace rondo::detail {

/// Combines `values` into `total`, element by element.
template <class T>
void combine(T* total, const T* values, std::size_t count, Reduction reduction) {
  for (std::size_t i = 0; i < count; ++i) {
    if (reduction == Reduction::sum) {
      total[i] += values[i];
    } else if (reduction == Reduction::minimum ? values[i] < total[i] : total[i] < values[i]) {
      total[i] = values[i];
    }
  }
}

}  // namespace rondo::detail
