/// \file
/// The kernel's mappings of lanes to elements against the PTX ISA's tables.
#include "simulated.hpp"

#include <catch2/catch_test_macros.hpp>

#include <bit>
#include <set>

namespace rondo::test {

TEST_CASE("every lane's elements of A, B and C stand where the ISA's tables have them") {
  for (int lane = 0; lane < mma::warp_lanes; ++lane) {
    INFO("lane " << lane);
    for (int i = 0; i < 8; ++i) CHECK(mma::place_in_a(lane, i) == fragment_table("A").at(lane, i));
    for (int i = 0; i < 4; ++i) CHECK(mma::place_in_b(lane, i) == fragment_table("B").at(lane, i));
    for (int i = 0; i < 4; ++i) CHECK(mma::place_in_c(lane, i) == fragment_table("C").at(lane, i));
  }
}

/// A tile in which every element says where it stands: row · 64 + column, exact in float16 up to 2048.
struct NumberedTile {
  alignas(16) float16 elements[16 * 64];
  NumberedTile() {
    for (int row = 0; row < 16; ++row) {
      for (int col = 0; col < 64; ++col) {
        elements[mma::swizzled<64>(row, col)] = float16(static_cast<float>(row * 64 + col));
      }
    }
  }
};

template <bool Transposed, class Row>
mma::Pairs<SimulatedWarp> loaded(const NumberedTile& tile, int column, const Row& row) {
  mma::Pairs<SimulatedWarp> pairs;
  SimulatedWarp{0}.load_matrices<Transposed>(pairs, tile.elements, [&](int lane) {
    const mma::Place begin = row(lane);
    return mma::swizzled<64>(begin.row, column + begin.col);
  });
  return pairs;
}

TEST_CASE("ldmatrix, given the rows that the kernel names, makes fragments of a tile as mma takes them") {
  const NumberedTile tile;
  for (const int column : {0, 16, 48}) {
    const auto a = loaded<false>(tile, column, mma::named_row);
    const auto b_transposed = loaded<false>(tile, column, mma::named_row_of_transposed);
    const auto b = loaded<true>(tile, column, mma::named_row);
    for (int lane = 0; lane < mma::warp_lanes; ++lane) {
      INFO("columns from " << column << ", lane " << lane);
      for (int i = 0; i < 8; ++i) {
        const mma::Place place = fragment_table("A").at(lane, i);
        CHECK(half_of<float16>(a.at(lane, i / 2), i % 2) == static_cast<float>(place.row * 64 + column + place.col));
        // Two B fragments in a load: 8 columns of B each. Row k and column n of B.
        const mma::Place in_b = fragment_table("B").at(lane, i % 4);
        const int k = in_b.row, n = in_b.col + i / 4 * 8;
        CHECK(half_of<float16>(b.at(lane, i / 2), i % 2) == static_cast<float>(k * 64 + column + n));
        CHECK(half_of<float16>(b_transposed.at(lane, i / 2), i % 2) == static_cast<float>(n * 64 + column + k));
      }
    }
  }
}

template <int Dim>
void check_banks() {
  std::set<int> places;
  for (int row = 0; row < 64; ++row) {
    for (int col = 0; col < Dim; ++col) places.insert(mma::swizzled<Dim>(row, col));
  }
  CHECK(places.size() == 64 * Dim);
  CHECK(*places.rbegin() == 64 * Dim - 1);
  for (int row = 0; row < 64; ++row) {
    for (int col = 0; col < Dim; ++col) {
      const int first = mma::swizzled<Dim>(row % 8, col % 16);
      CHECK(mma::moved<Dim>(first, row / 8 * 8, col / 16 * 16) == mma::swizzled<Dim>(row, col));
    }
  }
  // The eight rows of a matrix, 16 bytes each, lie in all 32 banks of 4 bytes.
  for (int row = 0; row < 64; row += 8) {
    for (int col = 0; col < Dim; col += 8) {
      std::set<int> banks;
      for (int i = 0; i < 8; ++i) banks.insert(mma::swizzled<Dim>(row + i, col) / 2 % 32);
      CHECK(banks.size() == 8);
      for (const int bank : banks) CHECK(bank % 4 == 0);
    }
  }
}

TEST_CASE("a tile in shared memory loses nothing, and the rows of a matrix are in different banks") {
  check_banks<64>();
  check_banks<128>();
}

}  // namespace rondo::test
