/// \file
/// Backward pass of the host kernel: one block of keys against all queries of its heads, five products in register
/// tiles. With p = e^(s - lse):  grad_v += pᵀ·grad_out;  ds = p ∘ (grad_out·vᵀ - delta);  grad_q += scale·ds·k;
/// grad_k += scale·dsᵀ·q  (Dao, arXiv 2307.08691, section 3.1). p and ds are read down their columns where they are needed
/// transposed, so nothing is transposed in memory.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/host/exp2.hpp>
#include <rondo/kernel/host/precise.hpp>
#include <rondo/kernel/host/rows.hpp>
#include <rondo/kernel/host/score_block.hpp>
#include <rondo/kernel/host/wire.hpp>
#include <rondo/kernel/host/work.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>

namespace rondo::host {
inline namespace RONDO_HOST_NAMESPACE {

/// How much of the two sequences is worked on at a time.
struct GradientSize {
  int queries;  ///< whose p and ds are held at a time
  int keys;     ///< of a block, which stays with its gradients

  /// Elements from row to row of p and ds: an odd number of cache lines, so that a column's elements spread over all of
  /// the cache's sets.
  template <class A>
  constexpr int stride() const {
    constexpr int line = 64 / static_cast<int>(sizeof(A));
    return round_up(keys, 2 * line) + line;
  }
};

/// More gain nothing.
inline constexpr GradientSize most_gradient{96, 384};

/// What the backward pass reads.
template <class T, class A, ProblemType P, class Space>
struct GradientInput {
  P problem;
  Shape shape;
  Tensor<const T, 4, Space> q;
  Tensor<const T, 4, Space> grad_out;
  Tensor<const A, 3, Space> lse;
  Tensor<const A, 3, Space> delta;
  Run queries;
  Run keys;
  Base2<A> base2;

  /// Whether some of these queries of a head may see one of these keys.
  bool sees(int b, int head, const Run& rows, const KeyBlocks::Range& range) const {
    return ScoreTile<P, A>(problem, b, head).coverage(rows, keys.part(range.begin, range.end - range.begin)) !=
           Coverage::none;
  }

  /// A head's part of the gradient of the score's parameters, of [heads of the group, parameters_per_head], or null.
  double* sums_of(double* sums, int head) const {
    if constexpr (ScoreTile<P, A>::learned) {
      const int member = head % (shape.heads / shape.kv_heads);
      return sums == nullptr ? nullptr : sums + member * problem.score.parameters_per_head();
    } else {
      return nullptr;
    }
  }

  /// Asks for what is needed soon of one row, number r of a block that begins at `row`: of grad_q to be added to, and of q
  /// and grad_out, where the `count` queries before these come next.
  /// \param here  rows of the block
  [[gnu::always_inline]] void fetch_ahead(int b, int head, std::int64_t row, int count, int here,
                                          const Tensor<A, 4, Space>& grad_q, int r) const {
    if (r < here) fetch_row<true>(grad_q, b, row + r, head, 0, lines_of<A>(shape.head_dim));
    if (row == 0) return;
    const std::int64_t before = row - count + r;
    fetch_row<false>(q, b, before, head, 0, lines_of<T>(shape.head_dim));
    fetch_row<false>(grad_out, b, before, head, 0, lines_of<T>(shape.value_dim));
  }
};

/// A block of keys of one kv head in its piece.
template <class T, class A>
struct PackedKeys {
  WireLayout<T, A> layout;
  std::int64_t first;  ///< in the piece
  int count;
  const T* k_panels;
  const T* v_panels;
  const T* columns;  ///< of the whole piece
  const std::uint8_t* flags;

  PackedKeys(const WireLayout<T, A>& wire_layout, std::byte* wire, int b, int kv_head, const KeyBlocks::Range& keys)
      : layout(wire_layout),
        first(keys.begin),
        count(static_cast<int>(keys.end - keys.begin)),
        k_panels(layout.key_panels(wire, b, kv_head)),
        v_panels(layout.value_panels(wire, b, kv_head)),
        columns(layout.columns(wire, b, kv_head)),
        flags(layout.flags(wire, b, kv_head)) {}

  /// The panels that begin at a column of the block.
  const T* k_panel(int column) const { return k_panels + layout.panel_at(first + column); }
  const T* v_panel(int column) const { return v_panels + layout.value_panel_at(first + column); }
  /// Whether a key there is not finite.
  bool spoiled(int column) const { return (flags[(first + column) / panel<A>] & key_not_finite) != 0; }
};

/// What groups of Rows queries see of panels of keys, kept from their scores to the products that follow.
template <class A, int Rows, GradientSize Most>
class TileCoverage {
 public:
  /// \param first_key  of the block, in the piece
  template <class Block>
  Coverage find(const Block& block, int group, std::int64_t first_key, int column) {
    Coverage& coverage = kept_[static_cast<std::size_t>(group)][static_cast<std::size_t>(column / panel<A>)];
    coverage = block.coverage(group * Rows, Rows, first_key + column, panel<A>);
    return coverage;
  }
  Coverage at(int group, int column) const {
    return kept_[static_cast<std::size_t>(group)][static_cast<std::size_t>(column / panel<A>)];
  }

 private:
  std::array<std::array<Coverage, Most.keys / panel<A>>, Most.queries / Rows> kept_{};
};

/// What scores of a block's queries are compared with.
template <class A>
struct QueryNumbers {
  A* lse2;
  A* lse2_factor;
  A* delta;
  IndexRange* ranges;  ///< the keys they see

  static std::size_t bytes(int queries) { return 3 * Scratch::bytes<A>(queries) + Scratch::bytes<IndexRange>(queries); }
  QueryNumbers(Scratch& scratch, int queries)
      : lse2(scratch.array<A>(queries)),
        lse2_factor(scratch.array<A>(queries)),
        delta(scratch.array<A>(queries)),
        ranges(scratch.array<IndexRange>(queries)) {}

  /// \param here  rows that there are, of `queries`
  template <class Input>
  void load(const Input& in, int b, int head, std::int64_t row, int here, int queries) const {
    for (int r = 0; r < queries; ++r) {
      const bool real = r < here;
      lse2[r] = real ? in.lse(b, head, row + r) : rondo::detail::minus_infinity<A>;
      delta[r] = real ? in.delta(b, head, row + r) : A{0};
    }
    const Base2<A> base2 = in.base2;
    for (int r = 0; r < queries; ++r) {  // vector code
      const A lse = lse2[r];
      // Where nothing was seen, lse = -inf and every p must be 0: s - inf.
      const bool seen = lse != rondo::detail::minus_infinity<A>;
      lse2[r] = seen ? base2.lse2(lse) : -rondo::detail::minus_infinity<A>;
      lse2_factor[r] = base2.lse2_factor(seen ? lse : A{0});
    }
  }
};

/// One block of keys of one kv head.
template <class T, class A, ProblemType P, class Space>
class GradientBlock {
 public:
  using Scores = ScoreTile<P, A>;
  using Input = GradientInput<T, A, P, Space>;
  /// What scores and their gradients are products of: the stored type where the processor takes it as it is.
  using Operand = std::conditional_t<depth_step<T> == 1, A, T>;
  static constexpr bool widened = !std::is_same_v<T, Operand>;
  static constexpr bool narrow = !std::is_same_v<A, Operand>;
  /// Elements of the depth that grad_out·v is summed over at a time: fewer cost time, which only plain scores would show.
  static constexpr int gradient_part = Scores::plain && !Scores::drops ? 64 : 16;
  /// Whether some of these products are made more precisely: those of pairs with more than `much` of their query's
  /// weight, of which a query has three at most. Rounding the output to a narrower type loses more than they gain.
  static constexpr bool refined = std::is_same_v<T, A>;
  static constexpr A much{0.25};

  /// The first size whose scratch memory fits the cache. Keys are given up first, then queries, and fewer than 192 keys are
  /// a last resort: 96 take 3 % longer, whatever the queries. p and ds, the gradients of keys and values, the keys once
  /// more where they are stored narrower, and the rows of queries and of grad_out take nearly all of that. Packed keys and
  /// values pass through.
  static GradientSize size(const Shape& shape) {
    constexpr int step = key_step, fewest_queries = 24;
    static_assert(step % tile_rows == 0 && step % panel<A> == 0 && fewest_queries % tile_rows == 0);
    for (const int fewest_keys : {2 * step, step}) {
      for (int queries = most_gradient.queries; queries >= fewest_queries; queries /= 2) {
        for (int keys = most_gradient.keys; keys >= fewest_keys; keys -= step) {
          if (scratch_bytes(shape, {queries, keys}) <= cache_bytes) return {queries, keys};
        }
      }
    }
    constexpr int least = std::lcm(tile_rows, panel<A>);
    int keys = step;
    while (keys > least && scratch_bytes(shape, {fewest_queries, keys}) > cache_bytes) keys -= least;
    return {fewest_queries, keys};
  }

  static std::size_t scratch_bytes(const Shape& shape) { return scratch_bytes(shape, size(shape)); }

  static std::size_t scratch_bytes(const Shape& shape, const GradientSize& size) {
    const auto [queries, keys] = size;
    const auto of_width = [&](int width) {
      const int columns = padded_dim<A>(width), depth = depth_dim<T>(width);
      return Scratch::bytes<A>(queries * columns) + Scratch::bytes<Operand>(narrow ? queries * depth : 0) +
             Scratch::bytes<A>(widened ? panel<A> * depth : 0) + Scratch::bytes<A>(keys * columns);
    };
    return of_width(shape.head_dim) + of_width(shape.value_dim) + 2 * Scratch::bytes<A>(queries * size.stride<A>()) +
           Scratch::bytes<A>(std::is_same_v<T, A> ? 0 : keys * padded_dim<A>(shape.head_dim)) +
           QueryNumbers<A>::bytes(queries);
  }

  GradientBlock(const Input& in, int b, int kv_head, const KeyBlocks::Range& keys, const WireLayout<T, A>& layout,
                std::byte* wire, Scratch scratch)
      : in_(in),
        b_(b),
        kv_head_(kv_head),
        size_(size(in.shape)),
        stride_(size_.stride<A>()),
        columns_(padded_dim<A>(in.shape.head_dim)),
        value_columns_(padded_dim<A>(in.shape.value_dim)),
        depth_(depth_dim<T>(in.shape.head_dim)),
        value_depth_(depth_dim<T>(in.shape.value_dim)),
        keys_(layout, wire, b, kv_head, keys),
        q_(scratch.array<A>(size_.queries * columns_)),
        grad_out_(scratch.array<A>(size_.queries * value_columns_)),
        p_(scratch.array<A>(size_.queries * stride_)),
        ds_(scratch.array<A>(size_.queries * stride_)),
        grad_k_(scratch.array<A>(size_.keys * columns_)),
        grad_v_(scratch.array<A>(size_.keys * value_columns_)),
        numbers_(scratch, size_.queries) {
    widen_columns(scratch);
    if constexpr (narrow) {
      q_operand_ = scratch.array<Operand>(size_.queries * depth_);
      grad_out_operand_ = scratch.array<Operand>(size_.queries * value_depth_);
    }
    if constexpr (widened) {
      wide_keys_ = scratch.array<A>(panel<A> * depth_);
      wide_values_ = scratch.array<A>(panel<A> * value_depth_);
    }
    std::fill_n(grad_k_, size_.keys * columns_, A{0});
    std::fill_n(grad_v_, size_.keys * value_columns_, A{0});
  }

  /// Where the gradient of the score's parameters is summed up, [heads of the group, parameters_per_head], or null.
  void add_parameters_to(double* sums) { parameter_sums_ = sums; }

  /// Adds the part of queries [row, row + size.queries) of one head, to these keys' gradients and to grad_q.
  void fold(int head, std::int64_t row, const Tensor<A, 4, Space>& grad_q) {
    const auto here = static_cast<int>(std::min<std::int64_t>(size_.queries, in_.queries.count - row));
    const Run queries = in_.queries.part(row, here);
    const Scores scores(in_.problem, b_, head);
    find_ranges(scores, queries, in_.keys, size_.queries, numbers_.ranges);
    const ScoreBlock<A, Scores> block{scores, queries, in_.keys, numbers_.ranges};
    load(head, row, here);
    head_sums_ = in_.sums_of(parameter_sums_, head);
    const int row_groups = (here + tile_rows - 1) / tile_rows;
    const int turns = round_up(keys_.count, panel<A>) / panel<A> * row_groups;
    int fetched = 0, due = 0;
    for (int column = 0; column < keys_.count; column += panel<A>) {
      const Operands operands = operands_of(column);
      for (int group = 0; group < row_groups; ++group) {
        for (due += size_.queries; due >= turns; due -= turns) {
          in_.fetch_ahead(b_, head, row, size_.queries, here, grad_q, fetched++);
        }
        tile(block, operands, group * tile_rows, column, coverage_.find(block, group, keys_.first, column));
      }
    }
    add_to_keys(block, row_groups);
    add_to_queries(block, head, row, here, grad_q);
  }

  /// Adds the sums to the piece's gradients.
  void store(const Tensor<A, 4, Space>& grad_k, const Tensor<A, 4, Space>& grad_v) const {
    const Vec<A> scale = splat(static_cast<A>(in_.problem.scale));
    for (int at = 0; at < keys_.count * columns_; at += width<A>) {
      rondo::host::store(grad_k_ + at, rondo::host::load<A>(grad_k_ + at) * scale);
    }
    for (int key = 0; key < keys_.count; ++key) {
      add_row(row_of(grad_k, b_, keys_.first + key, kv_head_), grad_k_ + key * columns_);
      add_row(row_of(grad_v, b_, keys_.first + key, kv_head_), grad_v_ + key * value_columns_);
    }
  }

 private:
  using Block = ScoreBlock<A, Scores>;

  /// The keys' columns in the accumulate type.
  void widen_columns(Scratch& scratch) {
    if constexpr (std::is_same_v<T, A>) {
      k_columns_ = keys_.columns;
    } else {
      A* const columns = scratch.array<A>(size_.keys * columns_);
      k_columns_ = columns;
      const int count = round_up(keys_.count, panel<A>);
      for (int d = 0; d < columns_; d += panel<A>) {
        const int stride = keys_.layout.column_stride(d);
        const T* from = keys_.columns + keys_.layout.column_tile(d) + keys_.first * stride;
        for (int at = 0; at < count * stride; at += width<A>) {
          rondo::host::store(columns + size_.keys * d + at, rondo::host::load<A>(from + at));
        }
      }
    }
  }
  /// The keys' columns from the tile that starts at d on.
  const A* key_columns(int d) const {
    if constexpr (std::is_same_v<T, A>) {
      return k_columns_ + keys_.layout.column_tile(d) + keys_.first * keys_.layout.column_stride(d);
    } else {
      return k_columns_ + size_.keys * d;
    }
  }

  void load(int head, std::int64_t row, int here) {
    for (int r = 0; r < size_.queries; ++r) {
      const bool real = r < here;
      load_row<A>(q_ + r * columns_, columns_, real ? row_of(in_.q, b_, row + r, head) : Row<const T>{});
      load_row<A>(grad_out_ + r * value_columns_, value_columns_,
                  real ? row_of(in_.grad_out, b_, row + r, head) : Row<const T>{});
      if constexpr (narrow) {
        load_row<A>(q_operand_ + r * depth_, depth_, real ? row_of(in_.q, b_, row + r, head) : Row<const T>{});
        load_row<A>(grad_out_operand_ + r * value_depth_, value_depth_,
                    real ? row_of(in_.grad_out, b_, row + r, head) : Row<const T>{});
      }
    }
    numbers_.load(in_, b_, head, row, here, size_.queries);
    rows_finite_ =
        all_finite<A>(q_, size_.queries * columns_) && all_finite<A>(grad_out_, size_.queries * value_columns_);
  }

  /// A panel of keys and values as products take it.
  struct Operands {
    const Operand* k;
    const Operand* v;
  };
  Operands operands_of(int column) const {
    const T* k = keys_.k_panel(column);
    const T* v = keys_.v_panel(column);
    if constexpr (widened) {
      const auto widen = [](A* to, const T* from, int elements) {
        for (int at = 0; at < elements; at += width<A>) rondo::host::store(to + at, rondo::host::load<A>(from + at));
      };
      widen(wide_keys_, k, panel<A> * depth_);
      widen(wide_values_, v, panel<A> * value_depth_);
      return {wide_keys_, wide_values_};
    } else {
      return {k, v};
    }
  }

  /// sums += rows [row, row + tile_rows) · panel, of rows with so many columns, or of the narrow ones over the depth.
  template <int Vectors>
  [[gnu::always_inline]] void multiply_rows(Sums<A, Vectors>& sums, const A* rows, int columns,
                                            const Operand* narrow_rows, int depth, int row,
                                            const Operand* of_panel) const {
    if constexpr (narrow) {
      multiply(sums, narrow_rows + row * depth, depth, 1, of_panel, panel<A>, depth);
    } else {
      multiply(sums, rows + row * columns, columns, 1, of_panel, panel<A>, depth);
    }
  }

  void tile(const Block& block, const Operands& operands, int row, int column, Coverage coverage) {
    if (coverage == Coverage::all) {
      tile_of<2, false>(block, operands, row, column);
    } else if (coverage == Coverage::none) {
      hide(row, column, panel<A>);
    } else if (block.coverage(row, tile_rows, keys_.first + column + width<A>, width<A>) == Coverage::none) {
      tile_of<1, true>(block, operands, row, column);
      hide(row, column + width<A>, width<A>);
    } else {
      tile_of<2, true>(block, operands, row, column);
    }
  }

  void hide(int row, int column, int count) {
    for (int r = row; r < row + tile_rows; ++r) {
      std::fill_n(p_ + r * stride_ + column, count, A{0});
      std::fill_n(ds_ + r * stride_ + column, count, A{0});
    }
  }

  /// p and ds / scale of a group of rows and a panel of keys, or half of one.
  template <int Vectors, bool Masked>
  void tile_of(const Block& block, const Operands& operands, int row, int column) {
    const std::int64_t key = keys_.first + column;
    const int stride = stride_;
    A* const p_tile = p_ + row * stride + column;
    A* const ds_tile = ds_ + row * stride + column;
    Sums<A, Vectors> sums;
    clear(sums);
    multiply_rows(sums, q_, columns_, q_operand_, depth_, row, operands.k);
    Vec<A> largest{};
    unrolled<tile_rows>([&](auto r) RONDO_INLINE_LAMBDA {
      unrolled<Vectors>([&](auto half) RONDO_INLINE_LAMBDA {
        const Vec<A> dots = sums.at[r][half];
        if constexpr (!Scores::plain) rondo::host::store(ds_tile + r * stride + half * width<A>, dots);
        const Vec<A> above = block.above(dots, row + r, key + half * width<A>, numbers_.lse2[row + r]);
        Vec<A> p = exp2_of<A>(above) * splat(numbers_.lse2_factor[row + r]);
        if constexpr (Masked) p = block.visible(row + r, key + half * width<A>) ? p : Vec<A>{};
        rondo::host::store(p_tile + r * stride + half * width<A>, p);
        if constexpr (refined) largest = maximum<A>(p, largest);
      });
    });
    const bool much_weight = refined && has_much_weight(largest);
    unrolled<tile_rows>([&](auto r) RONDO_INLINE_LAMBDA {
      const Vec<A> start =
          splat(Scores::drops ? A{0} : -numbers_.delta[row + r]);  // with dropout, delta comes after its weights
      unrolled<Vectors>([&](auto half) RONDO_INLINE_LAMBDA { sums.at[r][half] = start; });
    });
    multiply_gradients(sums, operands, row);
    if (much_weight) [[unlikely]]
      refine<Vectors>(sums, p_tile, operands, row);
    unrolled<tile_rows>([&](auto r) RONDO_INLINE_LAMBDA {
      unrolled<Vectors>([&](auto half) RONDO_INLINE_LAMBDA {
        A* const to = ds_tile + r * stride + half * width<A>;
        A* const from = p_tile + r * stride + half * width<A>;
        Vec<A> dp = sums.at[r][half];
        const Vec<A> p = rondo::host::load<A>(from);
        if constexpr (Scores::drops) {
          const Vec<A> weights = block.weights(row + r, key + half * width<A>);
          rondo::host::store(from, p * weights);
          dp = dp * weights - splat(numbers_.delta[row + r]);
        }
        Vec<A> ds = p * dp;
        if constexpr (Scores::learned) {
          if (head_sums_ != nullptr) {
            block.add_parameters(head_sums_, ds, rondo::host::load<A>(to), row + r, key + half * width<A>);
          }
        }
        if constexpr (!Scores::plain) ds *= block.derivatives(rondo::host::load<A>(to), row + r, key + half * width<A>);
        if constexpr (Masked) ds = block.visible(row + r, key + half * width<A>) ? ds : Vec<A>{};
        rondo::host::store(to, ds);
      });
    });
  }

  /// sums += rows of grad_out · values, in parts of the depth that are summed up on their own.
  template <int Vectors>
  [[gnu::always_inline]] void multiply_gradients(Sums<A, Vectors>& sums, const Operands& operands, int row) const {
    if constexpr (narrow) {
      multiply(sums, grad_out_operand_ + row * value_depth_, value_depth_, 1, operands.v, panel<A>, value_depth_);
    } else {
      const A* const rows = grad_out_ + row * value_columns_;
      multiply(sums, rows, value_columns_, 1, operands.v, panel<A>, std::min(gradient_part, value_depth_));
      for (int d = gradient_part; d < value_depth_; d += gradient_part) {
        Sums<A, Vectors> part;
        clear(part);
        multiply(part, rows + d, value_columns_, 1, operands.v + d * panel<A>, panel<A>,
                 std::min(gradient_part, value_depth_ - d));
        unrolled<tile_rows>([&](auto r) RONDO_INLINE_LAMBDA {
          unrolled<Vectors>([&](auto half) RONDO_INLINE_LAMBDA { sums.at[r][half] += part.at[r][half]; });
        });
      }
    }
  }

  [[gnu::always_inline]] static bool has_much_weight(Vec<A> p) {
    return lanes_detail::reduced<A>(p, [](Vec<A> a, Vec<A> b) RONDO_INLINE_LAMBDA { return maximum<A>(a, b); })[0] >
           much;
  }

  /// The products of a tile's pairs that have much of their query's weight, once more, with hardly any rounding: there
  /// grad_out·v and delta are nearly the same number (with all the weight, the same), and roundings would be what is left.
  template <int Vectors>
  [[gnu::always_inline]] void refine(Sums<A, Vectors>& sums, const A* p_tile, const Operands& operands, int row) const {
    if constexpr (refined) {
      alignas(64) A products[tile_rows][Vectors * width<A>];
      unrolled<tile_rows>([&](auto r) RONDO_INLINE_LAMBDA {
        unrolled<Vectors>([&](auto half) RONDO_INLINE_LAMBDA {
          rondo::host::store(&products[r][half * width<A>], sums.at[r][half]);
        });
      });
      for (int r = 0; r < tile_rows; ++r) refine_row(products[r], Vectors, p_tile + r * stride_, operands.v, row + r);
      unrolled<tile_rows>([&](auto r) RONDO_INLINE_LAMBDA {
        unrolled<Vectors>([&](auto half) RONDO_INLINE_LAMBDA {
          sums.at[r][half] = rondo::host::load<A>(&products[r][half * width<A>]);
        });
      });
    }
  }
  [[gnu::noinline]] void refine_row(A* products, int vectors, const A* p, const A* values, int row) const {
    for (int key = 0; key < vectors * width<A>; ++key) {
      if (key % width<A> == 0 && !has_much_weight(rondo::host::load<A>(p + key))) {
        key += width<A> - 1;
        continue;
      }
      if (!(p[key] > much)) continue;
      constexpr int lanes = 4;
      PreciseSum<A, lanes> sum;
      const A* const rows = grad_out_ + row * value_columns_;
      int d = 0;
      for (; d + lanes <= value_depth_; d += lanes) sum.add(rows + d, 1, values + d * panel<A> + key, panel<A>);
      for (; d < value_depth_; ++d) sum.add(rows[d], values[d * panel<A> + key]);
      products[key] = Scores::drops ? sum.value() : sum.value() - numbers_.delta[row];
    }
  }

  /// grad_v += pᵀ·grad_out and grad_k += dsᵀ·q: rows are keys, the depth is the queries that see them.
  void add_to_keys(const Block& block, int row_groups) {
    for (int key = 0; key < keys_.count; key += tile_rows) {
      int begin = row_groups, end = 0;
      bool masked = false;
      for (int group = 0; group < row_groups; ++group) {
        const int last = std::min(key + tile_rows, keys_.count) - 1;
        for (int column = key / panel<A> * panel<A>; column <= last; column += panel<A>) {
          if (coverage_.at(group, column) != Coverage::none) begin = std::min(begin, group), end = group + 1;
          if (coverage_.at(group, column) != Coverage::all) masked = true;
        }
      }
      if (end == 0) continue;
      if (masked && !rows_finite_) {
        add_to_keys_one_by_one(block, key);
        continue;
      }
      add_transposed(grad_v_, p_, grad_out_, value_columns_, key, begin * tile_rows, end * tile_rows);
      add_transposed(grad_k_, ds_, q_, columns_, key, begin * tile_rows, end * tile_rows);
    }
  }

  /// sums[key + ·] += Σ over rows in [begin, end) of weights[row][key + ·] · values[row]. The rows are summed up on their own:
  /// one sum over all queries of all heads would round each small term to the digits of the whole.
  void add_transposed(A* sums, const A* weights, const A* values, int columns, int key, int begin, int end) const {
    for_column_tiles<A>(columns, [&](int column, auto vectors) RONDO_INLINE_LAMBDA {
      A* target = sums + key * columns + column;
      Sums<A, vectors> tile;
      clear(tile);
      multiply(tile, weights + begin * stride_ + key, 1, stride_, values + begin * columns + column, columns,
               end - begin);
      add_sums<vectors>(target, columns, tile);
    });
  }

  void add_to_keys_one_by_one(const Block& block, int first) {
    for (int key = first; key < std::min(first + tile_rows, keys_.count); ++key) {
      add_seen(block, key, grad_v_, p_, grad_out_, value_columns_);
      add_seen(block, key, grad_k_, ds_, q_, columns_);
    }
  }
  void add_seen(const Block& block, int key, A* sums, const A* weights, const A* values, int columns) const {
    for (int d = 0; d < columns; ++d) {
      A sum{0};
      for (int r = 0; r < block.queries.count; ++r) {
        if (block.sees(r, keys_.first + key)) sum += weights[r * stride_ + key] * values[r * columns + d];
      }
      sums[key * columns + d] += sum;
    }
  }

  /// grad_q += ds·k: rows are queries, the depth is the keys they see.
  void add_to_queries(const Block& block, int head, std::int64_t row, int here,
                      const Tensor<A, 4, Space>& grad_q) const {
    for (int group = 0; group * tile_rows < here; ++group) {
      int begin = keys_.count, end = 0;
      bool poisoned = false;
      for (int column = 0; column < keys_.count; column += panel<A>) {
        const Coverage coverage = coverage_.at(group, column);
        if (coverage != Coverage::none) begin = std::min(begin, column), end = column + panel<A>;
      }
      if (end == 0) continue;
      for (int column = begin; column < end; column += panel<A>) {
        poisoned = poisoned || (coverage_.at(group, column) != Coverage::all && keys_.spoiled(column));
      }
      const int rows = std::min(tile_rows, here - group * tile_rows);
      if (poisoned) {
        add_to_queries_one_by_one(block, head, row, group * tile_rows, rows, grad_q);
        continue;
      }
      for_column_tiles<A>(columns_, [&](int column, auto vectors) RONDO_INLINE_LAMBDA {
        const int stride = keys_.layout.column_stride(column);
        Sums<A, vectors> tile;
        clear(tile);
        multiply(tile, ds_ + group * tile_rows * stride_ + begin, stride_, 1, key_columns(column) + begin * stride,
                 stride, end - begin);
        const Vec<A> scale = splat(block.scores.scale());
        const int dims = std::min(vectors * width<A>, in_.shape.head_dim - column);
        for (int r = 0; r < rows; ++r) {
          alignas(64) A line[2 * width<A>];
          unrolled<vectors>(
              [&](auto c) RONDO_INLINE_LAMBDA { rondo::host::store(line + c * width<A>, tile.at[r][c] * scale); });
          A* const to = &grad_q(b_, row + group * tile_rows + r, head, column);
          add_row(Row<A>{to, static_cast<std::ptrdiff_t>(grad_q.stride(3)), dims}, line);
        }
      });
    }
  }

  void add_to_queries_one_by_one(const Block& block, int head, std::int64_t row, int first, int rows,
                                 const Tensor<A, 4, Space>& grad_q) const {
    // The order of the sums is that of the tiles, so rows that see nothing infinite keep their bits.
    for (int r = first; r < first + rows; ++r) {
      for (int d = 0; d < in_.shape.head_dim; ++d) {
        const int tile = d / panel<A> * panel<A>;
        const int stride = keys_.layout.column_stride(tile);
        const A* k = key_columns(tile) + d - tile;
        A sum{0};
        for (int key = 0; key < keys_.count; ++key) {
          if (block.sees(r, keys_.first + key)) sum += ds_[r * stride_ + key] * k[key * stride];
        }
        grad_q(b_, row + r, head, d) += sum * block.scores.scale();
      }
    }
  }

  template <int Columns>
  [[gnu::always_inline]] static void add_sums(A* to, int stride, const Sums<A, Columns>& sums) {
    unrolled<tile_rows>([&](auto r) RONDO_INLINE_LAMBDA {
      unrolled<Columns>([&](auto c) RONDO_INLINE_LAMBDA {
        A* const at = to + r * stride + c * width<A>;
        rondo::host::store(at, rondo::host::load<A>(at) + sums.at[r][c]);
      });
    });
  }

  const Input& in_;
  int b_;
  int kv_head_;
  GradientSize size_;
  int stride_;   ///< elements from row to row of p and ds
  int columns_;  ///< head_dim and value_dim in whole vectors
  int value_columns_;
  int depth_;  ///< both as products over them take them
  int value_depth_;
  PackedKeys<T, A> keys_;
  const A* k_columns_ = nullptr;
  A* q_;
  A* grad_out_;
  A* p_;
  A* ds_;
  A* grad_k_;
  A* grad_v_;
  QueryNumbers<A> numbers_;
  Operand* q_operand_ = nullptr;  ///< queries and grad_out once more, where products take them narrower
  Operand* grad_out_operand_ = nullptr;
  A* wide_keys_ = nullptr;  ///< a panel of keys and of values, where products take them wider
  A* wide_values_ = nullptr;
  double* parameter_sums_ = nullptr;
  double* head_sums_ = nullptr;  ///< of the head that is folded
  bool rows_finite_ = true;
  TileCoverage<A, tile_rows, most_gradient> coverage_;
};

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace rondo::host
