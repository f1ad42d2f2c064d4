/// \file
/// Causal attention that is cut off from all other ranks: what the model would know without the ring.
#pragma once

#include <rondo/rondo.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>
#include <string>

namespace train {

/// Query i sees the keys j ≤ i that lie on its own rank. What that leaves depends on the sharding: of contiguous shards
/// the stretch up to i that began with the shard, of striped ones every N-th byte, of zigzag ones two stretches.
class own_rank_only {
 public:
  static constexpr int code = 1001;

  /// \param sharding  contiguous, striped or zigzag
  own_rank_only(const rondo::any_sharding& sharding, int ranks)
      : sharding_(sharding.kind()), ranks_(ranks), tokens_(sharding.total_tokens()) {}

  KOKKOS_FUNCTION bool allows(int /*batch*/, int /*head*/, std::int64_t query, std::int64_t key) const {
    return key <= query && owner(part(query)) == owner(part(key));
  }

  KOKKOS_FUNCTION rondo::Coverage coverage(int batch, int head, const rondo::Run& queries,
                                           const rondo::Run& keys) const {
    const rondo::Coverage below = rondo::causal{}.coverage(batch, head, queries, keys);
    if (below == rondo::Coverage::none) return below;
    if (!in_one_part(queries) || !in_one_part(keys)) return rondo::Coverage::some;
    return owner(part(queries.first)) == owner(part(keys.first)) ? below : rondo::Coverage::none;
  }

  std::int64_t work(int batch, int head, const rondo::Run& queries, const rondo::Run& keys) const {
    std::int64_t pairs = 0;
    for (std::int32_t i = 0; i < queries.count; ++i) {
      for (std::int32_t j = 0; j < keys.count; ++j) pairs += allows(batch, head, queries.at(i), keys.at(j)) ? 1 : 0;
    }
    return pairs;
  }

 private:
  KOKKOS_FUNCTION int parts() const { return sharding_ == rondo::zigzag::code ? 2 * ranks_ : ranks_; }

  /// The stretch of the sequence, or the stripe, that holds a position.
  KOKKOS_FUNCTION std::int64_t part(std::int64_t position) const {
    if (sharding_ == rondo::striped::code) return position % ranks_;
    const std::int64_t share = tokens_ / parts();
    const std::int64_t larger = tokens_ % parts();  // so many parts hold one token more
    const std::int64_t boundary = larger * (share + 1);
    return position < boundary ? position / (share + 1) : larger + (position - boundary) / share;
  }
  KOKKOS_FUNCTION std::int64_t owner(std::int64_t part) const { return part < ranks_ ? part : parts() - 1 - part; }

  KOKKOS_FUNCTION bool in_one_part(const rondo::Run& run) const {
    if (sharding_ == rondo::striped::code) return run.count == 1 || run.stride % ranks_ == 0;
    return part(run.first) == part(run.last());
  }

  int sharding_;
  int ranks_;
  std::int64_t tokens_;
};

static_assert(rondo::Mask<own_rank_only>);

/// What is left to a query, in words.
inline std::string what_is_own(const rondo::any_sharding& sharding, int ranks) {
  if (sharding.kind() == rondo::striped::code) return "every " + std::to_string(ranks) + ". byte before it";
  const bool two = sharding.kind() == rondo::zigzag::code;
  return "the bytes before it in " + std::string(two ? "two stretches" : "one stretch") + " of " +
         std::to_string(sharding.total_tokens() / (two ? 2 * ranks : ranks));
}

}  // namespace train
