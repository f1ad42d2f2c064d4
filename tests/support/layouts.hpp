/// \file
/// The shardings that rings are tested with, by name.
#pragma once

#include <rondo/sharding/any.hpp>

#include <cstdint>

namespace rondo::test {

enum class Layout { contiguous, striped, zigzag };

inline constexpr Layout all_layouts[] = {Layout::contiguous, Layout::striped, Layout::zigzag};

inline const char* name(Layout layout) {
  return layout == Layout::contiguous ? "contiguous" : layout == Layout::striped ? "striped" : "zigzag";
}

inline any_sharding sharding_of(Layout layout, std::int64_t tokens) {
  return any_sharding::named(name(layout), tokens);
}

}  // namespace rondo::test
