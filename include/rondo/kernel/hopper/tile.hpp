/// \file
/// What the kernel for Hopper does with tiles: which ones of a run pass, who copies them, and products by warp groups.
#pragma once

#include <rondo/kernel/hopper/device.hpp>
#include <rondo/kernel/mma/tile.hpp>
#include <rondo/mask/concept.hpp>
#include <rondo/sharding/run.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>

namespace rondo::hopper {

using mma::SourceRows;
using mma::WeightParts;

/// The tiles of Rows tokens of a run that a mask leaves something of, one after the other. Whoever copies and whoever
/// computes walk over the same ones.
/// \tparam Cover  the coverage of a part of the run; all: the tile is full as well
template <int Rows, class Cover>
struct TileWalk {
  const Run* run;
  const Cover* cover;
  std::int64_t begin = -Rows;
  int count = 0;
  Coverage coverage = Coverage::none;

  /// Goes on to the next tile; false if there is none.
  KOKKOS_FUNCTION bool next() {
    for (begin += Rows; begin < run->count; begin += Rows) {
      count = static_cast<int>(run->count - begin < Rows ? run->count - begin : Rows);
      coverage = (*cover)(tile());
      if (coverage != Coverage::none) return true;
    }
    return false;
  }
  KOKKOS_FUNCTION Run tile() const { return run->part(begin, count); }
  KOKKOS_FUNCTION bool whole() const { return coverage == Coverage::all; }
};
template <int Rows, class Cover>
KOKKOS_FUNCTION TileWalk<Rows, Cover> tiles_of(const Run& run, const Cover& cover) {
  return {&run, &cover};
}

/// Tiles of Rows rows of Dim elements that pass through Stages places, each with a barrier that says that it has been
/// filled and one that it may be filled again.
template <class T, int Rows, int Dim, int Stages>
struct Passing {
  static constexpr int tile_elements = Rows * Dim;
  static constexpr int tile_bytes = tile_elements * static_cast<int>(sizeof(T));
  static constexpr int bytes = Stages * tile_bytes;
  static_assert(tile_bytes % pattern_bytes == 0 && Rows <= 256);

  T* tiles;
  Barrier* full;   ///< [Stages]
  Barrier* empty;  ///< [Stages]

  KOKKOS_FUNCTION T* tile(const Turn<Stages>& turn) const { return tiles + turn.stage * tile_elements; }

