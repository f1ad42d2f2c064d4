/// \file
/// The comparisons of a kernel with the oracle that are made for every storage type.
#pragma once

#include <kernel/kernel.hpp>

#include <cstdint>
#include <string>
#include <utility>

namespace rondo::test {

/// Every kind of head_dim: a single element, less than a vector, whole vectors, a rest behind them.
inline constexpr int head_dims[] = {1, 3, 8, 20, 32, 64, 80, 128, 160, 256};

template <class T, class P>
void check_head_dims(const P& problem, const std::string& kind, const std::vector<Cut>& cuts) {
  for (const int head_dim : head_dims) {
    const Extents extents{
        .batch = head_dim > 64 ? 1 : 2, .heads = 4, .kv_heads = 2, .head_dim = head_dim, .tokens = 131};
    check_cuts(Exactness<T, P>(extents, problem), kind, cuts);
  }
}

/// Values narrower and wider than keys: by vectors, by less, and by so much that blocks change their sizes.
template <class T, class P>
void check_value_dims(const P& problem, const std::string& kind, const std::vector<Cut>& cuts) {
  for (const auto& [head_dim, value_dim] : {std::pair{1, 7}, {20, 3}, {24, 64}, {64, 16}, {192, 128}, {12, 256}}) {
    const Extents extents{
        .batch = 1, .heads = 4, .kv_heads = 2, .head_dim = head_dim, .tokens = 131, .value_dim = value_dim};
    check_cuts(Exactness<T, P>(extents, problem), kind, cuts);
  }
}

template <class T, class P>
void check_lengths(const P& problem, const std::string& kind) {
  for (const std::int64_t tokens : {1, 2, 5, 16, 33}) {
    check_cuts(Exactness<T, P>({.batch = 8, .heads = 4, .kv_heads = 1, .head_dim = 16, .tokens = tokens}, problem),
               kind, cuts());
  }
}

/// More tokens than a kernel keeps in cache at a time.
template <class T, class P>
void check_blocks(const P& problem, const std::string& kind) {
  for (const auto& [head_dim, tokens] : {std::pair{20, 820}, std::pair{256, 410}}) {
    check_cuts(
        Exactness<T, P>({.batch = 1, .heads = 1, .kv_heads = 1, .head_dim = head_dim, .tokens = tokens}, problem), kind,
        {{}, {.queries = 300, .keys = 310, .threads = 2}});
  }
  check_cuts(Exactness<T, P>({.batch = 1, .heads = 1, .kv_heads = 1, .head_dim = 20, .tokens = 410, .value_dim = 192},
                             problem),
             kind, {{.queries = 300, .keys = 310, .threads = 2}});
}

}  // namespace rondo::test
