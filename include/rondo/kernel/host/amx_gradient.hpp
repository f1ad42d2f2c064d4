/// \file
/// Backward pass of the host kernel where bfloat16 is multiplied in AMX tiles: the products of gradient.hpp, all five in
/// tiles. p and ds are split into two parts of bfloat16, whose sum is within 2^-16 of them, so that nothing is lost that
/// products in fp32 would keep: the stored operands beside them are bfloat16 as they are.
#pragma once

#include <rondo/kernel/host/gradient.hpp>

#include <algorithm>
#include <array>
#include <cstdint>

namespace rondo::host {
inline namespace RONDO_HOST_NAMESPACE {

/// One block of keys of one kv head.
template <class T, class A, ProblemType P, class Space>
class AmxGradientBlock;

#if RONDO_HOST_AMX

/// More queries at a time than without tiles: beside their products, adding to the gradients of keys once for each block
/// of queries takes longer.
inline constexpr GradientSize most_amx_gradient{192, 384};

using Words = parts_of<Vec<float>>::unsigned_words;
inline constexpr std::uint32_t upper_half = 0xffff0000u;

/// The upper halves of words of `even` and of `odd`, in pairs.
[[gnu::always_inline]] inline Words upper_pairs(Words even, Words odd) { return even >> 16 | (odd & upper_half); }

/// Two rows of numbers in pairs of bfloat16, an element of `even` and one of `odd`: upper digits and the rest.
struct SplitPairs {
  Words upper, rest;

  [[gnu::always_inline]] SplitPairs(Vec<float> even, Vec<float> odd)
      : upper(upper_pairs(std::bit_cast<Words>(even), std::bit_cast<Words>(odd))),
        rest(upper_pairs(below(even), below(odd))) {}

 private:
  /// What bfloat16 has no digits for; 0 of infinity.
  [[gnu::always_inline]] static Words below(Vec<float> x) {
    const Vec<float> kept = std::bit_cast<Vec<float>>(std::bit_cast<Words>(x) & upper_half);
    return std::bit_cast<Words>(x == kept ? Vec<float>{} : x - kept);
  }
};

/// to[d][row] = rows[row][d], for whole multiples of 32 of both.
/// \param stride  elements from row to row of `rows`; `to` has `count` in each
inline void transpose_rows(bfloat16* to, const bfloat16* rows, int stride, int count) {
  constexpr int block = 32, pairs = block / 2;
  for (int row = 0; row < count; row += block) {
    for (int d = 0; d < stride; d += block) {
      // Words of neighbours in a row become words of neighbours in a column, of even and of odd elements of the rows.
      unrolled<2>([&](auto odd) RONDO_INLINE_LAMBDA {
        Words words[pairs];
        unrolled<pairs>([&](auto i) RONDO_INLINE_LAMBDA {
          Words first, second;
          std::memcpy(&first, rows + (row + 2 * i) * stride + d, sizeof(first));
          std::memcpy(&second, rows + (row + 2 * i + 1) * stride + d, sizeof(second));
          words[i] = odd == 0 ? upper_pairs(first << 16, second << 16) : upper_pairs(first, second);
        });
        transpose<pairs>(words);
        unrolled<pairs>([&](auto i) RONDO_INLINE_LAMBDA {
          std::memcpy(static_cast<void*>(to + (d + 2 * i + odd) * count + row), &words[i], sizeof(words[i]));
        });
      });
    }
  }
}

template <class T, class A, ProblemType P, class Space>
class AmxGradientBlock {
 public:
  using Scores = ScoreTile<P, A>;
  using Input = GradientInput<T, A, P, Space>;
  /// Queries whose scores are computed together, and those that a step of a product over queries takes.
  static constexpr int group = amx_rows, step = amx_depth;
  static_assert(panel<A> == step && most_amx_gradient.queries % step == 0 && step % group == 0);

  /// The first size whose scratch memory fits the cache. Queries are given up first, then keys.
  static GradientSize size(const Shape& shape) {
    for (int keys = most_amx_gradient.keys; keys >= key_step; keys -= key_step) {
      for (int queries = most_amx_gradient.queries; queries >= step; queries -= step) {
        if (scratch_bytes(shape, {queries, keys}) <= cache_bytes) return {queries, keys};
      }
    }
    const GradientSize small{step, 2 * panel<A>};
    return scratch_bytes(shape, small) <= cache_bytes ? small : GradientSize{step, panel<A>};
  }

  static std::size_t scratch_bytes(const Shape& shape) { return scratch_bytes(shape, size(shape)); }

  static std::size_t scratch_bytes(const Shape& shape, const GradientSize& size) {
    const auto [queries, keys] = size;
    const int depth = depth_dim<T>(shape.head_dim), value_depth = depth_dim<T>(shape.value_dim);
    return 2 * (Scratch::bytes<T>(queries * depth) + Scratch::bytes<T>(queries * value_depth)) +
           2 * Scratch::bytes<A>(2 * group * panel<A>) + 2 * Scratch::bytes<T>(2 * queries * panel<A>) +
           Scratch::bytes<T>(2 * queries * size.stride<T>()) + Scratch::bytes<A>(keys * (depth + value_depth)) +
           Scratch::bytes<A>(panel<A> * (depth + value_depth)) + QueryNumbers<A>::bytes(queries);
  }

  AmxGradientBlock(const Input& in, int b, int kv_head, const KeyBlocks::Range& keys, const WireLayout<T, A>& layout,
                   std::byte* wire, Scratch scratch)
      : in_(in),
        b_(b),
        kv_head_(kv_head),
        size_(size(in.shape)),
        stride_(size_.stride<T>()),
        columns_(column_dim<T, A>(in.shape.head_dim)),
        depth_(depth_dim<T>(in.shape.head_dim)),
        value_depth_(depth_dim<T>(in.shape.value_dim)),
        keys_(layout, wire, b, kv_head, keys),
        q_(scratch.array<T>(size_.queries * depth_)),
        q_columns_(scratch.array<T>(size_.queries * depth_)),
        grad_out_(scratch.array<T>(size_.queries * value_depth_)),
        grad_out_columns_(scratch.array<T>(size_.queries * value_depth_)),
        dots_(scratch.array<A>(2 * group * panel<A>)),
        dp_(scratch.array<A>(2 * group * panel<A>)),
        p_pairs_(scratch.array<T>(2 * size_.queries * panel<A>)),
        ds_pairs_(scratch.array<T>(2 * size_.queries * panel<A>)),
        ds_(scratch.array<T>(2 * size_.queries * stride_)),
        gradients_(scratch.array<A>(size_.keys * (depth_ + value_depth_))),
        products_(scratch.array<A>(panel<A> * (depth_ + value_depth_))),
        numbers_(scratch, size_.queries) {
    std::fill_n(gradients_, size_.keys * (depth_ + value_depth_), A{0});
  }

  /// Where the gradient of the score's parameters is summed up, [heads of the group, parameters_per_head], or null.
  void add_parameters_to(double* sums) { parameter_sums_ = sums; }

  /// Adds the part of queries [row, row + size.queries) of one head, to these keys' gradients and to grad_q.
  void fold(int head, std::int64_t row, const Tensor<A, 4, Space>& grad_q) {
    const auto here = static_cast<int>(std::min<std::int64_t>(size_.queries, in_.queries.count - row));
    const Run queries = in_.queries.part(row, here);
    const Scores scores(in_.problem, b_, head);
    find_ranges(scores, queries, in_.keys, size_.queries, numbers_.ranges);
    const Block block{scores, queries, in_.keys, numbers_.ranges};
    const TileUnit<T> tiles;
    load(head, row, here);
    head_sums_ = in_.sums_of(parameter_sums_, head);
    const int groups = round_up(here, step) / group;
    const int panels = round_up(keys_.count, panel<A>) / panel<A>;
    for (int index = 0, fetched = 0; index < panels; ++index) {
      for (; fetched < size_.queries * (index + 1) / panels; ++fetched) {
        in_.fetch_ahead(b_, head, row, size_.queries, here, grad_q, fetched);
      }
      const int column = index * panel<A>;
      // One group ahead: products take long to come out of the tiles.
      const auto begin_group = [&](int at) {
        if (coverage_.find(block, at, keys_.first, column) != Coverage::none) multiply_rows(at, column);
      };
      begin_group(0);
      for (int at = 0; at < groups; ++at) {
        if (at + 1 < groups) begin_group(at + 1);
        switch (coverage_.at(at, column)) {
          case Coverage::all:
            weigh<false>(block, at, column);
            break;
          case Coverage::some:
            weigh<true>(block, at, column);
            break;
          case Coverage::none:
            hide(at, column);
            break;
        }
      }
      add_to_keys(block, groups, column);
    }
    add_to_queries(block, head, row, here, grad_q);
  }

  /// Adds the sums to the piece's gradients.
  void store(const Tensor<A, 4, Space>& grad_k, const Tensor<A, 4, Space>& grad_v) const {
    const A scale = static_cast<A>(in_.problem.scale);
    for (int key = 0; key < keys_.count; key += width<A>) {
      add_sums(grad_k, key, gradients_of(key), in_.shape.head_dim, scale);
      add_sums(grad_v, key, gradients_of(key) + panel<A> * depth_, in_.shape.value_dim, A{1});
    }
  }

 private:
  using Block = ScoreBlock<A, Scores>;

  void load(int head, std::int64_t row, int here) {
    for (int r = 0; r < size_.queries; ++r) {
      const bool real = r < here;
      load_row<A>(q_ + r * depth_, depth_, real ? row_of(in_.q, b_, row + r, head) : Row<const T>{});
      load_row<A>(grad_out_ + r * value_depth_, value_depth_,
                  real ? row_of(in_.grad_out, b_, row + r, head) : Row<const T>{});
    }
    transpose_rows(q_columns_, q_, depth_, size_.queries);
    transpose_rows(grad_out_columns_, grad_out_, value_depth_, size_.queries);
    numbers_.load(in_, b_, head, row, here, size_.queries);
    rows_finite_ = all_finite<A>(q_, size_.queries * depth_) && all_finite<A>(grad_out_, size_.queries * value_depth_);
  }

  /// Inner products of a group's queries with a panel's keys, and of their grad_out with its values.
  void multiply_rows(int at, int column) {
    const int row = at * group;
    const auto multiply = [&](A* to, const T* rows, const T* of_panel, int depth) RONDO_INLINE_LAMBDA {
      AmxSums<T, 1> sums;
      sums.add(rows + row * depth, depth, of_panel, panel<A>, depth);
      sums.store(to + at % 2 * group * panel<A>, panel<A>);
    };
    multiply(dots_, q_, keys_.k_panel(column), depth_);
    multiply(dp_, grad_out_, keys_.v_panel(column), value_depth_);
  }

  /// p and ds / scale of a group of queries and a panel of keys.
  template <bool Masked>
  void weigh(const Block& block, int at, int column) {
    // Copies, which the compiler need not load anew after every store.
    const QueryNumbers<A> numbers = numbers_;
    const A* const dots = dots_;
    const A* const dp = dp_;
    T* const p_pairs = p_pairs_;
    T* const ds_pairs = ds_pairs_;
    T* const ds_rows = ds_ + column;
    const std::int64_t stride = stride_, parts = size_.queries * panel<A>, row_parts = size_.queries * stride;
    const std::int64_t first_key = keys_.first + column;
    double* const head_sums = head_sums_;
    for (int row = at * group; row < (at + 1) * group; row += 2) {
      unrolled<2>([&](auto half) RONDO_INLINE_LAMBDA {
        Vec<A> p[2], ds[2];
        unrolled<2>([&](auto member) RONDO_INLINE_LAMBDA {
          const int r = row + member;
          const int vector = r % (2 * group) * panel<A> + half * width<A>;
          weigh<Masked>(block, numbers, r, first_key + half * width<A>, rondo::host::load<A>(dots + vector),
                        rondo::host::load<A>(dp + vector), head_sums, p[member], ds[member]);
        });
        const SplitPairs p_split(p[0], p[1]), ds_split(ds[0], ds[1]);
        const std::int64_t pair = row * panel<A> + half * 2 * width<A>;
        store_words(p_pairs + pair, p_split.upper);
        store_words(p_pairs + parts + pair, p_split.rest);
        store_words(ds_pairs + pair, ds_split.upper);
        store_words(ds_pairs + parts + pair, ds_split.rest);
        T* const rows = ds_rows + row * stride + half * width<A>;
        store_apart(rows, rows + stride, ds_split.upper);
        store_apart(rows + row_parts, rows + row_parts + stride, ds_split.rest);
      });
    }
  }
  template <bool Masked>
  [[gnu::always_inline]] static void weigh(const Block& block, const QueryNumbers<A>& numbers, int row,
                                           std::int64_t key, Vec<A> dots, Vec<A> dp, double* head_sums, Vec<A>& p,
                                           Vec<A>& ds) {
    const Vec<A> above = block.above(dots, row, key, numbers.lse2[row]);
    Vec<A> seen_p = exp2_of<A>(above) * splat(numbers.lse2_factor[row]);
    const Ints<A> visible = Masked ? block.visible(row, key) : Ints<A>{};
    if constexpr (Masked) seen_p = visible ? seen_p : Vec<A>{};
    p = seen_p;
    if constexpr (Scores::drops) {
      const Vec<A> weights = block.weights(row, key);
      p *= weights;
      dp *= weights;
    }
    ds = seen_p * (dp - splat(numbers.delta[row]));
    if constexpr (Scores::learned) {
      if (head_sums != nullptr) block.add_parameters(head_sums, ds, dots, row, key);
    }
    if constexpr (!Scores::plain) ds *= block.derivatives(dots, row, key);
    if constexpr (Masked) ds = visible ? ds : Vec<A>{};
  }

  [[gnu::always_inline]] static void store_words(T* to, Words words) {
    std::memcpy(static_cast<void*>(to), &words, sizeof(words));
  }
  /// The pairs' first members in one row, the second ones in another. (By one instruction, which GCC does not find.)
  [[gnu::always_inline]] static void store_apart(T* first, T* second, Words words) {
    alignas(64) static constexpr auto places = [] {
      std::array<std::uint16_t, 32> places{};
      for (std::size_t i = 0; i < 32; ++i) places[i] = static_cast<std::uint16_t>(i < 16 ? 2 * i : 2 * i - 31);
      return places;
    }();
    const __m512i apart =
        _mm512_maskz_permutexvar_epi16(0xffffffffu, _mm512_load_si512(places.data()), std::bit_cast<__m512i>(words));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(first), _mm512_maskz_extracti64x4_epi64(0xff, apart, 0));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(second), _mm512_maskz_extracti64x4_epi64(0xff, apart, 1));
  }