  template <class Block>
  KOKKOS_FUNCTION void make_barriers(Block& block, int consumers) const {
    for (int stage = 0; stage < Stages; ++stage) {
      block.make_barrier(full + stage, 1);
      block.make_barrier(empty + stage, consumers * group_warps);
    }
  }
  /// Fills a place with rows from `row` on of a slice of a block of one of the sources, once it is empty.
  template <class Producer>
  KOKKOS_FUNCTION void fill(const Producer& producer, const Turn<Stages>& turn, int source, std::int64_t row, int slice,
                            int block) const {
    producer.wait(empty + turn.stage, turn.parity ^ 1u);  // in the first round nobody has to have emptied it
    producer.expect(full + turn.stage, tile_bytes);
    RONDO_UNROLL
    for (int column = 0; column < Dim; column += panel_columns) {
      producer.copy(tile(turn) + column * Rows, full + turn.stage, source, column, static_cast<int>(row), slice, block);
    }
  }
  template <class Group>
  KOKKOS_FUNCTION void wait_full(const Group& group, const Turn<Stages>& turn) const {
    group.wait(full + turn.stage, turn.parity);
  }
  template <class Group>
  KOKKOS_FUNCTION void release(const Group& group, const Turn<Stages>& turn) const {
    group.arrive(empty + turn.stage);
  }
};

/// The rows of one head of a tensor [batch, tokens, heads, head_dim], as tensor copies see them.
template <class Tensor>
CopySource source_of(const Tensor& x, int box_rows) {
  const auto extent = [&](int axis) { return static_cast<std::int64_t>(x.extent(axis)); };
  const auto stride = [&](int axis) { return static_cast<std::int64_t>(x.stride(axis)); };
  // Elements that are not neighbours are a source that cannot be copied.
  return {x.data(),  x.stride(3) == 1 ? static_cast<int>(extent(3)) : 1,
          extent(1), extent(2),
          extent(0), stride(1),
          stride(2), stride(0),
          box_rows};
}
/// The rows of one head of a source, from `row` on.
template <class T>
KOKKOS_FUNCTION SourceRows<T> rows_of_source(const CopySource& source, int block, int slice, std::int64_t row) {
  return {static_cast<const T*>(source.data) + block * source.block_stride + slice * source.slice_stride +
              row * source.row_stride,
          source.row_stride, 1, source.columns};
}

/// Which of a block's rows a lane's sums 2 · half and 2 · half + 1, of every four, belong to.
template <class Group>
KOKKOS_FUNCTION int row_in_block(const Group& group, int lane, int half) {
  return group.number * group_rows + place_in_d(lane, 2 * half).row;
}

/// Calls f(element, column) for those of a lane's first `Count` sums that belong to its row `half`.
template <int Count, class F>
KOKKOS_FUNCTION void for_sums(int lane, int half, const F& f) {
  RONDO_UNROLL
  for (int n = 0; n < Count / 4; ++n) {
    RONDO_UNROLL
    for (int e = 2 * half; e < 2 * half + 2; ++e) f(4 * n + e, place_in_d(lane, 4 * n + e).col);
  }
}

/// Eight elements, read and written as one.
struct alignas(16) Eight {
  std::uint32_t pairs[4];
};

/// Brings `count` rows into a group's own tile of 64 rows, whatever their strides; the rest of the tile becomes 0.
template <int Dim, class Group, class T>
KOKKOS_FUNCTION void load_own_rows(const Group& group, T* tile, const SourceRows<T>& from, int count) {
  if (from.in_groups()) {
    constexpr int eights = Dim / 8, rows_at_once = group_lanes / eights, steps = group_rows / rows_at_once;
    group.each([&](int lane) {
      const int first = lane / eights, col = lane % eights * 8;
      Eight read[steps];  // all on their way before the first is needed
      RONDO_UNROLL
      for (int i = 0; i < steps; ++i) {
        const int row = first + i * rows_at_once;
        if (row < count) {
          read[i] = *reinterpret_cast<const Eight*>(from.data + row * from.row_stride + col);
        } else {
          read[i] = Eight{};
        }
      }
      RONDO_UNROLL
      for (int i = 0; i < steps; ++i) {
        *reinterpret_cast<Eight*>(tile + place_in_tile<group_rows>(first + i * rows_at_once, col)) = read[i];
      }
    });
  } else {
    group.share(group_rows * Dim, [&](int i) {
      const int row = i / Dim, col = i % Dim;
      tile[place_in_tile<group_rows>(row, col)] =
          row < count ? from.data[row * from.row_stride + col * from.stride] : T(0.0f);
    });
  }
  group.publish();
}

/// Multiplies a group's own tile by 1, -1 or 0.
template <int Elements, class Group, class T>
KOKKOS_FUNCTION void multiply_tile(const Group& group, T* tile, float factor) {
  group.share(Elements, [&](int i) { tile[i] = T(static_cast<float>(tile[i]) * factor); });
  group.publish();
}

/// Begins d = own · tileᵀ: inner products of a group's 64 rows of Dim elements with the Columns rows of a tile.
template <class T, int Dim, int Columns, class Block, class Group>
KOKKOS_FUNCTION void begin_inner_products(const Group& group, Held<Group, float, Columns / 2>& d, const T* own,
                                          const T* tile, const Block& block) {
  const std::uint32_t a = block.address(own), b = block.address(tile);
  group.begin_products();
  RONDO_UNROLL
  for (int depth = 0; depth < Dim; depth += 16) {
    group.template multiply<T, Columns>(d, along_rows<group_rows>(a, 0, depth), along_rows<Columns>(b, 0, depth),
                                        depth > 0);
  }
  group.end_products();
}

/// Weights of a group's 64 rows, ready to be multiplied: Depth columns in registers.
template <class Group, int Depth>
struct Weights {
  Held<Group, std::uint32_t, 4> steps[Depth / 16];

