/// \file
/// A run: evenly spaced tokens of the whole sequence, the unit in which ranks hold it.
#pragma once

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo {

/// The tokens first, first + stride, ..., `count` of them.
struct Run {
  std::int64_t first = 0;
  std::int64_t stride = 1;
  std::int32_t count = 0;

  /// Position in the whole sequence of the index-th token.
  KOKKOS_FUNCTION constexpr std::int64_t at(std::int64_t index) const { return first + stride * index; }
  /// Position of the last token. Only for runs that are not empty.
  KOKKOS_FUNCTION constexpr std::int64_t last() const { return at(count - 1); }
  /// Tokens [begin, begin + length) of this run, as a run.
  KOKKOS_FUNCTION constexpr Run part(std::int64_t begin, std::int64_t length) const {
    return {at(begin), stride, static_cast<std::int32_t>(length)};
  }
  friend constexpr bool operator==(const Run&, const Run&) = default;
};

}  // namespace rondo
