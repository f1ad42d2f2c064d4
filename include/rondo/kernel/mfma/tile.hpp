/// \file
/// Tiles of rows on the way from memory through registers into shared memory, as they are and transposed, and products with
/// them.
#pragma once

#include <rondo/kernel/mfma/device.hpp>
#include <rondo/kernel/tensor_core/rows.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo::mfma {

/// What products need of a tile: its rows, for inner products; the same transposed, for sums of weighted rows.
enum class Form { rows = 1, transposed = 2, both = 3 };

KOKKOS_INLINE_FUNCTION constexpr bool has(Form form, Form one) {
  return (static_cast<int>(form) & static_cast<int>(one)) != 0;
}

/// Four elements of a row, 0 where there are none. (Without branches: something is always read.)
/// \param grouped  from.in_groups<4>()
template <class T>
KOKKOS_FUNCTION void read_four(const SourceRows<T>& from, bool grouped, int row, int col, int count, std::uint32_t& low,
                               std::uint32_t& high) {
  const bool row_there = row < count;
  const T* begin = from.data + (row_there ? row * from.row_stride : 0);
  if (grouped) {
    const bool there = row_there && col < from.head_dim;
    const std::uint64_t four = *reinterpret_cast<const std::uint64_t*>(begin + (there ? col : 0));
    low = there ? static_cast<std::uint32_t>(four) : 0u;
    high = there ? static_cast<std::uint32_t>(four >> 32) : 0u;
    return;
  }
  const auto bits = [&](int d) {
    const bool there = row_there && d < from.head_dim;
    const std::uint32_t x = begin[(there ? d : 0) * from.stride].bits();
    return there ? x : 0u;
  };
  low = bits(col) | bits(col + 1) << 16;
  high = bits(col + 2) | bits(col + 3) << 16;
}

/// A tile of Rows rows of Dim elements in shared memory, and the threads' part of the next one in registers.
///
/// Where a pair is masked its weight is 0, and such a product must not be made: in tiles that are not whole, elements that
/// are not finite are 0 in the transposed form, and a note says that there are some, for add_left_out.
template <class T, int Rows, int Dim, Form Forms, class Team>
struct Tile {
  using Wave = typename Team::Warp;
  static constexpr int squares = Rows / 4 * Dim / 4;
  static constexpr int per_thread = (squares + Team::threads - 1) / Team::threads;
  static constexpr int row_elements = has(Forms, Form::rows) ? Rows * padded<Dim> : 0;
  static constexpr int elements = row_elements + (has(Forms, Form::transposed) ? Dim * padded<Rows> : 0);

  typename Team::template PerWarp<Held<Wave, std::uint32_t, 8 * per_thread>> coming = {};
  SourceRows<T> from = {};
  int count = 0;
  bool grouped = false;

  /// Asks for `rows` rows; what is missing is 0. (Where four elements are not together, they are fetched when they are to
  /// arrive: slow, and takes no registers.)
  KOKKOS_FUNCTION void start(Team& team, const SourceRows<T>& given, int rows) {
    from = given;
    count = rows;
    grouped = given.template in_groups<4>();
    if (!grouped) return;
    for_squares(team, [&](auto& held, int lane, int i, const Place& first) {
      RONDO_UNROLL
      for (int r = 0; r < 4; ++r) {
        read_four(from, true, first.row + r, first.col, count, held.at(lane, 8 * i + 2 * r),
                  held.at(lane, 8 * i + 2 * r + 1));
      }
    });
  }

  /// Puts them where everybody sees them, after a barrier.
  /// \param note  becomes 1 if an element was left out
  KOKKOS_FUNCTION void arrive(Team& team, T* tile, bool whole, T* note) {
    if (!grouped) {
      copy_one_by_one(team, tile, whole, note);
      return;
    }
    for_squares(team, [&](auto& held, int lane, int i, const Place& first) {
      const auto word = [&](int n) -> std::uint32_t& { return held.at(lane, 8 * i + n); };
      if constexpr (has(Forms, Form::rows)) {
        RONDO_UNROLL
        for (int r = 0; r < 4; ++r) {
          Wave::write(tile + place_in_tile<Dim>(first.row + r, first.col), word(2 * r), word(2 * r + 1));
        }
      }
      if constexpr (has(Forms, Form::transposed)) {
        if (!whole) {
          std::uint32_t left_out = 0;
          RONDO_UNROLL
          for (int n = 0; n < 8; ++n) {
            const std::uint32_t pair = word(n);
            word(n) = finite_pair<T>(pair);
            left_out |= pair ^ word(n);
          }
          if (left_out != 0) Wave::write(note, T(1.0f));
        }
        RONDO_UNROLL
        for (int d = 0; d < 4; ++d) {
          const auto element = [&](int r) { return word(2 * r + d / 2) >> d % 2 * 16 & 0xffffu; };
          Wave::write(tile + row_elements + place_in_tile<Rows>(first.col + d, first.row),
                      element(0) | element(1) << 16, element(2) | element(3) << 16);
        }
      }
    });
  }