  /// Takes over sums, rounded to T.
  template <class T>
  KOKKOS_FUNCTION void round(const Group& group, const Held<Group, float, Depth / 2>& sums) {
    group.each([&](int lane) {
      RONDO_UNROLL
      for (int k = 0; k < Depth / 16; ++k) {
        RONDO_UNROLL
        for (int i = 0; i < 4; ++i) {
          steps[k].at(lane, i) =
              Group::template rounded_pair<T>(sums.at(lane, 8 * k + 2 * i), sums.at(lane, 8 * k + 2 * i + 1));
        }
      }
    });
  }
};

/// The same for weights in two parts, whose sum is nearer to the numbers.
template <class T, int Depth, class Group>
KOKKOS_FUNCTION void round_in_parts(const Group& group, const Held<Group, float, Depth / 2>& sums,
                                    Weights<Group, Depth>& near, Weights<Group, Depth>& rest) {
  near.template round<T>(group, sums);
  group.each([&](int lane) {
    RONDO_UNROLL
    for (int k = 0; k < Depth / 16; ++k) {
      RONDO_UNROLL
      for (int i = 0; i < 4; ++i) {
        const std::uint32_t pair = near.steps[k].at(lane, i);
        rest.steps[k].at(lane, i) =
            Group::template rounded_pair<T>(mma::rest_of<T>(sums.at(lane, 8 * k + 2 * i), pair, 0),
                                            mma::rest_of<T>(sums.at(lane, 8 * k + 2 * i + 1), pair, 1));
      }
    }
  });
}

/// After a wait for all products: d and what it was made of may be used again.
template <int Depth, int N, class Group>
KOKKOS_FUNCTION void settle_weighted_rows(const Group& group, Held<Group, float, N>& d,
                                          const Weights<Group, Depth>& weights) {
  group.settle(d);
  RONDO_UNROLL
  for (int k = 0; k < Depth / 16; ++k) group.settle(weights.steps[k]);
}

/// Begins d += weights · tile, for a tile of Depth rows of Dim elements.
template <class T, int Dim, int Depth, class Block, class Group>
KOKKOS_FUNCTION void begin_weighted_rows(const Group& group, Held<Group, float, Dim / 2>& d,
                                         const Weights<Group, Depth>& weights, const T* tile, const Block& block) {
  const std::uint32_t b = block.address(tile);
  group.begin_products();
  RONDO_UNROLL
  for (int k = 0; k < Depth / 16; ++k) {
    group.template multiply<T, Dim>(d, weights.steps[k], down_columns<Depth>(b, 16 * k));
  }
  group.end_products();
}

/// Whether `count` rows have an element that is not finite. They can be copied in groups.
template <int Dim, class Group, class T>
KOKKOS_FUNCTION bool any_not_finite(const Group& group, const SourceRows<T>& rows, int count) {
  constexpr int eights = Dim / 8, rows_at_once = group_lanes / eights, at_once = 4;
  Held<Group, std::uint32_t, 1> found{};
  group.each([&](int lane) {
    RONDO_NO_UNROLL
    for (int first = lane / eights; first < count; first += at_once * rows_at_once) {
      Eight read[at_once];  // several at a time: each takes its while to come
      RONDO_UNROLL
      for (int i = 0; i < at_once; ++i) {
        const int row = first + i * rows_at_once < count ? first + i * rows_at_once : first;
        read[i] = reinterpret_cast<const Eight*>(rows.data + row * rows.row_stride)[lane % eights];
      }
      RONDO_UNROLL
      for (int i = 0; i < at_once; ++i) {
        RONDO_UNROLL
        for (const std::uint32_t pair : read[i].pairs) found.at(lane, 0) |= mma::finite_pair<T>(pair) ^ pair;
      }
    }
  });
  return group.any(found);
}

/// Puts 0 in the place of a tile's elements that are not finite. (Every group does it to a tile that they share, before
/// its own products: the same zeros.)
template <int Elements, class Group, class T>
KOKKOS_FUNCTION void keep_finite(const Group& group, T* tile) {
  auto* pairs = reinterpret_cast<std::uint32_t*>(tile);
  group.share(Elements / 2, [&](int i) {
    const std::uint32_t finite = mma::finite_pair<T>(pairs[i]);
    if (finite != pairs[i]) pairs[i] = finite;
  });
  group.publish();
}

}  // namespace rondo::hopper
