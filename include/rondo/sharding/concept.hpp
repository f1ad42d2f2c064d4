/// \file
/// The Sharding concept: which tokens of the sequence each rank holds, and in what order.
#pragma once

#include <rondo/sharding/run.hpp>

#include <concepts>
#include <cstdint>
#include <vector>

namespace rondo {

/// A sharding says how a sequence of `total_tokens()` tokens is cut over any number of ranks. `runs(rank, ranks)` lists
/// the tokens of one rank in the order in which that rank stores them; a rank may hold none. Over all ranks every
/// token stands in exactly one run. Two ranks that must agree compare `code`, a number for each kind of sharding.
template <class S>
concept Sharding = std::copyable<S> && requires(const S& sharding, int rank, int ranks) {
  { sharding.total_tokens() } -> std::convertible_to<std::int64_t>;
  { sharding.runs(rank, ranks) } -> std::same_as<std::vector<Run>>;
  { S::code } -> std::convertible_to<int>;
};

namespace detail {

/// First index of part `part` when `total` things are cut into `parts` as evenly as can be, larger parts first.
constexpr std::int64_t even_cut(std::int64_t total, std::int64_t parts, std::int64_t part) {
  const std::int64_t share = total / parts;
  const std::int64_t larger = total % parts;
  return part * share + (part < larger ? part : larger);
}

}  // namespace detail
}  // namespace rondo