  void hide(int at, int column) {
    const int row = at * group;
    for (int part = 0; part < 2; ++part) {
      const std::int64_t pairs = (part * size_.queries + row) * panel<A>;
      std::fill_n(p_pairs_ + pairs, group * panel<A>, T{});
      std::fill_n(ds_pairs_ + pairs, group * panel<A>, T{});
      for (int r = row; r < row + group; ++r) {
        std::fill_n(ds_ + (part * size_.queries + r) * stride_ + column, panel<A>, T{});
      }
    }
  }

  /// The gradients of a panel, transposed: [head_dim, value_dim in steps][keys of the panel].
  A* gradients_of(int key) const {
    return gradients_ + key / panel<A> * panel<A> * (depth_ + value_depth_) + key % panel<A>;
  }

  /// grad_vᵀ += grad_outᵀ·p and grad_kᵀ += qᵀ·ds of a panel: the depth is the queries that see it. They are summed up on
  /// their own: one sum over all queries of all heads would round each small term to the digits of the whole.
  void add_to_keys(const Block& block, int groups, int column) {
    int begin = groups, end = 0;
    bool masked = false;
    for (int at = 0; at < groups; ++at) {
      if (coverage_.at(at, column) != Coverage::none) begin = std::min(begin, at), end = at + 1;
      if (coverage_.at(at, column) != Coverage::all) masked = true;
    }
    if (end == 0) return;
    if (masked && !rows_finite_) {
      add_to_keys_one_by_one(block, column);
      return;
    }
    const int first = begin * group / step * step, depth = round_up(end * group, step) - first;
    const auto multiply = [&](A* to, const T* columns, int count, const T* pairs) RONDO_INLINE_LAMBDA {
      const Parts<2> weights{pairs + first * panel<A>, size_.queries * panel<A>};
      for (int d = 0; d < count; d += 2 * amx_rows) {
        AmxSums<T, 2> sums;
        sums.add(Parts<1>{columns + d * size_.queries + first}, size_.queries, weights, panel<A>, depth);
        sums.store(to + d * panel<A>, panel<A>);
      }
    };
    multiply(products_, q_columns_, depth_, ds_pairs_);
    multiply(products_ + panel<A> * depth_, grad_out_columns_, value_depth_, p_pairs_);
    A* const to = gradients_of(column);
    const A* const products = products_;
    const int numbers = panel<A> * (depth_ + value_depth_);
    for (int at = 0; at < numbers; at += width<A>) {
      rondo::host::store(to + at, rondo::host::load<A>(to + at) + rondo::host::load<A>(products + at));
    }
  }

