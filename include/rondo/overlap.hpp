/// \file
/// The check that an output shares no memory with another tensor.
#pragma once

#include <rondo/error.hpp>

#include <cstddef>
#include <functional>
#include <initializer_list>
#include <utility>

namespace rondo::detail {

/// Throws argument_error when the memory between the first and the last element of `output` meets that of another
/// tensor. `names` are the others' names, in their order.
template <class Output, class... Others>
void check_separate(const char* output_name, const Output& output, std::initializer_list<const char*> names,
                    const Others&... others) {
  // Not span(): of Views with strides some versions of Kokkos count to the end of the last stride.
  const auto bytes = [](const auto& x) {
    std::size_t last = 0;
    for (std::size_t axis = 0; axis < x.rank(); ++axis) {
      if (x.extent(axis) > 0) last += (x.extent(axis) - 1) * x.stride(axis);
    }
    const auto* begin = reinterpret_cast<const std::byte*>(x.data());
    return std::pair{begin, begin + (last + 1) * sizeof(*x.data())};
  };
  const auto [begin, end] = bytes(output);
  const auto* name = names.begin();
  const auto check = [&, begin = begin, end = end](const auto& other) {
    const auto [other_begin, other_end] = bytes(other);
    if (output.size() > 0 && other.size() > 0 && std::less<>{}(begin, other_end) && std::less<>{}(other_begin, end)) {
      throw argument_error(message(output_name, " shares memory with ", *name, ": outputs need memory of their own"));
    }
    ++name;
  };
  (check(others), ...);
}

}  // namespace rondo::detail
