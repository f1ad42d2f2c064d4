/// \file
/// The comparisons of RingAttention with the oracle that are made for each storage type.
#pragma once

#include <support/exactness.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace rondo::test {

/// How much of the promise may be used. More than all of it in one case that is known: where the processor multiplies pairs
/// of bfloat16, host_kernel rounds probabilities to bfloat16 for that. In a mean over many independent values this is an
/// error as large as that of rounding the output: √2 of plain arithmetic's in all, and up to 1.53 measured (1799 tokens).
template <class T>
constexpr double allowed = std::is_same_v<T, bfloat16> ? 1.05 : 1;

/// Checks a case over some rings and notes its ratios under the type's name and `kind`.
template <class T, class P>
void check_rings(const Exactness<T, P>& exactness, const std::string& kind, const std::vector<Ring>& rings) {
  const bool is_large = exactness.inputs().extents.tokens > Exactness<T, P>::few_tokens;
  for (const Ring& ring : rings) {
    const ErrorRatios ratios = exactness.of_ring(ring);
    const std::string from = std::to_string(exactness.inputs().extents.tokens) + " tokens, " + text(ring);
    if (is_large) note(std::string(precision_traits<T>::name) + ", " + kind, ratios, from);
    INFO(kind << ", " << from << "\n" << ratios.text());
    CHECK(ratios.of_promise() <= allowed<T>);
  }
}

/// Every layout with every one of some chunks.
inline std::vector<Ring> rings_of(int ranks, const std::vector<std::int64_t>& chunks) {
  std::vector<Ring> rings;
  for (const Layout layout : all_layouts) {
    for (const std::int64_t chunk : chunks) rings.push_back({ranks, layout, chunk});
  }
  return rings;
}

/// Shapes whose error statistics mean something: short sequences come in large batches.
inline Extents extents_for(std::int64_t tokens) {
  if (tokens <= 35) return {.batch = 8, .heads = 4, .kv_heads = 2, .head_dim = 16, .tokens = tokens};
  if (tokens <= 120) return {.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = 16, .tokens = tokens};
  if (tokens <= 800) return {.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 16, .tokens = tokens};
  return {.batch = 1, .heads = 1, .kv_heads = 1, .head_dim = 8, .tokens = tokens};
}

template <class T, class P>
void check_lengths(const P& problem, const std::string& kind) {
  for (const int ranks : {1, 2, 3, 4, 7}) {
    for (const std::int64_t length : {1, 5, 17, 100, 257}) {
      const Exactness<T, P> exactness(extents_for(length * ranks), problem);
      std::vector<std::int64_t> chunks{2 * length / 3 + 1};  // two pieces, of unequal length
      if (length <= 17) chunks.push_back(length);
      if (length <= 5) chunks.push_back(1);
      check_rings(exactness, kind, rings_of(ranks, chunks));
    }
  }
}

template <class T, class P>
void check_uneven_totals(const P& problem, const std::string& kind) {
  for (const int ranks : {2, 3, 4, 7}) {
    for (const std::int64_t tokens : {1, 2, 3, 5, 13, 29, 101}) {
      check_rings(Exactness<T, P>(extents_for(tokens), problem), kind, rings_of(ranks, {1, 4, 4096}));
    }
  }
}

/// Values narrower and wider than keys.
template <class T, class P>
void check_value_dims(const P& problem, const std::string& kind) {
  for (const auto& [head_dim, value_dim] : {std::pair{16, 5}, {8, 40}}) {
    const Extents e{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = head_dim, .tokens = 101, .value_dim = value_dim};
    for (const int ranks : {1, 3, 4}) check_rings(Exactness<T, P>(e, problem), kind, rings_of(ranks, {9, 4096}));
  }
}

template <class T, class P>
void check_peaked(const P& problem, const std::string& kind) {
  for (const std::int64_t tokens : {101, 700}) {
    const Exactness<T, P> exactness(extents_for(tokens), problem, Scores::peaked);
    for (const int ranks : {1, 4, 7}) check_rings(exactness, kind, rings_of(ranks, {53}));
  }
}

}  // namespace rondo::test
