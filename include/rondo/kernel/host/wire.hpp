/// \file
/// The host kernel's packed pieces. The owner packs once; what circulates is what the register tiles read.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/host/tile.hpp>
#include <rondo/precision.hpp>
#include <rondo/problem.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace rondo::host {
inline namespace RONDO_HOST_NAMESPACE {

/// Tokens of a panel: two vectors of the accumulate type.
template <class A>
inline constexpr int panel = 2 * width<A>;

template <class I>
constexpr I round_up(I value, I multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/// head_dim filled up to whole vectors.
template <class A>
constexpr int padded_dim(int head_dim) {
  return round_up(head_dim, width<A>);
}

/// head_dim filled up to whole steps of a product over it: AMX tiles take 32 elements at a time.
template <class T>
constexpr int depth_dim(int head_dim) {
  return round_up(head_dim, in_tiles<T> ? 32 : depth_step<T>);
}

/// head_dim filled up to whole tiles of columns: those of AMX are two vectors.
template <class T, class A>
constexpr int column_dim(int head_dim) {
  return round_up(head_dim, in_tiles<T> ? panel<A> : width<A>);
}

/// Where things lie in the wire of a piece, whose d is below head_dim for keys and value_dim for values. Per (batch, kv head),
/// tokens padded with zeros to whole panels:
///   panels    [panel][d][tokens of the panel]: tokens are the vector axis
///   columns   [tile of two vectors of d][token][d of the tile]: head_dim is the vector axis, padded with zeros
/// Forward: keys in panels, values in columns. Backward: keys and values in panels, keys in columns too. Before all that,
/// for each panel, whether a key (1) or a value (2) in it is not finite: such a number must not be multiplied by a
/// masked score's zero.
/// Where products take pairs of the depth (depth_step), the two stand together: panels are [panel][pair of d][token][2],
/// the forward pass's columns, and those of both passes for AMX tiles, [tile][pair of tokens][d][2].
template <class T, class A>
class WireLayout {
 public:
  static constexpr int step = depth_step<T>;

  /// Tokens that stand together in columns.
  static constexpr int column_step(Pass pass) { return pass == Pass::forward || in_tiles<T> ? step : 1; }

  WireLayout(const Shape& shape, Pass pass, std::int64_t tokens)
      : shape_(shape),
        pass_(pass),
        panels_((tokens + panel<A> - 1) / panel<A>),
        flags_bytes_(round_up<std::int64_t>(blocks() * panels_, 64)) {}

  std::int64_t panels() const { return panels_; }
  std::int64_t padded_tokens() const { return panels_ * panel<A>; }
  std::size_t bytes() const {
    const std::int64_t head = in_panels() + (pass_ == Pass::forward ? 0 : in_value_panels()) + in_columns();
    return static_cast<std::size_t>(flags_bytes_ + blocks() * head * static_cast<std::int64_t>(sizeof(T)));
  }

  std::uint8_t* flags(std::byte* wire, int b, int kv_head) const {
    return reinterpret_cast<std::uint8_t*>(wire) + block(b, kv_head) * panels_;
  }
  T* key_panels(std::byte* wire, int b, int kv_head) const { return part(wire, 0) + block(b, kv_head) * in_panels(); }
  T* value_panels(std::byte* wire, int b, int kv_head) const {
    return part(wire, blocks() * in_panels()) + block(b, kv_head) * in_value_panels();
  }
  /// Forward: values. Backward: keys.
  T* columns(std::byte* wire, int b, int kv_head) const {
    const std::int64_t before = in_panels() + (pass_ == Pass::forward ? 0 : in_value_panels());
    return part(wire, blocks() * before) + block(b, kv_head) * in_columns();
  }
  /// Elements from the beginning of a head's panels of keys, and of values, to the panel that starts at a token.
  std::int64_t panel_at(std::int64_t token) const { return token * depth_dim<T>(shape_.head_dim); }
  std::int64_t value_panel_at(std::int64_t token) const { return token * depth_dim<T>(shape_.value_dim); }
  /// Elements of a token that stand in columns.
  int in_columns_of_token() const {
    return column_dim<T, A>(pass_ == Pass::forward ? shape_.value_dim : shape_.head_dim);
  }
  /// Elements from the beginning of a head's columns to the tile that starts at d.
  std::int64_t column_tile(int d) const { return padded_tokens() * d; }
  /// Elements from one token to the next in the tile that starts at d.
  int column_stride(int d) const { return std::min(2 * width<A>, in_columns_of_token() - d); }
  /// Elements from the beginning of a head's columns to element d of a token.
  std::int64_t column_at(std::int64_t token, int d) const {
    const int tile = d / panel<A> * panel<A>;
    const int together = column_step(pass_);
    return column_tile(tile) + token / together * together * column_stride(tile) + (d - tile) * together +
           token % together;
  }

 private:
  std::int64_t blocks() const { return std::int64_t{shape_.batch} * shape_.kv_heads; }
  std::int64_t block(int b, int kv_head) const { return std::int64_t{b} * shape_.kv_heads + kv_head; }
  std::int64_t in_panels() const { return padded_tokens() * depth_dim<T>(shape_.head_dim); }
  std::int64_t in_value_panels() const { return padded_tokens() * depth_dim<T>(shape_.value_dim); }
  std::int64_t in_columns() const { return padded_tokens() * in_columns_of_token(); }
  T* part(std::byte* wire, std::int64_t elements) const { return reinterpret_cast<T*>(wire + flags_bytes_) + elements; }

  Shape shape_;
  Pass pass_;
  std::int64_t panels_;
  std::int64_t flags_bytes_;
};

/// Asks for packed elements to come into the second-level cache. (Always inlined: GCC drops calls of functions that do
/// nothing else.)
template <class T>
[[gnu::always_inline]] inline void prefetch(const T* packed, std::int64_t elements) {
  constexpr std::int64_t line = 64 / static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t at = 0; at < elements; at += line) __builtin_prefetch(packed + at, 0, 2);
}

inline constexpr std::uint8_t key_not_finite = 1;
inline constexpr std::uint8_t value_not_finite = 2;

/// Rows of tokens in a tensor: token i, element d stand at data[i · token + d · element].
template <class T>
struct SourceRows {
  const T* data;
  std::int64_t token;
  std::int64_t element;
  int count;  ///< tokens
  int width;  ///< elements of a token

  T at(int i, int d) const { return data[i * token + d * element]; }
};

/// Looks for numbers that are not finite, which make NaN of a zero, in several sums at a time: one would wait for itself.
template <class A>
class FiniteCheck {
 public:
  /// \tparam Turn  which of the sums: neighbouring calls take different ones
  template <int Turn>
  [[gnu::always_inline]] void add(Vec<A> x) {
    zeros_[Turn % sums] += x * splat(A{0});
  }
  bool passed() const { return total<A>((zeros_[0] + zeros_[1]) + (zeros_[2] + zeros_[3])) == A{0}; }

 private:
  static constexpr int sums = 4;
  Vec<A> zeros_[sums]{};
};

/// Whether `count` packed numbers, a multiple of the vector width, are all finite.
template <class A, class T>
bool all_finite(const T* packed, std::int64_t count) {
  FiniteCheck<A> finite;
  std::int64_t at = 0;
  for (; at + 4 * width<A> <= count; at += 4 * width<A>) {
    unrolled<4>([&](auto part)
                    RONDO_INLINE_LAMBDA { finite.template add<part>(load<A>(packed + at + part * width<A>)); });
  }
  for (; at < count; at += width<A>) finite.template add<0>(load<A>(packed + at));
  return finite.passed();
}

/// Packs one panel, zeros behind the last token and the last element; says whether all of it is finite.
template <class A, class T>
bool pack_panel(T* target, SourceRows<T> rows) {
  constexpr int lanes = width<A>;
  constexpr int step = depth_step<T>;
  using Unit = std::conditional_t<step == 1, T, float>;  // what moves as a whole: an element, or a pair
  FiniteCheck<A> finite;
  int d = 0;
  if (rows.count == panel<A> && rows.element == 1) {
    for (; d + lanes * step <= rows.width; d += lanes * step) {
      for (int part = 0; part < panel<A>; part += lanes) {
        Bits<Unit, lanes> block[lanes];
        const T* from = rows.data + part * rows.token + d;
        T* to = target + d * panel<A> + part * step;
        unrolled<lanes>([&](auto i) RONDO_INLINE_LAMBDA {
          std::memcpy(&block[i], from + i * rows.token, sizeof(block[i]));
          unrolled<step>([&](auto half) RONDO_INLINE_LAMBDA {
            finite.template add<i>(load<A>(from + i * rows.token + half * lanes));
          });
        });
        transpose<lanes>(block);
        unrolled<lanes>([&](auto i) RONDO_INLINE_LAMBDA {
          std::memcpy(static_cast<void*>(to + i * step * panel<A>), &block[i], sizeof(block[i]));
        });
      }
    }
  }
  const int rest = d;
  for (; d < depth_dim<T>(rows.width); ++d) {
    for (int i = 0; i < panel<A>; ++i) {
      const bool held = i < rows.count && d < rows.width;
      target[d / step * step * panel<A> + i * step + d % step] = held ? rows.at(i, d) : static_cast<T>(A{0});
    }
  }
  return all_finite<A>(target + rest * panel<A>, (d - rest) * panel<A>) && finite.passed();
}

/// One vector of elements of each of two tokens, in two rows or, of Step 2, element by element in pairs.
/// \tparam Turn  for the check
template <class A, int Step, int Turn, class T>
[[gnu::always_inline]] inline void copy_two(T* to, const T* from, int columns, std::int64_t token,
                                            FiniteCheck<A>& finite) {
  const Vec<A> first = load<A>(from), second = load<A>(from + token);
  finite.template add<Turn>(first);
  finite.template add<Turn + 1>(second);
  if constexpr (Step == 1) {
    std::memcpy(static_cast<void*>(to), from, width<A> * sizeof(T));
    std::memcpy(static_cast<void*>(to + columns), from + token, width<A> * sizeof(T));
  } else {
    static_assert(Step == 2 && std::is_same_v<T, bfloat16> && std::endian::native == std::endian::little);
    using Words = typename parts_of<Vec<A>>::unsigned_words;  // their upper halves are the elements
    const Words pairs = std::bit_cast<Words>(first) >> 16 | std::bit_cast<Words>(second);
    std::memcpy(static_cast<void*>(to), &pairs, sizeof(pairs));
  }
}

/// Packs a panel's tokens as rows of at most two vectors of elements, [first, first + columns) of head_dim; zeros behind
/// the last element and the last token. Says whether all is finite.
/// \tparam Step  tokens that stand together
template <class A, int Step, class T>
bool pack_rows(T* target, SourceRows<T> rows, int first, int columns) {
  if (rows.count == panel<A> && rows.element == 1 && first + columns <= rows.width) {
    FiniteCheck<A> finite;
    for_column_tiles<A>(columns, [&](int /*column*/, auto vectors) RONDO_INLINE_LAMBDA {
      for (int i = 0; i < panel<A>; i += 2) {
        unrolled<vectors>([&](auto c) RONDO_INLINE_LAMBDA {
          copy_two<A, Step, 2 * c>(target + i * columns + c * width<A> * Step,
                                   rows.data + i * rows.token + first + c * width<A>, columns, rows.token, finite);
        });
      }
    });
    return finite.passed();
  }
  const int real = std::min(columns, rows.width - first);
  for (int i = 0; i < panel<A>; ++i) {
    T* const to = target + i / Step * Step * columns + i % Step;
    const int held = i < rows.count ? real : 0;
    for (int d = 0; d < held; ++d) to[d * Step] = rows.at(i, first + d);
    for (int d = held; d < columns; ++d) to[d * Step] = static_cast<T>(A{0});
  }
  return all_finite<A>(target, panel<A> * columns);
}

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace rondo::host