  void add_to_keys_one_by_one(const Block& block, int column) {
    const auto add = [&](A* to, const T* rows, int depth, const T* pairs) {
      for (int d = 0; d < depth; ++d) {
        for (int key = 0; key < panel<A>; ++key) {
          A sum{0};
          for (int r = 0; r < block.queries.count; ++r) {
            if (!block.sees(r, keys_.first + column + key)) continue;
            const T* const weight = pairs + r / 2 * 2 * panel<A> + 2 * key + r % 2;
            sum += whole(weight, size_.queries * panel<A>) * static_cast<A>(rows[r * depth + d]);
          }
          to[d * panel<A> + key] += sum;
        }
      }
    };
    add(gradients_of(column), q_, depth_, ds_pairs_);
    add(gradients_of(column) + panel<A> * depth_, grad_out_, value_depth_, p_pairs_);
  }
  /// A number from its two parts.
  static A whole(const T* upper, std::int64_t next) { return static_cast<A>(*upper) + static_cast<A>(upper[next]); }

  /// grad_q += ds·k: rows are queries, the depth is the keys they see.
  void add_to_queries(const Block& block, int head, std::int64_t row, int here, const Tensor<A, 4, Space>& grad_q) {
    for (int first = 0; first < here; first += step) {
      int begin = keys_.count, end = 0;
      bool poisoned = false;
      for (int at = first / group; at < (first + step) / group; ++at) {
        for (int column = 0; column < keys_.count; column += panel<A>) {
          const Coverage coverage = coverage_.at(at, column);
          if (coverage != Coverage::none) begin = std::min(begin, column), end = std::max(end, column + panel<A>);
          if (coverage != Coverage::all && keys_.spoiled(column)) poisoned = true;
        }
      }
      if (end == 0) continue;
      const int rows = std::min(step, here - first);
      if (poisoned) {
        add_to_queries_one_by_one(block, head, row, first, rows, grad_q);
        continue;
      }
      const Parts<2> weights{ds_ + first * stride_ + begin, size_.queries * stride_};
      for (int column = 0; column < columns_; column += panel<A>) {
        AmxSums<T, 2> sums;
        const T* const keys = keys_.columns + keys_.layout.column_tile(column) + (keys_.first + begin) * panel<A>;
        sums.add(weights, stride_, Parts<1>{keys}, panel<A>, end - begin);
        sums.store(products_ + column, columns_);
      }
      const Vec<A> scale = splat(block.scores.scale());
      for (int r = 0; r < rows; ++r) {
        A* const line = products_ + r * columns_;
        for (int d = 0, columns = columns_; d < columns; d += width<A>) {
          rondo::host::store(line + d, rondo::host::load<A>(line + d) * scale);
        }
        add_row(row_of(grad_q, b_, row + first + r, head), line);
      }
    }
  }

