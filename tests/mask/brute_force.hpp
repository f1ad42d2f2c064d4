/// \file
/// What masks are compared with: every pair of a tile asked one by one, and all small runs there are.
#pragma once

#include <rondo/mask/concept.hpp>

#include <cstdint>
#include <vector>

namespace mask_test {

using rondo::Run;

/// Pairs (query, key) of a tile that `rule(query, key)` allows, and pairs that there are.
struct Count {
  std::int64_t allowed = 0;
  std::int64_t pairs = 0;

  /// The sharpest coverage: `none` for a tile without an allowed pair, the empty one among them.
  rondo::Coverage coverage() const {
    if (allowed == 0) return rondo::Coverage::none;
    return allowed == pairs ? rondo::Coverage::all : rondo::Coverage::some;
  }
};

/// Positions of a run, by its definition.
inline std::vector<std::int64_t> positions(const Run& run) {
  std::vector<std::int64_t> result;
  for (std::int64_t position = run.first; static_cast<std::int32_t>(result.size()) < run.count; position += run.stride) {
    result.push_back(position);
  }
  return result;
}

template <class Rule>
Count count_pairs(const Run& queries, const Run& keys, const Rule& rule) {
  Count count;
  const auto key_positions = positions(keys);
  for (const std::int64_t query : positions(queries)) {
    for (const std::int64_t key : key_positions) {
      ++count.pairs;
      count.allowed += rule(query, key) ? 1 : 0;
    }
  }
  return count;
}

/// Every run with first in [0, firsts), stride in [1, strides] and count in [0, counts].
inline std::vector<Run> small_runs(std::int64_t firsts, std::int64_t strides, std::int32_t counts) {
  std::vector<Run> runs;
  for (std::int64_t first = 0; first < firsts; ++first) {
    for (std::int64_t stride = 1; stride <= strides; ++stride) {
      for (std::int32_t count = 0; count <= counts; ++count) runs.push_back({first, stride, count});
    }
  }
  return runs;
}

}  // namespace mask_test
