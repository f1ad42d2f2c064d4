/// \file
/// A block of rows against passing tiles by matrix cores: where both lie, and the products of a tile. What is peculiar to
/// these instructions in the passes of tensor_core/.
#pragma once

#include <rondo/kernel/mfma/tile.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>
#include <type_traits>

namespace rondo::mfma {

/// The block's own rows stay in registers, Size for each wave; a tile of each of two passing tensors is in shared memory
/// while the next one comes into registers.
/// \tparam OwnTensors  tensors of own rows
/// \tparam First, Second  what is needed of the passing tensors 0 and 1
template <class T, int Dim, class TeamType, int Size, int TileRows, int OwnTensors, Form First, Form Second>
struct Block {
  using Team = TeamType;
  using Wave = typename Team::Warp;
  using Lanes = mfma::Lanes<Size>;
  using FirstTile = Tile<T, TileRows, Dim, First, Team>;
  using SecondTile = Tile<T, TileRows, Dim, Second, Team>;
  static constexpr int dim = Dim;
  static constexpr int warp_rows = Size;
  /// Waves that share a SIMD unit's 512 registers of a lane: two, unless own rows and two gradients take more.
  static constexpr int teams_together = Second == Form::both && Dim * Size > 64 * 32 ? 1 : 2;
  static constexpr int block_rows = Team::count * Size;
  static constexpr int tile_rows = TileRows;
  static constexpr int tiles_end = FirstTile::elements + SecondTile::elements;
  static constexpr int shared_elements = tiles_end + 4;  ///< and a note on each tensor
  /// float16 has 24 binary digits below 1, of which gfx90a's products take no more than 14: probabilities are made large.
  static constexpr float weight_scale = std::is_same_v<T, float16> ? 32768.0f : 1.0f;

  using Scores = mfma::Sums<Wave, Size>[TileRows / Size];
  using Sums = mfma::Sums<Wave, Size>[Dim / Size];

  T* shared;
  struct Own {
    Quad<Wave> fragments[OwnTensors][Dim / depth<Size>];
  };
  typename Team::template PerWarp<Own> own = {};
  FirstTile first = {};
  SecondTile second = {};

  /// Not 0 where an element of a tensor was left out of a tile.
  KOKKOS_FUNCTION T* note(int which) const { return shared + tiles_end + 2 * which; }
  KOKKOS_FUNCTION T* place(int which) const { return which == 0 ? shared : shared + FirstTile::elements; }

  KOKKOS_FUNCTION void load_own(Team& team, int which, const SourceRows<T>& from, int count) {
    const bool grouped = from.template in_groups<4>();
    team.warps([&](const Wave& wave) {
      RONDO_UNROLL
      for (int k = 0; k < Dim / depth<Size>; ++k) {
        Quad<Wave>& b = own[wave].fragments[which][k];
        wave.each_anew([&](int lane) {
          const Place begin = place_in_b<Size>(lane, 0);
          read_four(from, grouped, wave.number * Size + begin.col, depth<Size> * k + begin.row, count, b.at(lane, 0),
                    b.at(lane, 1));
        });
      }
    });
  }

  /// Starts to bring rows of a passing tensor.
  KOKKOS_FUNCTION void start(Team& team, int which, const SourceRows<T>& from, int count, int /*stage*/) {
    if (which == 0) {
      first.start(team, from, count);
    } else {
      second.start(team, from, count);
    }
  }

  /// Calls compute(begin, count, coverage, stage) for each tile that is visible, after load(begin, count, stage), which the
  /// tile before is computed with meanwhile. Stages alternate: what `load` itself writes has two places.
  template <class Tiles, class Load, class Compute>
  KOKKOS_FUNCTION void for_tiles(Team& team, const Tiles& tiles, const Load& load, const Compute& compute) {
    const std::int64_t end = tiles.run.count;
    Coverage coverage = Coverage::none;
    std::int64_t begin = tiles.next(0, coverage);
    if (begin < end) load(begin, tiles.count_at(begin), 0);
    team.share(1, [&](int) { Wave::write(note(0), 0u, 0u); });
    for (int stage = 0; begin < end; stage = 1 - stage) {
      team.barrier();  // nobody reads the tile before any more
      first.arrive(team, place(0), coverage == Coverage::all, note(0));
      second.arrive(team, place(1), coverage == Coverage::all, note(1));
      team.barrier();
      Coverage coverage_after = Coverage::none;
      const std::int64_t after = tiles.next(begin + tile_rows, coverage_after);
      if (after < end) load(after, tiles.count_at(after), 1 - stage);
      compute(begin, tiles.count_at(begin), coverage, stage);
      begin = after;
      coverage = coverage_after;
    }
    team.barrier();
  }

  /// Adds inner products of the wave's own rows with the passing ones of a tensor.
  KOKKOS_FUNCTION void multiply(const Wave& wave, Scores& scores, int which, int /*stage*/) {
    add_inner_products<Size, TileRows, Dim>(wave, scores, own[wave].fragments[which],
                                            static_cast<const T*>(place(which)));
  }

  /// Adds the passing rows of a tensor, weighted, to the sums of the wave's own rows. Returns whether elements that are not
  /// finite were left out: they are in a tile that is not whole.
  template <int Parts>
  KOKKOS_FUNCTION bool add_weighted(const Wave& wave, Sums& sums, const Scores& weights, int which, int /*stage*/,
                                    bool whole) const {
    const T* transposed = place(which) + (which == 0 ? FirstTile::row_elements : SecondTile::row_elements);
    add_products<Parts, Size, TileRows, Dim>(wave, sums, weights, transposed);
    return !whole && Wave::read_one(note(which)).bits() != 0;
  }
};

/// What the passes of tensor_core/ take from here.
/// \tparam Size  of the products: 32, or 16, which have half the registers and read twice as much of shared memory
template <int Size>
struct Model {
  static constexpr int warps = 4;
  static constexpr int lanes = wave_lanes;
  /// gfx90a takes 16-bit numbers below the normal ones for 0: too much is lost of gradients in float16.
  template <class T>
  static constexpr bool has_gradient =
#ifdef KOKKOS_ARCH_AMD_GFX90A
      !std::is_same_v<T, float16>;
#else
      true;
#endif

  template <class T, int Dim, class Team>
  using ForwardBlock = Block<T, Dim, Team, Size, Dim <= 64 ? 64 : 32, 1, Form::rows, Form::transposed>;
  template <class T, int Dim, class Team>
  using QueryBlock = Block<T, Dim, Team, Size, 32, 2, Form::both, Form::rows>;
  template <class T, int Dim, class Team>
  using KeyBlock = Block<T, Dim, Team, Size, 32, 2, Form::both, Form::both>;
};

}  // namespace rondo::mfma
