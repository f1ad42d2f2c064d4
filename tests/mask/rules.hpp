/// \file
/// A mask against a rule of pairs: what it allows, its coverage, its work, over all pairs of some runs.
#pragma once

#include "brute_force.hpp"

#include <rondo/error.hpp>
#include <rondo/mask/concept.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace mask_test {

inline std::string text(const Run& run) {
  return std::to_string(run.count) + " from " + std::to_string(run.first) + " by " + std::to_string(run.stride);
}

/// What it is refused with, or nothing.
template <class F>
std::string refusal_of(const F& f) {
  try {
    f();
    return {};
  } catch (const rondo::argument_error& refusal) {
    return refusal.what();
  }
}

/// \param exact  exact(queries, keys): where `some` is wrong if the tile has nothing or everything
/// \param end    positions that are asked one by one; runs must lie below it
template <class M, class Rule, class Exact>
void check_mask(const M& mask, const Rule& rule, const std::vector<Run>& runs, const Exact& exact, std::int64_t end,
                int batch = 0, int head = 0) {
  using rondo::Coverage;
  for (std::int64_t i = 0; i < end; ++i) {
    for (std::int64_t j = 0; j < end; ++j) {
      if (rondo::allows(mask, batch, head, i, j) != rule(i, j)) FAIL("query " << i << ", key " << j);
    }
  }
  std::int64_t decided = 0;
  for (const Run& queries : runs) {
    for (const Run& keys : runs) {
      const Count count = count_pairs(queries, keys, rule);
      const Coverage given = mask.coverage(batch, head, queries, keys);
      const bool right = given == count.coverage() || (given == Coverage::some && !exact(queries, keys));
      const std::int64_t work = mask.work(batch, head, queries, keys);
      if (!right || work != count.allowed) {
        FAIL("queries " << text(queries) << ", keys " << text(keys) << ": coverage " << static_cast<int>(given)
                        << " and work " << work << ", needed are " << static_cast<int>(count.coverage()) << " and "
                        << count.allowed);
      }
      decided += given != Coverage::some;
    }
  }
  CHECK(decided > 0);
}

}  // namespace mask_test
