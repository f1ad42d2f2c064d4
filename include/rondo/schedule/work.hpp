/// \file
/// How much each rank has to do in each step of a forward pass, and what it sends: from the schedule, the sharding and the
/// mask alone.
#pragma once

#include <rondo/mask/concept.hpp>
#include <rondo/schedule/ring.hpp>
#include <rondo/schedule/share.hpp>
#include <rondo/schedule/skipping_ring.hpp>
#include <rondo/sharding/cross.hpp>
#include <rondo/sharding/shard_table.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

namespace rondo::schedule {

/// Work is the number of allowed (query, key) pairs, over all batch entries and heads. A hop is what the ranks do between two
/// moves of whole shards; a step of the ring is the part of it that is done with one piece of each.
struct WorkReport {
  int ranks = 0;
  std::vector<std::vector<std::int64_t>> step;  ///< [step][rank]
  std::vector<std::vector<std::int64_t>> hop;   ///< [hop][rank]: with the shard of the rank that is so many hops back
  std::vector<std::int64_t> tokens_sent;        ///< [rank]: keys and values, counted as often as they are sent

  std::int64_t total() const {
    std::int64_t sum = 0;
    for (const auto& row : hop) sum = std::accumulate(row.begin(), row.end(), sum);
    return sum;
  }
  double mean() const { return static_cast<double>(total()) / ranks; }

  /// Σ over the hops of the slowest rank's work, over the mean: 1 is perfect balance. What counts where a rank may be a piece
  /// ahead of its neighbours.
  double imbalance() const { return slowest(hop) / mean(); }
  /// The same over the single steps: what counts where all ranks wait for each other after every piece.
  double imbalance_of_steps() const { return slowest(step) / mean(); }

 private:
  static double slowest(const std::vector<std::vector<std::int64_t>>& rows) {
    double sum = 0;
    for (const auto& row : rows) sum += static_cast<double>(*std::max_element(row.begin(), row.end()));
    return sum;
  }
};

/// Allowed pairs of some runs of queries and a run of keys.
template <Mask M, class Runs>
std::int64_t allowed_pairs(const M& mask, int batch, int heads, const Runs& queries, const Run& keys) {
  const int different_heads = same_for_all_heads<M> ? 1 : heads;
  std::int64_t sum = 0;
  for (const Run& run : queries) {
    for (int b = 0; b < batch; ++b) {
      for (int h = 0; h < different_heads; ++h) sum += mask.work(b, h, run, keys);
    }
  }
  return sum * (heads / different_heads);
}

/// Allowed pairs of a rank's share of its own queries and a piece.
template <Mask M>
std::int64_t allowed_pairs(const M& mask, int batch, int heads, const ShardTable& queries, int rank, QueryShare share,
                           const Piece& keys) {
  std::int64_t work = 0;
  for_share(queries, rank, share, [&](const Run& run, std::int64_t /*row*/) {
    for (const Part& part : keys.parts()) work += allowed_pairs(mask, batch, heads, std::array{run}, part.tokens);
  });
  return work;
}

/// The report of a forward pass. \param chunk  tokens of a piece, as in Options
template <AttentionSharding S, Mask M>
WorkReport work_report(const S& sharding, int ranks, const M& mask, int batch = 1, int heads = 1,
                       std::int64_t chunk = std::numeric_limits<std::int32_t>::max()) {
  const ShardTable queries = detail::query_table(sharding, ranks);
  const ShardTable table = detail::key_table(sharding, ranks);
  WorkReport report;
  report.ranks = ranks;
  const auto count = static_cast<std::size_t>(ranks);
  report.hop.assign(count, std::vector<std::int64_t>(count, 0));
  report.tokens_sent.assign(count, 0);
  for (int rank = 0; rank < ranks; ++rank) {
    SkippingRing skipping;
    skipping.update(rank, queries, table, mask, batch, heads, chunk);
    const bool skips = !skipping.needs().all();
    const Ring ring(rank, ranks, table.most_pieces(chunk));
    const std::int64_t steps = skips ? skipping.forward_steps() : ring.forward_steps();
    report.step.resize(static_cast<std::size_t>(steps), std::vector<std::int64_t>(count, 0));
    for (std::int64_t index = 0; index < steps; ++index) {
      const Step at = skips ? skipping.forward(index) : ring.forward(index);
      const Piece keys = table.piece(at.owner, at.piece, chunk);
      const auto of = static_cast<std::size_t>(rank);
      if (at.send_to >= 0) report.tokens_sent[of] += keys.tokens();
      if (!at.computes) continue;
      const auto back = static_cast<std::size_t>((rank + ranks - at.owner) % ranks);
      const std::int64_t work = allowed_pairs(mask, batch, heads, queries, rank, at.queries, keys);
      report.step[static_cast<std::size_t>(index)][of] += work;
      report.hop[back][of] += work;
    }
  }
  return report;
}

}  // namespace rondo::schedule
