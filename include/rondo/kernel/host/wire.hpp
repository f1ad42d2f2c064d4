/// \file
/// The host kernel's packed pieces. The owner packs once; what circulates is what the register tiles read.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/host/tile.hpp>
#include <rondo/precision.hpp>
#include <rondo/problem.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

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

/// Where things lie in the wire of a piece. Per (batch, kv head), tokens padded with zeros to whole panels:
///   panels    [panel][d][tokens of the panel]: tokens are the vector axis
///   columns   [tile of two vectors of d][token][d of the tile]: head_dim is the vector axis, padded with zeros
/// Forward: keys in panels, values in columns. Backward: keys and values in panels, keys in columns too. Before all that,
/// for each panel, whether a key (1) or a value (2) in it is not finite: such a number must not be multiplied by a
/// masked score's zero.
template <class T, class A>
class WireLayout {
 public:
  WireLayout(const Shape& shape, Pass pass, std::int64_t tokens)
      : shape_(shape),
        pass_(pass),
        panels_((tokens + panel<A> - 1) / panel<A>),
        flags_bytes_(round_up<std::int64_t>(blocks() * panels_, 64)) {}

  std::int64_t panels() const { return panels_; }
  std::int64_t padded_tokens() const { return panels_ * panel<A>; }
  std::size_t bytes() const {
    const std::int64_t head = pass_ == Pass::forward ? in_panels() + in_columns() : 2 * in_panels() + in_columns();
    return static_cast<std::size_t>(flags_bytes_ + blocks() * head * static_cast<std::int64_t>(sizeof(T)));
  }

  std::uint8_t* flags(std::byte* wire, int b, int kv_head) const {
    return reinterpret_cast<std::uint8_t*>(wire) + block(b, kv_head) * panels_;
  }
  T* key_panels(std::byte* wire, int b, int kv_head) const { return part(wire, 0) + block(b, kv_head) * in_panels(); }
  T* value_panels(std::byte* wire, int b, int kv_head) const {
    return part(wire, blocks() * in_panels()) + block(b, kv_head) * in_panels();
  }
  /// Forward: values. Backward: keys.
  T* columns(std::byte* wire, int b, int kv_head) const {
    const std::int64_t before = pass_ == Pass::forward ? 1 : 2;
    return part(wire, before * blocks() * in_panels()) + block(b, kv_head) * in_columns();
  }
  /// Elements from the beginning of a head's columns to the tile that starts at d.
  std::int64_t column_tile(int d) const { return padded_tokens() * d; }
  /// Elements from one token to the next in the tile that starts at d.
  int column_stride(int d) const { return std::min(2 * width<A>, padded_dim<A>(shape_.head_dim) - d); }

 private:
  std::int64_t blocks() const { return std::int64_t{shape_.batch} * shape_.kv_heads; }
  std::int64_t block(int b, int kv_head) const { return std::int64_t{b} * shape_.kv_heads + kv_head; }
  std::int64_t in_panels() const { return padded_tokens() * shape_.head_dim; }
  std::int64_t in_columns() const { return padded_tokens() * padded_dim<A>(shape_.head_dim); }
  T* part(std::byte* wire, std::int64_t elements) const {
    return reinterpret_cast<T*>(wire + flags_bytes_) + elements;
  }

  Shape shape_;
  Pass pass_;
  std::int64_t panels_;
  std::int64_t flags_bytes_;
};

inline constexpr std::uint8_t key_not_finite = 1;
inline constexpr std::uint8_t value_not_finite = 2;

/// Packs one panel of one head: `count` tokens of x(token, d), zeros behind them. Returns whether all are finite.
template <class A, class T, class Source>
bool pack_panel(T* target, int count, int head_dim, const Source& x) {
  A sum{0};
  for (int token = 0; token < panel<A>; ++token) {
    for (int d = 0; d < head_dim; ++d) {
      const T value = token < count ? x(token, d) : static_cast<T>(A{0});
      target[d * panel<A> + token] = value;
      sum += static_cast<A>(value) * A{0};
    }
  }
  return sum == A{0};
}

/// Packs the rows of one panel's tokens into columns; `at(d)` is where the tile that starts at d has this panel's first
/// token, `stride(d)` the elements from token to token there.
template <class A, class T, class Source, class At, class Stride>
bool pack_columns(int count, int head_dim, const Source& x, const At& at, const Stride& stride) {
  A sum{0};
  for (int begin = 0; begin < padded_dim<A>(head_dim); begin += 2 * width<A>) {
    T* target = at(begin);
    const int columns = stride(begin);
    for (int token = 0; token < panel<A>; ++token) {
      for (int column = 0; column < columns; ++column) {
        const int d = begin + column;
        const T value = token < count && d < head_dim ? x(token, d) : static_cast<T>(A{0});
        target[token * columns + column] = value;
        sum += static_cast<A>(value) * A{0};
      }
    }
  }
  return sum == A{0};
}

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace rondo::host
