/// \file
/// The register tile: C += A·B for a few rows and one or two vectors of columns, C in registers. Every product of the
/// host kernel is made of it.
#pragma once

#include <rondo/kernel/host/amx.hpp>
#include <rondo/kernel/host/vec.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace rondo::host {
inline namespace RONDO_HOST_NAMESPACE {

/// Rows of a tile: with two vectors of columns, as many sums as registers hold beside a row of B.
inline constexpr int tile_rows = vector_bytes == 64 ? 12 : 6;

/// Sums of a tile: `tile_rows` rows of Columns vectors.
template <class A, int Columns>
struct Sums {
  Vec<A> at[tile_rows][Columns];
};

/// sums[row][·] += Σ over k in [0, depth) of a[row·row_stride + k·depth_stride] · b[k·b_stride ...].
/// \param b  rows of Columns vectors in any storage type
template <class A, int Columns, class T>
[[gnu::always_inline]] inline void multiply(Sums<A, Columns>& sums, const A* a, std::ptrdiff_t row_stride,
                                            std::ptrdiff_t depth_stride, const T* b, std::ptrdiff_t b_stride,
                                            std::int64_t depth) {
  Sums<A, Columns> c = sums;
  for (std::int64_t k = 0; k < depth; ++k) {
    Vec<A> row_of_b[Columns];
    unrolled<Columns>([&](auto column) RONDO_INLINE_LAMBDA { row_of_b[column] = load<A>(b + column * width<A>); });
    unrolled<tile_rows>([&](auto row) RONDO_INLINE_LAMBDA {
      const Vec<A> factor = splat(a[row * row_stride]);
      unrolled<Columns>([&](auto column) RONDO_INLINE_LAMBDA { c.at[row][column] += factor * row_of_b[column]; });
    });
    a += depth_stride;
    b += b_stride;
  }
  sums = c;
}

#if RONDO_HOST_PAIRS
/// The same with pairs of neighbours in the depth, which stand together in a's rows and in b.
template <int Columns>
[[gnu::always_inline]] inline void multiply(Sums<float, Columns>& sums, const bfloat16* a, std::ptrdiff_t row_stride,
                                            std::ptrdiff_t /*depth_stride: 1*/, const bfloat16* b,
                                            std::ptrdiff_t b_stride, std::int64_t depth) {
  Sums<float, Columns> c = sums;
  for (std::int64_t k = 0; k < depth; k += 2) {
    unrolled<tile_rows>([&](auto row) RONDO_INLINE_LAMBDA {
      unrolled<Columns>([&](auto column) RONDO_INLINE_LAMBDA {
        c.at[row][column] = add_pairs(c.at[row][column], a + row * row_stride, b + 2 * column * width<float>);
      });
    });
    a += 2;
    b += 2 * b_stride;
  }
  sums = c;
}
#endif

template <class A, int Columns>
[[gnu::always_inline]] inline void clear(Sums<A, Columns>& sums) {
  unrolled<tile_rows>([&](auto row) RONDO_INLINE_LAMBDA {
    unrolled<Columns>([&](auto column) RONDO_INLINE_LAMBDA { sums.at[row][column] = Vec<A>{}; });
  });
}

/// Calls f(first column, integral constant: vectors) for tiles of two vectors and, at the end, one of one vector.
template <class A, class F>
[[gnu::always_inline]] inline void for_column_tiles(int columns, const F& f) {
  int column = 0;
  for (; column + width<A> < columns; column += 2 * width<A>) f(column, std::integral_constant<int, 2>{});
  if (column < columns) f(column, std::integral_constant<int, 1>{});
}

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace rondo::host
