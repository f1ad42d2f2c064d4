/// \file
/// Forward pass of the host kernel: a block of queries against a piece, in register tiles.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/host/exp2.hpp>
#include <rondo/kernel/host/rows.hpp>
#include <rondo/kernel/host/score_block.hpp>
#include <rondo/kernel/host/wire.hpp>
#include <rondo/kernel/host/work.hpp>

#include <algorithm>
#include <cstdint>

namespace rondo::host {
inline namespace RONDO_HOST_NAMESPACE {

/// Most keys whose scores stay in the first-level cache with a group of queries.
inline constexpr int key_block = 256;
/// Most queries of a block.
inline constexpr int most_queries = 192;

/// Queries of a block: as many as leave most of 1 MiB of second-level cache to the keys and values that pass, or half of a
/// smaller one.
template <class T, class A>
constexpr int query_block(const Shape& shape) {
  constexpr int step = in_tiles<T> ? 96 : 48;  // whole groups of rows
  static_assert(step % tile_rows == 0 && most_queries % step == 0);
  constexpr int bytes = std::min(1 << 18, cache_bytes / 2);
  const int fitting =
      bytes / (static_cast<int>(sizeof(A)) * (padded_dim<A>(shape.head_dim) + padded_dim<A>(shape.value_dim)));
  return std::clamp(fitting / step * step, step, most_queries);
}

/// A block of queries of one head: rows [row, row + count) of a query run.
struct QueryRows {
  int b = 0;
  int head = 0;
  std::int64_t row = 0;
  int count = 0;
};

/// Where rows that see no further keys end up.
template <class T, class A, class Space>
struct Outputs {
  const Tensor<T, 4, Space>& out;
  const Tensor<A, 3, Space>& lse;
  Base2<A> base2;

  /// out = acc / l, rounded once; lse = m + ln l in natural units, both with the sink. A row that saw no key and has none: 0
  /// and -inf.
  template <ProblemType P>
  void write(const P& problem, int b, std::int64_t row, int head, A m, A l, const Row<const A>& acc) const {
    const Finished<A> sums = finished(problem, base2, head, m, l);
    divide_row<A>(row_of(out, b, row, head), acc, sums.divisor);
    lse(b, head, row) = sums.lse;
  }
};

/// m' = max(m, max s);  acc' = acc·2^(m - m') + Σ 2^(s - m')·v;  l likewise, block of keys by block of keys. One call
/// folds a whole piece into the state of one block of queries of one head.
template <class T, class A, ProblemType P, class Space>
class ForwardBlock {
 public:
  using Scores = ScoreTile<P, A>;
  /// What is multiplied: the stored type where the processor takes it as it is, else the accumulate type.
  using Operand = std::conditional_t<depth_step<T> == 1, A, T>;
  /// Whether keys and values are widened first, a block at a time.
  static constexpr bool widened = !std::is_same_v<T, Operand>;
  /// Whether probabilities are narrower than scores.
  static constexpr bool narrow_p = !std::is_same_v<A, Operand>;

  /// Queries whose scores are computed together: the rows of a register tile, or of two AMX tiles.
  static constexpr int group_rows = in_tiles<Operand> ? 2 * 16 : tile_rows;

  /// Keys of a block: of those that are widened as many as let scratch memory fit the cache.
  static int keys_at_once(const Shape& shape) {
    int keys = key_block;
    while (widened && keys > panel<A> && scratch_bytes(shape, keys) > cache_bytes) keys /= 2;
    return keys;
  }

  static std::size_t scratch_bytes(const Shape& shape) { return scratch_bytes(shape, keys_at_once(shape)); }

  static std::size_t scratch_bytes(const Shape& shape, int keys) {
    const int rows = query_block<T, A>(shape);
    const int block = widened ? keys : 0;
    return Scratch::bytes<Operand>(rows * depth_dim<T>(shape.head_dim)) +
           Scratch::bytes<A>(rows * column_dim<T, A>(shape.value_dim)) + Scratch::bytes<A>(group_rows * key_block) +
           Scratch::bytes<Operand>(narrow_p ? group_rows * key_block : 0) +
           Scratch::bytes<A>(in_tiles<Operand> ? group_rows * column_dim<T, A>(shape.value_dim) : 0) +
           Scratch::bytes<A>(block * shape.head_dim) + Scratch::bytes<A>(block * column_dim<T, A>(shape.value_dim)) +
           Scratch::bytes<Vec<A>>(rows) + Scratch::bytes<A>(rows / group_rows * group_lanes) +
           Scratch::bytes<IndexRange>(rows);
  }

  /// \param queries  the whole run, of which `mine` are folded
  ForwardBlock(const P& problem, const Shape& shape, const QueryRows& mine, const Run& queries, const Run& keys,
               const WireLayout<T, A>& layout, std::byte* wire, Scratch scratch)
      : problem_(problem),
        shape_(shape),
        mine_(mine),
        queries_(queries.part(mine.row, mine.count)),
        keys_(keys),
        layout_(layout),
        wire_(wire),
        scores_(problem, mine.b, mine.head),
        block_{scores_, queries_, keys_, nullptr},
        slope_(scores_),
        rows_(query_block<T, A>(shape)),
        block_keys_(keys_at_once(shape)) {
    const int kv_head = mine.head / (shape.heads / shape.kv_heads);
    k_ = layout.key_panels(wire, mine.b, kv_head);
    v_ = layout.columns(wire, mine.b, kv_head);
    flags_ = layout.flags(wire, mine.b, kv_head);
    columns_ = column_dim<T, A>(shape.value_dim);
    depth_ = depth_dim<T>(shape.head_dim);
    q_ = scratch.array<Operand>(rows_ * depth_);
    acc_ = scratch.array<A>(rows_ * columns_);
    s_ = scratch.array<A>(group_rows * key_block);
    if constexpr (narrow_p) {
      p_ = scratch.array<Operand>(group_rows * key_block);
    } else {
      p_ = s_;
    }
    if constexpr (in_tiles<Operand>) products_ = scratch.array<A>(group_rows * columns_);
    if constexpr (widened) {
      wide_keys_ = scratch.array<A>(block_keys_ * shape.head_dim);
      wide_values_ = scratch.array<A>(block_keys_ * columns_);
    }
    l_ = scratch.array<Vec<A>>(rows_);
    m_ = scratch.array<A>(rows_ / group_rows * group_lanes);
    ranges_ = scratch.array<IndexRange>(rows_);
    block_.ranges = ranges_;
  }

  /// \param q, state, outputs  whole tensors of the query run
  /// \param upcoming  the rows that the thread probably folds next: they and their first keys are asked for while it
  ///                  folds the last keys of these
  /// \param outputs   where these rows are finished, or null: they go back to the state
  void fold(const Tensor<const T, 4, Space>& q, const SoftmaxState<A, Space>& state, bool first,
            const QueryRows& upcoming, const Outputs<T, A, Space>* outputs) {
    if (!first && outputs == nullptr && scores_.coverage(queries_, keys_) == Coverage::none) return;
    [[maybe_unused]] const TileUnit<Operand> unit;
    load(q, state, first);
    find_ranges(scores_, queries_, keys_, rows_, ranges_);
    const auto fetch_rows = [&](int row, int column) RONDO_INLINE_LAMBDA {
      fetch<true>(state.acc, mine_, row, column, shape_.value_dim);
      fetch<false>(q, upcoming, row, column, shape_.head_dim);
      if (!first) fetch<false>(state.acc, upcoming, row, column, shape_.value_dim);
    };
    const auto fetch_nothing = [](int, int) RONDO_INLINE_LAMBDA {};
    Block next = block_at(0);
    while (next.coverage == Coverage::none && next.key < keys_.count) next = block_at(next.key + block_keys());
    const Ahead last_ahead = first_keys(upcoming, next);
    while (next.key < keys_.count) {
      const Block block = next;
      next = block_at(block.key + block_keys());
      if (block.coverage == Coverage::none) continue;
      if (next.coverage == Coverage::none) {
        fold_keys(block, last_ahead, fetch_rows);
      } else {
        fold_keys(block, {k_, v_, next.key, next.count}, fetch_nothing);
      }
    }
    if (outputs == nullptr) {
      store(state);
    } else {
      finish(*outputs);
    }
  }

 private:
  /// m, and what else there is one of per row, lies in whole vectors for each group of rows.
  static constexpr int group_lanes = round_up(group_rows, width<A>);

  /// Columns [begin, end) of the score block that a group of rows has something to see in.
  struct Columns {
    int begin = 0, end = 0;
  };

  /// What the rest of a group's rows need of its scores: the largest of each row, in every lane's share.
  struct Largest {
    Vec<A> of[group_lanes];
  };
  /// By how much each row's sums shrink as its maximum moves.
  struct Factors {
    alignas(64) A of[group_lanes];
  };

  int block_keys() const { return widened ? block_keys_ : key_block; }

  /// Keys from `key` on, whole panels of them.
  struct Block {
    std::int64_t key;
    int count;
    Coverage coverage;
  };

  Block block_at(std::int64_t key) const {
    const std::int64_t count = std::min<std::int64_t>(block_keys(), layout_.padded_tokens() - key);
    const std::int64_t real = std::min<std::int64_t>(count, keys_.count - key);
    return {key, static_cast<int>(count), real > 0 ? block_.coverage(0, queries_.count, key, real) : Coverage::none};
  }

  /// Keys and values to ask for early: a head's panels and columns, and which of their tokens.
  struct Ahead {
    const T* k;
    const T* v;
    std::int64_t token;
    std::int64_t count;

    /// One of several equal shares.
    Ahead share(int index, int shares) const {
      const std::int64_t begin = count * index / shares;
      return {k, v, token + begin, count * (index + 1) / shares - begin};
    }
  };

  /// The keys that other rows see first, if they see what these do.
  Ahead first_keys(const QueryRows& rows, const Block& block) const {
    const int kv_head = rows.head / (shape_.heads / shape_.kv_heads);
    return {layout_.key_panels(wire_, rows.b, kv_head), layout_.columns(wire_, rows.b, kv_head), block.key,
            rows.count > 0 && block.key < keys_.count ? block.count : 0};
  }

  /// \param ahead  keys to ask for meanwhile
  /// \param fetch_more  called with a group's first row and a panel's first column, for what else to ask for
  template <class F>
  void fold_keys(const Block& block, const Ahead& ahead, const F& fetch_more) {
    const std::int64_t key = block.key;
    if constexpr (widened) widen(key, block.count);
    const int groups = (static_cast<int>(queries_.count) + group_rows - 1) / group_rows;
    for (int group = 0; group < groups; ++group) {
      const int row = group * group_rows;
      const Ahead share = ahead.share(group, groups);
      Largest largest;
      const auto fetch_for_panel = [&](int column) RONDO_INLINE_LAMBDA {
        fetch_keys(share, column);
        fetch_more(row, column);
      };
      const Columns seen = score(row, key, block.count, block.coverage, fetch_for_panel, largest);
      if (seen.begin == seen.end) continue;
      const Factors factors = move_maxima(m_ + group * group_lanes, largest);
      exponentiate(group, seen, factors);
      if constexpr (Scores::drops) drop(row, key, seen);
      accumulate(row, key, seen, share, factors);
    }
  }

  /// Asks for a panel's share of a group of rows in a tensor [batch, sequence, heads, count].
  template <bool Written, class X>
  [[gnu::always_inline]] void fetch(const X& x, const QueryRows& rows, int row, int column, int count) const {
    const int lines = lines_of<typename X::value_type>(count);
    const int begin = lines * column / block_keys(), end = lines * (column + panel<A>) / block_keys();
    if (begin == end) return;
    for (int r = row; r < std::min(row + group_rows, rows.count); ++r) {
      fetch_row<Written>(x, rows.b, rows.row + r, rows.head, begin, end);
    }
  }

  /// Asks for a panel's share of the keys ahead, which then lie in the second-level cache.
  [[gnu::always_inline]] void fetch_keys(const Ahead& ahead, int column) const {
    const std::int64_t elements = ahead.count * depth_;
    const std::int64_t begin = elements * column / block_keys();
    prefetch(ahead.k + layout_.panel_at(ahead.token) + begin, elements * (column + panel<A>) / block_keys() - begin);
  }
  /// Likewise for values, in the tile that starts at d.
  [[gnu::always_inline]] void fetch_values(const Ahead& ahead, int d, int stride) const {
    prefetch(ahead.v + layout_.column_tile(d) + ahead.token * stride, ahead.count * stride);
  }

  /// Inner products (of score functions: base-2 scores) of one group of rows, and the largest of each row.
  template <class F>
  Columns score(int row, std::int64_t key, int count, Coverage block_coverage, const F& fetch_for_panel,
                Largest& largest) {
    for (Vec<A>& x : largest.of) x = splat(nothing());
    Columns seen{count, 0};
    const bool whole =
        block_coverage == Coverage::all && key + count <= keys_.count && row + group_rows <= queries_.count;
    const auto coverage_of = [&](int column) {
      return whole ? Coverage::all : block_.coverage(row, group_rows, key + column, panel<A>);
    };
    if constexpr (in_tiles<Operand>) {
      // All of them before the first is looked at: they take long to come out of the tiles.
      for (int column = 0; column < count; column += panel<A>) {
        if (coverage_of(column) == Coverage::none) continue;
        AmxSums<Operand, 2> sums;
        sums.add(q_ + row * depth_, depth_, keys_at(key, column), panel<A>, depth_);
        sums.store(s_ + column, key_block);
      }
    }
    for (int column = 0; column < count; column += panel<A>) {
      fetch_for_panel(column);
      const Coverage coverage = coverage_of(column);
      if (coverage == Coverage::all) {
        score_tile<2, false>(row, key, column, largest);
        seen = {std::min(seen.begin, column), column + panel<A>};
      } else if (coverage == Coverage::none) {
        hide(column, panel<A>);
      } else if (block_.coverage(row, group_rows, key + column + width<A>, width<A>) == Coverage::none) {
        score_tile<1, true>(row, key, column, largest);
        hide(column + width<A>, width<A>);
        seen = {std::min(seen.begin, column), column + (in_tiles<Operand> ? panel<A> : width<A>)};
      } else {
        score_tile<2, true>(row, key, column, largest);
        seen = {std::min(seen.begin, column), column + panel<A>};
      }
    }
    return seen.end == 0 ? Columns{} : seen;
  }

  void hide(int column, int count) {
    for (int r = 0; r < group_rows; ++r) std::fill_n(s_ + r * key_block + column, count, nothing());
  }

  /// \tparam Vectors  of keys, from the beginning of a panel
  template <int Vectors, bool Masked>
  [[gnu::always_inline]] void score_tile(int row, std::int64_t key, int column, Largest& largest) {
    A* const to = s_ + column;
    const auto keep = [&](const auto& dots) RONDO_INLINE_LAMBDA {
      unrolled<group_rows>([&](auto r) RONDO_INLINE_LAMBDA {
        Vec<A> here;
        unrolled<Vectors>([&](auto half) RONDO_INLINE_LAMBDA {
          Vec<A> s = dots(r, half);
          if constexpr (!Scores::plain) s = block_.base2(s, row + r, key + column + half * width<A>);
          if constexpr (Masked) s = block_.visible(row + r, key + column + half * width<A>) ? s : splat(nothing());
          if constexpr (!in_tiles<Operand> || !Scores::plain || Masked) {  // else it is there already
            rondo::host::store(to + r * key_block + half * width<A>, s);
          }
          here = half == 0 ? s : maximum<A>(s, here);
        });
        largest.of[r] = maximum<A>(here, largest.of[r]);
      });
    };
    if constexpr (in_tiles<Operand>) {
      keep([&](auto r, auto half)
               RONDO_INLINE_LAMBDA { return rondo::host::load<A>(to + r * key_block + half * width<A>); });
    } else {
      Sums<A, Vectors> sums;
      clear(sums);
      multiply(sums, q_ + row * depth_, depth_, 1, keys_at(key, column), panel<A>, depth_);
      keep([&](auto r, auto half) RONDO_INLINE_LAMBDA { return sums.at[r][half]; });
    }
  }

  /// m' = max(m, max s) of a group of rows; returns 2^(m - m').
  Factors move_maxima(A* m, Largest& largest) const {
    Factors factors;
    for (int lane = 0; lane < group_lanes; lane += width<A>) {
      const Vec<A> here = slope_.of(largest_of_rows<A>(largest.of + lane));
      const Vec<A> before = rondo::host::load<A>(m + lane);
      const Vec<A> now = maximum<A>(here, before);
      rondo::host::store(m + lane, now);
      rondo::host::store(factors.of + lane, exp2_of<A, true>(before - finite(now)));
    }
    return factors;
  }

  /// Scores of a group become 2^(s - m'), and l moves on. acc follows in accumulate, by the factors.
  void exponentiate(int group, Columns seen, const Factors& factors) {
    alignas(64) A references[group_lanes];
    for (int lane = 0; lane < group_lanes; lane += width<A>) {
      rondo::host::store(references + lane, finite(rondo::host::load<A>(m_ + group * group_lanes + lane)));
    }
    exponentiate_rows(s_, p_, slope_, references, factors, seen, l_ + group * group_rows);
  }

  /// A function of its own, so that its constants and nothing else are in registers.
  [[gnu::noinline]] static void exponentiate_rows(const A* s, Operand* p, ScoreSlope<A, Scores> slope,
                                                  const A* references, const Factors& factors, Columns seen,
                                                  Vec<A>* l) {
    for (int r = 0; r < group_rows; ++r) {
      const A* const row = s + r * key_block;
      Operand* const target = p + r * key_block;
      const Vec<A> reference = splat(references[r]);
      Vec<A> sum = l[r] * splat(factors.of[r]);
      for (int column = seen.begin; column < seen.end; column += width<A>) {
        const Vec<A> x = exp2_of<A, true>(slope.above(rondo::host::load<A>(row + column), reference));
        store_or_flush<A>(target + column, x);
        sum += x;
      }
      l[r] = sum;
    }
  }

  /// Probabilities that dropout takes become 0; l keeps them.
  void drop(int row, std::int64_t key, Columns seen) {
    const Operand dropped = static_cast<Operand>(A{0});
    for (int r = 0; r < std::min<int>(group_rows, queries_.count - row); ++r) {
      Operand* const p = p_ + r * key_block;
      const std::int64_t query = queries_.at(row + r);
      for (int column = seen.begin; column < seen.end; ++column) {
        p[column] = scores_.keeps(query, keys_.at(key + column)) ? p[column] : dropped;
      }
    }
  }

  void accumulate(int row, std::int64_t key, Columns seen, const Ahead& ahead, const Factors& factors) {
    if (must_not_touch_masked(row, key, seen)) return accumulate_one_by_one(row, key, seen, factors);
    const int end = last_seen(row, key, seen);
    if constexpr (in_tiles<Operand>) {
      for (int column = 0; column < columns_; column += panel<A>) {
        fetch_values(ahead, column, panel<A>);
        AmxSums<Operand, 2> sums;
        sums.add(p_ + seen.begin, key_block, values_at(key, seen.begin, column, panel<A>), panel<A>, end - seen.begin);
        sums.store(products_ + column, columns_);
      }
      const int columns = columns_;
      A* acc = acc_ + row * columns;
      const A* products = products_;
      for (int r = 0; r < group_rows; ++r, acc += columns, products += columns) {
        const Vec<A> factor = splat(factors.of[r]);
        for (int d = 0; d < columns; d += width<A>) {
          rondo::host::store(acc + d, rondo::host::load<A>(acc + d) * factor + rondo::host::load<A>(products + d));
        }
      }
    } else {
      for_column_tiles<A>(columns_, [&](int column, auto vectors) RONDO_INLINE_LAMBDA {
        A* const acc = acc_ + row * columns_ + column;
        Sums<A, vectors>
            sums;  // of these keys alone: one sum over all keys would round each term to the digits of the whole
        clear(sums);
        const int stride = layout_.column_stride(column);
        fetch_values(ahead, column, stride);
        multiply(sums, p_ + seen.begin, key_block, 1, values_at(key, seen.begin, column, stride), stride,
                 end - seen.begin);
        unrolled<group_rows>([&](auto r) RONDO_INLINE_LAMBDA {
          const Vec<A> factor = splat(factors.of[r]);
          unrolled<vectors>([&](auto c) RONDO_INLINE_LAMBDA {
            A* const at = acc + r * columns_ + c * width<A>;
            rondo::host::store(at, rondo::host::load<A>(at) * factor + sums.at[r][c]);
          });
        });
      });
    }
  }

  /// The end of the columns in which a row of the group sees something: behind it all p are 0.
  int last_seen(int row, std::int64_t key, Columns seen) const {
    if constexpr (!Scores::has_intervals) return seen.end;
    std::int64_t end = 0;
    for (int r = row; r < row + group_rows; ++r) end = std::max<std::int64_t>(end, ranges_[r].end - key);
    if constexpr (in_tiles<Operand>) end = round_up<std::int64_t>(end, panel<A>);  // whole steps of the product
    return static_cast<int>(std::clamp<std::int64_t>(end, seen.begin, seen.end));
  }

  /// A value that is not finite would turn a masked score's zero into NaN.
  bool must_not_touch_masked(int row, std::int64_t key, Columns seen) const {
    for (int column = seen.begin; column < seen.end; column += panel<A>) {
      if ((flags_[(key + column) / panel<A>] & value_not_finite) != 0 &&
          block_.coverage(row, group_rows, key + column, panel<A>) != Coverage::all) {
        return true;
      }
    }
    return false;
  }

  void accumulate_one_by_one(int row, std::int64_t key, Columns seen, const Factors& factors) {
    for (int r = row; r < std::min(row + group_rows, static_cast<int>(queries_.count)); ++r) {
      for (int d = 0; d < shape_.value_dim; ++d) {
        A sum{0};
        for (int column = seen.begin; column < seen.end; ++column) {
          if (!block_.sees(r, key + column)) continue;
          sum += static_cast<A>(p_[(r - row) * key_block + column]) *
                 static_cast<A>(v_[layout_.column_at(key + column, d)]);
        }
        A& acc = acc_[r * columns_ + d];
        acc = acc * factors.of[r - row] + sum;
      }
    }
  }

  void load(const Tensor<const T, 4, Space>& q, const SoftmaxState<A, Space>& state, bool first) {
    const auto& [b, head, row, count] = mine_;
    const int dim = shape_.head_dim;
    std::fill_n(m_, rows_ / group_rows * group_lanes, nothing());
    for (int r = 0; r < rows_; ++r) {
      const bool real = r < count;
      const bool held = real && !first;
      l_[r] = Vec<A>{};
      if (held) {
        m_of(r) = state.m(b, head, row + r);
        l_[r][0] = state.l(b, head, row + r);
      }
      load_row<A>(q_ + r * depth_, depth_, real ? row_of(q, b, row + r, head) : Row<const T>{});
      slope_.prepare(q_ + r * depth_, dim);
      load_row<A>(acc_ + r * columns_, columns_, held ? row_of(state.acc, b, row + r, head) : Row<A>{});
    }
  }

  void store(const SoftmaxState<A, Space>& state) {
    const auto& [b, head, row, count] = mine_;
    for (int r = 0; r < count; ++r) {
      state.m(b, head, row + r) = m_of(r);
      state.l(b, head, row + r) = total<A>(l_[r]);
      store_row(row_of(state.acc, b, row + r, head), acc_ + r * columns_);
    }
  }

  void finish(const Outputs<T, A, Space>& outputs) {
    const auto& [b, head, row, count] = mine_;
    for (int r = 0; r < count; ++r) {
      outputs.write(problem_, b, row + r, head, m_of(r), total<A>(l_[r]),
                    Row<const A>{acc_ + r * columns_, 1, shape_.value_dim});
    }
  }

  /// The panel of keys that begins at a column of the block.
  const Operand* keys_at(std::int64_t key, int column) const {
    if constexpr (widened) {
      return wide_keys_ + column * depth_;
    } else {
      return k_ + layout_.panel_at(key + column);
    }
  }
  /// The values from column `first` of the block on, in the tile that begins at d.
  const Operand* values_at(std::int64_t key, int first, int d, int stride) const {
    if constexpr (widened) {
      return wide_values_ + block_keys_ * d + first * stride;
    } else {
      return v_ + layout_.column_tile(d) + (key + first) * stride;
    }
  }

  /// Keys and values of a block in the accumulate type, as they are packed.
  void widen(std::int64_t key, int count) {
    const auto copy = [](A* to, const T* from, std::int64_t elements) {
      for (std::int64_t at = 0; at < elements; at += width<A>)
        rondo::host::store(to + at, rondo::host::load<A>(from + at));
    };
    for (int column = 0; column < count; column += panel<A>) {
      if (block_.coverage(0, rows_, key + column, panel<A>) == Coverage::none) continue;
      copy(wide_keys_ + column * depth_, k_ + layout_.panel_at(key + column), panel<A> * depth_);
      for (int d = 0; d < columns_; d += panel<A>) {
        const int stride = layout_.column_stride(d);
        copy(wide_values_ + block_keys_ * d + column * stride, v_ + layout_.column_tile(d) + (key + column) * stride,
             panel<A> * stride);
      }
    }
  }

  A& m_of(int r) { return m_[r / group_rows * group_lanes + r % group_rows]; }
  static constexpr A nothing() { return rondo::detail::minus_infinity<A>; }
  /// m, or 0 for rows that have seen no key yet, so that s - m is never inf - inf.
  static Vec<A> finite(Vec<A> m) { return m == splat(nothing()) ? Vec<A>{} : m; }

  const P& problem_;
  Shape shape_;
  QueryRows mine_;
  Run queries_;
  Run keys_;
  WireLayout<T, A> layout_;
  std::byte* wire_;
  Scores scores_;
  ScoreBlock<A, Scores> block_;
  ScoreSlope<A, Scores> slope_;
  int rows_;        ///< queries of a full block
  int block_keys_;  ///< keys of one
  const T* k_;
  const T* v_;
  const std::uint8_t* flags_;
  int columns_;  ///< value_dim in whole vectors
  int depth_;    ///< head_dim as products over it take it
  Operand* q_;
  A* acc_;
  A* s_;
  A* products_ = nullptr;  ///< of a group's probabilities with the values of a block
  Operand* p_;             ///< where scores become probabilities: in their place, or narrower beside them
  A* wide_keys_ = nullptr;
  A* wide_values_ = nullptr;
  Vec<A>* l_;
  A* m_;
  IndexRange* ranges_;
};

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace rondo::host
