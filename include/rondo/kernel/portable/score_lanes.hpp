/// \file
/// Scores of a tile in rows of lanes, masked: shared by the portable kernel's forward and backward passes.
#pragma once

#include <rondo/kernel/portable/lanes.hpp>
#include <rondo/kernel/score_tile.hpp>
#include <rondo/kernel/state.hpp>
#include <rondo/tensor.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo::portable {

/// A piece's keys or values of one kv head, as they lie in the wire: [token][width], contiguous.
template <class T>
struct WireRows {
  const T* data;
  int width;

  template <class A>
  KOKKOS_FUNCTION A at(std::int64_t token, int d) const {
    return static_cast<A>(data[token * width + d]);
  }
};

/// Where keys and values of a piece lie in its wire: all keys [batch][kv_head][token][head_dim], then all values,
/// [batch][kv_head][token][value_dim].
template <class T>
struct Wire {
  const std::byte* data;
  int kv_heads;
  int head_dim;
  int value_dim;
  std::int64_t tokens;
  int batch;

  /// The wire of a piece with so many keys.
  template <class View>
  static Wire of(const View& wire, const Shape& shape, const Run& keys) {
    return {wire.data(), shape.kv_heads, shape.head_dim, shape.value_dim, keys.count, shape.batch};
  }

  KOKKOS_FUNCTION WireRows<T> keys(int b, int kv_head) const { return rows(0, b, kv_head, head_dim); }
  KOKKOS_FUNCTION WireRows<T> values(int b, int kv_head) const {
    return rows(std::int64_t{batch} * kv_heads * tokens * head_dim, b, kv_head, value_dim);
  }

 private:
  KOKKOS_FUNCTION WireRows<T> rows(std::int64_t before, int b, int kv_head, int width) const {
    const std::int64_t block = std::int64_t{b} * kv_heads + kv_head;
    return {reinterpret_cast<const T*>(data) + before + block * tokens * width, width};
  }
};

template <class MemorySpace, class T>
Tensor<const T, 4, MemorySpace> tensor_of(const Wire<T>& wire, const WireRows<T>& of_first_head) {
  const std::int64_t width = of_first_head.width, head = wire.tokens * width;
  const std::int64_t extents[] = {wire.batch, wire.tokens, wire.kv_heads, width};
  return tensor<MemorySpace>(of_first_head.data, extents, {wire.kv_heads * head, width, head, 1});
}

/// A packed piece's keys, or values, as a tensor [batch, tokens, kv_heads, width].
template <class MemorySpace, class T>
Tensor<const T, 4, MemorySpace> keys_of(const Wire<T>& wire) {
  return tensor_of<MemorySpace>(wire, wire.keys(0, 0));
}
template <class MemorySpace, class T>
Tensor<const T, 4, MemorySpace> values_of(const Wire<T>& wire) {
  return tensor_of<MemorySpace>(wire, wire.values(0, 0));
}

/// Turns inner products into what a forward pass keeps of them, where lanes are queries and rows are keys. Without a mask
/// test when the tile is fully visible; otherwise masked places get -inf and visible[row][lane] says which are not masked.
template <class Member, class Scores, class A>
KOKKOS_FUNCTION void score_query_lanes(const Member& team, const Scores& scores, A* s, A* visible, const Run& queries,
                                       const Run& keys, Coverage coverage) {
  for (int row = 0; row < keys.count; ++row) {
    const std::int64_t j = keys.at(row);
    A* KOKKOS_RESTRICT out = s + row * lanes;
    A* KOKKOS_RESTRICT seen = visible + row * lanes;
    if (coverage == Coverage::all) {
      for_lanes(team, [=](int lane) { out[lane] = scores.kept(out[lane], queries.at(lane), j); });
    } else {
      for_lanes(team, [=](int lane) {
        const bool allowed = lane < queries.count && scores.allowed(queries.at(lane), j);
        seen[lane] = allowed ? A{1} : A{0};
        out[lane] = allowed ? scores.kept(out[lane], queries.at(lane), j) : detail::minus_infinity<A>;
      });
    }
  }
}

}  // namespace rondo::portable
