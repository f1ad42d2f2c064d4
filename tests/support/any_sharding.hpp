/// \file
/// The shardings as one type that is chosen at run time: one instantiation of what is tested instead of three.
#pragma once

#include <rondo/sharding/contiguous.hpp>
#include <rondo/sharding/striped.hpp>
#include <rondo/sharding/zigzag.hpp>

#include <cstdint>
#include <vector>

namespace rondo::test {

enum class Layout { contiguous, striped, zigzag };

inline constexpr Layout all_layouts[] = {Layout::contiguous, Layout::striped, Layout::zigzag};

inline const char* name(Layout layout) {
  return layout == Layout::contiguous ? "contiguous" : layout == Layout::striped ? "striped" : "zigzag";
}

struct any_sharding {
  std::int64_t tokens = 0;
  Layout layout = Layout::contiguous;
  static constexpr int code = 1000;

  std::int64_t total_tokens() const { return tokens; }

  std::vector<Run> runs(int rank, int ranks) const {
    switch (layout) {
      case Layout::striped:
        return striped{tokens}.runs(rank, ranks);
      case Layout::zigzag:
        return zigzag{tokens}.runs(rank, ranks);
      default:
        return contiguous{tokens}.runs(rank, ranks);
    }
  }
};

static_assert(Sharding<any_sharding>);

}  // namespace rondo::test
