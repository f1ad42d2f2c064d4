/// \file
/// Cross attention: queries of one sequence, keys and values of another, each sharded in its own way.
#pragma once

#include <rondo/sharding/concept.hpp>
#include <rondo/sharding/shard_table.hpp>

namespace rondo {

/// Takes the place of a sharding: how the queries (q, out, lse) are cut, and how the keys and values. Positions count from
/// the beginning of each sequence: under causal{}, query i sees the keys j ≤ i of the other one.
template <Sharding Queries, Sharding Keys>
struct cross {
  Queries queries;
  Keys keys;
  static constexpr int code = 100000 + 1009 * Queries::code + Keys::code;
};

template <class Queries, class Keys>
cross(Queries, Keys) -> cross<Queries, Keys>;

namespace detail {

template <class S>
inline constexpr bool is_cross = false;
template <class Queries, class Keys>
inline constexpr bool is_cross<cross<Queries, Keys>> = true;

}  // namespace detail

/// A sharding, of queries, keys and values alike, or two of them.
template <class S>
concept AttentionSharding = Sharding<S> || detail::is_cross<S>;

namespace detail {

/// Which queries every rank holds.
template <AttentionSharding S>
ShardTable query_table(const S& sharding, int ranks) {
  if constexpr (is_cross<S>) {
    return ShardTable(sharding.queries, ranks);
  } else {
    return ShardTable(sharding, ranks);
  }
}

/// Which keys and values every rank holds.
template <AttentionSharding S>
ShardTable key_table(const S& sharding, int ranks) {
  if constexpr (is_cross<S>) {
    return ShardTable(sharding.keys, ranks);
  } else {
    return ShardTable(sharding, ranks);
  }
}

}  // namespace detail
}  // namespace rondo