  void add_to_queries_one_by_one(const Block& block, int head, std::int64_t row, int first, int rows,
                                 const Tensor<A, 4, Space>& grad_q) const {
    for (int r = first; r < first + rows; ++r) {
      for (int d = 0; d < in_.shape.head_dim; ++d) {
        A sum{0};
        for (int key = 0; key < keys_.count; ++key) {
          if (!block.sees(r, keys_.first + key)) continue;
          sum += whole(ds_ + r * stride_ + key, size_.queries * stride_) *
                 static_cast<A>(keys_.columns[keys_.layout.column_at(keys_.first + key, d)]);
        }
        grad_q(b_, row + r, head, d) += sum * block.scores.scale();
      }
    }
  }

  /// Adds the sums of one vector of keys, [dims][keys of the panel], to their rows.
  void add_sums(const Tensor<A, 4, Space>& gradient, int key, const A* sums, int dims, A scale) const {
    for (int d = 0; d < dims; d += width<A>) {
      Bits<A, width<A>> lines[width<A>];
      for (int i = 0; i < width<A>; ++i) std::memcpy(&lines[i], sums + (d + i) * panel<A>, sizeof(lines[i]));
      transpose<width<A>>(lines);
      for (int i = 0; i < std::min(width<A>, keys_.count - key); ++i) {
        A line[width<A>];
        rondo::host::store(line, std::bit_cast<Vec<A>>(lines[i]) * splat(scale));
        const Row<A> row = row_of(gradient, b_, keys_.first + key + i, kv_head_);
        add_row(Row<A>{&row[d], row.element, std::min(width<A>, dims - d)}, line);
      }
    }
  }

  const Input& in_;
  int b_;
  int kv_head_;
  GradientSize size_;
  int stride_;   ///< elements from row to row of ds
  int columns_;  ///< head_dim in whole tiles
  int depth_;    ///< head_dim and value_dim as products over them take them
  int value_depth_;
  PackedKeys<T, A> keys_;
  T* q_;          ///< [queries][head_dim]
  T* q_columns_;  ///< transposed
  T* grad_out_;
  T* grad_out_columns_;
  A* dots_;     ///< of two groups of queries and a panel of keys: [queries][keys]
  A* dp_;       ///< grad_out·v likewise
  T* p_pairs_;  ///< of all queries and a panel of keys: [part][pair of queries][keys][2]
  T* ds_pairs_;
  T* ds_;         ///< of all keys: [part][queries][keys]
  A* gradients_;  ///< of keys and values, see gradients_of
  A* products_;   ///< what is added to gradients at a time
  QueryNumbers<A> numbers_;
  double* parameter_sums_ = nullptr;
  double* head_sums_ = nullptr;  ///< of the head that is folded
  bool rows_finite_ = true;
  TileCoverage<A, group, most_amx_gradient> coverage_;
};

#endif

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace rondo::host
