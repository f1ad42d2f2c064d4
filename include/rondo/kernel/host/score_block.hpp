/// \file
/// Scores of a register tile, masked: what stands between the two products of the host kernel.
#pragma once

#include <rondo/kernel/host/tile.hpp>
#include <rondo/kernel/score_tile.hpp>
#include <rondo/kernel/state.hpp>

#include <cstdint>
#include <limits>

namespace rondo::host {
inline namespace RONDO_HOST_NAMESPACE {

/// Which keys of a piece each of a block's queries may see: index ranges, worked out once per block of queries. Rows
/// behind the last query see nothing.
template <class Scores>
void find_ranges(const Scores& scores, const Run& queries, const Run& keys, int rows, IndexRange* ranges) {
  for (int row = 0; row < rows; ++row) {
    ranges[row] = row < queries.count ? scores.keys(queries.at(row), keys) : IndexRange{0, 0};
  }
}

/// How inner products become base-2 scores: a factor that is applied where a product is subtracted from anyway, in one
/// rounding with the difference. It must not turn the order of numbers round, nor -inf into NaN, so queries take its sign
/// (or its zero) beforehand. Score functions give base-2 scores already.
template <class A, class Scores>
class ScoreSlope {
 public:
  explicit ScoreSlope(const Scores& scores) : slope_(scores.slope()), sign_(scores.sign()) {}

  /// Gives a row of queries the sign.
  template <class T>
  void prepare(T* query, int head_dim) const {
    if (sign_ == A{1}) return;
    for (int d = 0; d < head_dim; ++d) query[d] = static_cast<T>(static_cast<A>(query[d]) * sign_);
  }

  [[gnu::always_inline]] Vec<A> of(Vec<A> dots) const {
    if constexpr (Scores::plain) {
      return dots * splat(slope_);
    } else {
      return dots;
    }
  }

  /// The base-2 scores less a reference.
  [[gnu::always_inline]] Vec<A> above(Vec<A> dots, Vec<A> reference) const {
    if constexpr (Scores::plain) {
      return dots * splat(slope_) - reference;
    } else {
      return dots - reference;
    }
  }

 private:
  A slope_;
  A sign_;
};

/// One tile of scores on its way from inner products to base-2 scores.
/// `first_row` counts in the block of queries, `first_key` in the piece.
template <class A, class Scores>
struct ScoreBlock {
  const Scores& scores;
  const Run& queries;  ///< of the block
  const Run& keys;     ///< of the piece
  const IndexRange* ranges;

  /// The base-2 scores of one vector of keys for one query.
  [[gnu::always_inline]] Vec<A> base2(Vec<A> dots, int row, std::int64_t key) const {
    if constexpr (Scores::plain) {
      return dots * splat(scores.scale2());
    } else {
      for (int lane = 0; lane < width<A>; ++lane) {
        if (row < queries.count && key + lane < keys.count) {
          dots[lane] = scores.score(dots[lane], queries.at(row), keys.at(key + lane));
        }
      }
      return dots;
    }
  }

  /// The base-2 scores less a row's lse2.
  [[gnu::always_inline]] Vec<A> above(Vec<A> dots, int row, std::int64_t key, A lse2) const {
    if constexpr (Scores::plain) {
      return dots * splat(scores.scale2()) - splat(lse2);
    } else {
      return base2(dots, row, key) - splat(lse2);
    }
  }

  /// d score / d (scale · dot) of one vector of keys for one query, for score functions.
  Vec<A> derivatives(Vec<A> dots, int row, std::int64_t key) const {
    for (int lane = 0; lane < width<A>; ++lane) {
      const bool inside = row < queries.count && key + lane < keys.count;
      dots[lane] = inside ? scores.derivative(dots[lane], queries.at(row), keys.at(key + lane)) : A{0};
    }
    return dots;
  }

  /// What dropout leaves of one vector of keys for one query: 0, or the factor of what is kept.
  Vec<A> weights(int row, std::int64_t key) const {
    Vec<A> weights;
    for (int lane = 0; lane < width<A>; ++lane) {
      weights[lane] = scores.keeps(queries.at(row), keys.at(key + lane)) ? scores.keep_factor() : A{0};
    }
    return weights;
  }

  /// Adds the part of one vector of keys for one query to the gradient of a head's parameters.
  void add_parameters(double* sums, Vec<A> grad_scores, Vec<A> dots, int row, std::int64_t key) const {
    for (int lane = 0; lane < width<A>; ++lane) {
      if (!sees(row, key + lane)) continue;
      scores.add_parameter(sums, grad_scores[lane], dots[lane], queries.at(row), keys.at(key + lane));
    }
  }

  /// All bits set in the lanes whose keys the query may see.
  [[gnu::always_inline]] Ints<A> visible(int row, std::int64_t key) const {
    using Index = std::remove_reference_t<decltype(Ints<A>{}[0])>;
    if constexpr (Scores::has_intervals) {
      const Ints<A> index = lane_numbers<A>() + static_cast<Index>(key);
      return (index >= static_cast<Index>(ranges[row].begin)) & (index < static_cast<Index>(ranges[row].end));
    } else {
      Ints<A> seen{};
      for (int lane = 0; lane < width<A>; ++lane) {
        const bool inside = row < queries.count && key + lane < keys.count;
        seen[lane] = inside && scores.allowed(queries.at(row), keys.at(key + lane)) ? Index{-1} : Index{0};
      }
      return seen;
    }
  }

  bool sees(int row, std::int64_t key) const {
    if (row >= queries.count || key >= keys.count) return false;
    if constexpr (Scores::has_intervals) {
      return ranges[row].begin <= key && key < ranges[row].end;
    } else {
      return scores.allowed(queries.at(row), keys.at(key));
    }
  }

  /// Coverage of rows [row, row + rows) and keys [key, key + count); a tile that reaches beyond the last query or key is
  /// never `all`.
  Coverage coverage(int row, int rows, std::int64_t key, std::int64_t count) const {
    const std::int64_t rows_here = std::min<std::int64_t>(rows, queries.count - row);
    const std::int64_t keys_here = std::min<std::int64_t>(count, keys.count - key);
    if (rows_here <= 0 || keys_here <= 0) return Coverage::none;
    const Coverage inside = scores.coverage(queries.part(row, rows_here), keys.part(key, keys_here));
    return inside == Coverage::all && (rows_here < rows || keys_here < count) ? Coverage::some : inside;
  }
};

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace rondo::host