 private:
  KOKKOS_FUNCTION void copy_one_by_one(Team& team, T* tile, bool whole, T* note) const {
    team.share(Rows * Dim, [&](int i) {
      const int row = i / Dim, col = i % Dim;
      T x = T(0.0f);
      if (row < count && col < from.head_dim) x = from.data[row * from.row_stride + col * from.stride];
      if constexpr (has(Forms, Form::rows)) Wave::write(tile + place_in_tile<Dim>(row, col), x);
      if constexpr (has(Forms, Form::transposed)) {
        if (!whole && finite_pair<T>(x.bits()) != x.bits()) {
          x = T(0.0f);
          Wave::write(note, T(1.0f));
        }
        Wave::write(tile + row_elements + place_in_tile<Rows>(col, row), x);
      }
    });
  }

  template <class F>
  KOKKOS_FUNCTION void for_squares(Team& team, const F& f) {
    team.warps([&](const Wave& wave) {
      wave.each_anew([&](int lane) {
        RONDO_UNROLL
        for (int i = 0; i < per_thread; ++i) {
          const int n = i * Team::threads + wave.number * wave_lanes + lane;
          if (squares % Team::threads == 0 || n < squares) f(coming[wave], lane, i, square<Dim>(n));
        }
      });
    });
  }
};

/// A: Size rows of a tile from `row` on, by the dimensions, or places, from `col` on.
template <int Size, int Width, class Wave, class T>
KOKKOS_FUNCTION void load_a(const Wave& wave, Quad<Wave>& a, const T* tile, int row, int col) {
  wave.each([&](int lane) {
    const Place first = place_in_a<Size>(lane, 0);
    Wave::read(tile + place_in_tile<Width>(first.row, first.col) + place_in_tile<Width>(row, col), a.at(lane, 0),
               a.at(lane, 1));
  });
}

/// c[t] += (rows Size t ... of the tile) · own: inner products of rows of Dim elements.
template <int Size, int Rows, int Dim, class Wave, class T>
KOKKOS_FUNCTION void add_inner_products(const Wave& wave, Sums<Wave, Size> (&c)[Rows / Size],
                                        const Quad<Wave> (&own)[Dim / depth<Size>], const T* tile) {
  RONDO_UNROLL
  for (int k = 0; k < Dim / depth<Size>; ++k) {
    RONDO_UNROLL
    for (int t = 0; t < Rows / Size; ++t) {
      Quad<Wave> a;
      load_a<Size, Dim>(wave, a, tile, Size * t, depth<Size> * k);
      wave.template multiply_add<T>(c[t], a, own[k]);
    }
  }
}

/// c[d] += (dimensions Size d ... of the transposed tile) · weights, which stand in C fragments. They are rounded to T, or
/// with two Parts to a sum of two numbers of type T.
template <int Parts, int Size, int Rows, int Dim, class Wave, class T>
KOKKOS_FUNCTION void add_products(const Wave& wave, Sums<Wave, Size> (&c)[Dim / Size],
                                  const Sums<Wave, Size> (&weights)[Rows / Size], const T* transposed) {
  RONDO_UNROLL
  for (int k = 0; k < Rows / depth<Size>; ++k) {
    const auto& from = weights[k * depth<Size> / Size];
    const int begin = k % (Size / depth<Size>)*4;
    Quad<Wave> right[Parts];
    wave.each([&](int lane) {
      RONDO_UNROLL
      for (int i = 0; i < 2; ++i) {
        const float low = from.at(lane, begin + 2 * i), high = from.at(lane, begin + 2 * i + 1);
        const std::uint32_t pair = rounded_pair<T>(low, high);
        right[0].at(lane, i) = pair;
        if constexpr (Parts == 2) {
          right[1].at(lane, i) = rounded_pair<T>(rest_of<T>(low, pair, 0), rest_of<T>(high, pair, 1));
        }
      }
    });
    RONDO_UNROLL
    for (int d = 0; d < Dim / Size; ++d) {
      Quad<Wave> a;
      load_a<Size, Rows>(wave, a, transposed, Size * d, depth<Size> * k);
      RONDO_UNROLL
      for (int part = Parts - 1; part >= 0; --part) wave.template multiply_add<T>(c[d], a, right[part]);
    }
  }
}

}  // namespace rondo::mfma
