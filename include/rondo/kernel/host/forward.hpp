/// \file
/// Forward pass of the host kernel: a block of queries against a piece, in register tiles.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/host/exp2.hpp>
#include <rondo/kernel/host/score_block.hpp>
#include <rondo/kernel/host/wire.hpp>
#include <rondo/kernel/host/work.hpp>

#include <algorithm>
#include <cstdint>

namespace rondo::host {
inline namespace RONDO_HOST_NAMESPACE {

/// Queries that stay in cache together, and keys whose scores do.
inline constexpr int query_block = vector_bytes == 64 ? 48 : 96;
inline constexpr int key_block = 256;

/// m' = max(m, max s);  acc' = acc·2^(m - m') + Σ 2^(s - m')·v;  l likewise, block of keys by block of keys. One call
/// folds a whole piece into the state of one block of queries of one head.
template <class T, class A, ProblemType P, class Space>
class ForwardBlock {
 public:
  using Scores = ScoreTile<P, A>;
  static constexpr int groups = query_block / tile_rows;

  static std::size_t scratch_bytes(const Shape& shape) {
    const int columns = padded_dim<A>(shape.head_dim);
    return Scratch::bytes<A>(query_block * shape.head_dim) + Scratch::bytes<A>(query_block * columns) +
           Scratch::bytes<A>(query_block * key_block) + 2 * Scratch::bytes<Vec<A>>(query_block) +
           2 * Scratch::bytes<A>(query_block) + Scratch::bytes<IndexRange>(query_block);
  }

  ForwardBlock(const P& problem, const Shape& shape, int b, int head, const Run& queries, const Run& keys,
               const WireLayout<T, A>& layout, std::byte* wire, Scratch scratch)
      : shape_(shape),
        b_(b),
        head_(head),
        queries_(queries),
        keys_(keys),
        layout_(layout),
        scores_(problem, b, head),
        block_{scores_, queries_, keys_, nullptr} {
    const int kv_head = head / (shape.heads / shape.kv_heads);
    k_ = layout.key_panels(wire, b, kv_head);
    v_ = layout.columns(wire, b, kv_head);
    flags_ = layout.flags(wire, b, kv_head);
    columns_ = padded_dim<A>(shape.head_dim);
    q_ = scratch.array<A>(query_block * shape.head_dim);
    acc_ = scratch.array<A>(query_block * columns_);
    s_ = scratch.array<A>(query_block * key_block);
    best_ = scratch.array<Vec<A>>(query_block);
    l_ = scratch.array<Vec<A>>(query_block);
    m_ = scratch.array<A>(query_block);
    factor_ = scratch.array<A>(query_block);
    ranges_ = scratch.array<IndexRange>(query_block);
    block_.ranges = ranges_;
  }

  /// \param q, state  whole tensors of the query run; this block begins at `row`
  void fold(const Tensor<const T, 4, Space>& q, const SoftmaxState<A, Space>& state, std::int64_t row, bool first) {
    if (!first && scores_.coverage(queries_, keys_) == Coverage::none) return;
    load(q, state, row, first);
    find_ranges(scores_, queries_, keys_, query_block, ranges_);
    for (std::int64_t key = 0; key < keys_.count; key += key_block) {
      const auto count = static_cast<int>(std::min<std::int64_t>(key_block, layout_.padded_tokens() - key));
      const Coverage coverage = block_.coverage(0, queries_.count, key, std::min<std::int64_t>(count, keys_.count - key));
      if (coverage != Coverage::none) fold_keys(key, count, coverage);
    }
    store(state, row);
  }

 private:
  /// Columns [begin, end) of the score block that a group of rows has something to see in.
  struct Columns {
    int begin = 0, end = 0;
  };

  void fold_keys(std::int64_t key, int count, Coverage coverage) {
    for (int group = 0; group * tile_rows < queries_.count; ++group) {
      const int row = group * tile_rows;
      const Columns seen = score(row, key, count, coverage);
      if (seen.begin == seen.end) continue;
      for (int r = row; r < row + tile_rows; ++r) exponentiate(r, seen);
      accumulate(row, key, seen);
    }
  }

  /// Scores of one group of rows, and the largest of each row.
  Columns score(int row, std::int64_t key, int count, Coverage block_coverage) {
    for (int r = row; r < row + tile_rows; ++r) best_[r] = splat(nothing());
    Columns seen{count, 0};
    const bool whole = block_coverage == Coverage::all && key + count <= keys_.count && row + tile_rows <= queries_.count;
    for (int column = 0; column < count; column += panel<A>) {
      const Coverage coverage = whole ? Coverage::all : block_.coverage(row, tile_rows, key + column, panel<A>);
      if (coverage == Coverage::none) {
        hide(row, column);
        continue;
      }
      seen = {std::min(seen.begin, column), column + panel<A>};
      Sums<A, 2> sums;
      clear(sums);
      multiply(sums, q_ + row * shape_.head_dim, shape_.head_dim, 1, k_ + (key + column) * shape_.head_dim, panel<A>,
               shape_.head_dim);
      if (coverage == Coverage::all) {
        keep<false>(sums, row, column, key);
      } else {
        keep<true>(sums, row, column, key);
      }
    }
    return seen.end == 0 ? Columns{} : seen;
  }

  void hide(int row, int column) {
    for (int r = row; r < row + tile_rows; ++r) {
      for (int half = 0; half < 2; ++half) rondo::host::store(at(r, column + half * width<A>), splat(nothing()));
    }
  }

  template <bool Masked>
  [[gnu::always_inline]] void keep(const Sums<A, 2>& sums, int row, int column, std::int64_t key) {
    unrolled<tile_rows>([&](auto r) RONDO_INLINE_LAMBDA {
      unrolled<2>([&](auto half) RONDO_INLINE_LAMBDA {
        const int to = column + half * width<A>;
        Vec<A> s = block_.base2(sums.at[r][half], row + r, key + to);
        if constexpr (Masked) s = block_.visible(row + r, key + to) ? s : splat(nothing());
        rondo::host::store(at(row + r, to), s);
        best_[row + r] = maximum<A>(s, best_[row + r]);
      });
    });
  }

  /// Scores of a row become 2^(s - m'), and l moves on. acc follows in accumulate, by the factor.
  void exponentiate(int r, Columns seen) {
    const A before = m_[r];
    const A largest_here = largest<A>(best_[r]);
    const A now = largest_here > before ? largest_here : before;
    const A reference = rondo::detail::finite_maximum(now);
    factor_[r] = before == now ? A{1} : rondo::detail::exp2(before - reference);
    m_[r] = now;
    Vec<A> sum = l_[r] * splat(factor_[r]);
    const Vec<A> subtract = splat(reference);
    for (int column = seen.begin; column < seen.end; column += width<A>) {
      const Vec<A> p = exp2_of<A>(rondo::host::load<A>(at(r, column)) - subtract);
      rondo::host::store(at(r, column), p);
      sum += p;
    }
    l_[r] = sum;
  }

  void accumulate(int row, std::int64_t key, Columns seen) {
    if (must_not_touch_masked(row, key, seen)) return accumulate_one_by_one(row, key, seen);
    for_column_tiles<A>(columns_, [&](int column, auto vectors) RONDO_INLINE_LAMBDA {
      Sums<A, vectors> sums;
      unrolled<tile_rows>([&](auto r) RONDO_INLINE_LAMBDA {
        const Vec<A> factor = splat(factor_[row + r]);
        unrolled<vectors>([&](auto c) RONDO_INLINE_LAMBDA {
          sums.at[r][c] = rondo::host::load<A>(acc_ + (row + r) * columns_ + column + c * width<A>) * factor;
        });
      });
      const int stride = layout_.column_stride(column);
      multiply(sums, at(row, seen.begin), key_block, 1, v_ + layout_.column_tile(column) + (key + seen.begin) * stride,
               stride, seen.end - seen.begin);
      unrolled<tile_rows>([&](auto r) RONDO_INLINE_LAMBDA {
        unrolled<vectors>([&](auto c) RONDO_INLINE_LAMBDA {
          rondo::host::store(acc_ + (row + r) * columns_ + column + c * width<A>, sums.at[r][c]);
        });
      });
    });
  }

  /// A value that is not finite would turn a masked score's zero into NaN.
  bool must_not_touch_masked(int row, std::int64_t key, Columns seen) const {
    for (int column = seen.begin; column < seen.end; column += panel<A>) {
      if ((flags_[(key + column) / panel<A>] & value_not_finite) != 0 &&
          block_.coverage(row, tile_rows, key + column, panel<A>) != Coverage::all) {
        return true;
      }
    }
    return false;
  }

  void accumulate_one_by_one(int row, std::int64_t key, Columns seen) {
    for (int r = row; r < std::min(row + tile_rows, static_cast<int>(queries_.count)); ++r) {
      for (int d = 0; d < shape_.head_dim; ++d) {
        const int tile = d / panel<A> * panel<A>;
        const int stride = layout_.column_stride(tile);
        A sum = acc_[r * columns_ + d] * factor_[r];
        for (int column = seen.begin; column < seen.end; ++column) {
          if (!block_.sees(r, key + column)) continue;
          sum += *at(r, column) * static_cast<A>(v_[layout_.column_tile(tile) + (key + column) * stride + d - tile]);
        }
        acc_[r * columns_ + d] = sum;
      }
    }
  }

  void load(const Tensor<const T, 4, Space>& q, const SoftmaxState<A, Space>& state, std::int64_t row, bool first) {
    const int dim = shape_.head_dim;
    for (int r = 0; r < query_block; ++r) {
      const bool real = r < queries_.count;
      const bool held = real && !first;
      m_[r] = held ? state.m(b_, head_, row + r) : nothing();
      l_[r] = Vec<A>{};
      l_[r][0] = held ? state.l(b_, head_, row + r) : A{0};
      for (int d = 0; d < dim; ++d) q_[r * dim + d] = real ? static_cast<A>(q(b_, row + r, head_, d)) : A{0};
      for (int d = 0; d < columns_; ++d) {
        acc_[r * columns_ + d] = held && d < dim ? state.acc(b_, row + r, head_, d) : A{0};
      }
    }
  }

  void store(const SoftmaxState<A, Space>& state, std::int64_t row) const {
    for (int r = 0; r < queries_.count; ++r) {
      state.m(b_, head_, row + r) = m_[r];
      state.l(b_, head_, row + r) = total<A>(l_[r]);
      for (int d = 0; d < shape_.head_dim; ++d) state.acc(b_, row + r, head_, d) = acc_[r * columns_ + d];
    }
  }

  A* at(int row, int column) const { return s_ + row * key_block + column; }
  static constexpr A nothing() { return rondo::detail::minus_infinity<A>; }

  Shape shape_;
  int b_;
  int head_;
  Run queries_;
  Run keys_;
  WireLayout<T, A> layout_;
  Scores scores_;
  ScoreBlock<A, Scores> block_;
  const T* k_;
  const T* v_;
  const std::uint8_t* flags_;
  int columns_;
  A* q_;
  A* acc_;
  A* s_;
  Vec<A>* best_;
  Vec<A>* l_;
  A* m_;
  A* factor_;
  IndexRange* ranges_;
};

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace rondo::host
