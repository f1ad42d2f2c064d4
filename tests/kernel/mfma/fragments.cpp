/// \file
/// The kernel's mappings of lanes to elements against AMD's tables, and its tiles in shared memory against banks.
#include "simulated.hpp"

#include <rondo/kernel/mfma/tile.hpp>

#include <catch2/catch_test_macros.hpp>

#include <set>
#include <vector>

namespace rondo::test {

template <int Size>
void check_places() {
  const std::string size = "." + std::to_string(Size);
  for (int lane = 0; lane < mfma::wave_lanes; ++lane) {
    INFO("size " << Size << ", lane " << lane);
    for (int i = 0; i < 4; ++i) CHECK(mfma::place_in_a<Size>(lane, i) == cdna_table("A" + size).at(lane, i));
    for (int i = 0; i < 4; ++i) CHECK(mfma::place_in_b<Size>(lane, i) == cdna_table("B" + size).at(lane, i));
    for (int i = 0; i < mfma::lane_sums<Size>; ++i) {
      CHECK(mfma::place_in_c<Size>(lane, i) == cdna_table("D" + size).at(lane, i));
    }
  }
}

TEST_CASE("every lane's elements of A, B and C stand where AMD's tables have them") {
  check_places<32>();
  check_places<16>();
}

/// Four neighbours of a C, rounded, are taken for a B: both have to stand in the same column, at the same depth.
template <int Size>
void check_sums_as_operands() {
  for (int lane = 0; lane < mfma::wave_lanes; ++lane) {
    for (int i = 0; i < mfma::lane_sums<Size>; ++i) {
      const auto in_c = cdna_table("D." + std::to_string(Size)).at(lane, i);
      const auto in_b = cdna_table("B." + std::to_string(Size)).at(lane, i % 4);
      CHECK(in_c.col == in_b.col);
      CHECK(in_c.row == i / 4 * mfma::depth<Size> + in_b.row);
      CHECK(mfma::Lanes<Size>::row(lane, 0) == in_c.col);
      CHECK(mfma::Lanes<Size>::column(lane, i) == in_c.row);
    }
  }
}

TEST_CASE("sums are operands of the next product as they stand") {
  check_sums_as_operands<32>();
  check_sums_as_operands<16>();
}

/// Sixteen lanes that move 8 bytes each at the same time reach all 32 banks of 4 bytes.
template <class Offset>
void check_banks(const Offset& offset) {
  for (int first = 0; first < mfma::wave_lanes; first += 16) {
    std::set<int> banks;
    for (int lane = first; lane < first + 16; ++lane) {
      const int bytes = 2 * offset(lane);
      CHECK(bytes % 8 == 0);
      banks.insert(bytes / 4 % 32);
      banks.insert((bytes / 4 + 1) % 32);
    }
    CHECK(banks.size() == 32);
  }
}

template <int Rows, int Dim>
void check_tile() {
  INFO(Rows << " rows of " << Dim);
  std::vector<int> brought(Rows * Dim, 0);
  for (int n = 0; n < Rows * Dim / 16; ++n) {
    const auto first = mfma::square<Dim>(n);
    for (int i = 0; i < 16; ++i) ++brought[static_cast<std::size_t>((first.row + i / 4) * Dim + first.col + i % 4)];
  }
  CHECK(brought == std::vector<int>(Rows * Dim, 1));
  for (int n = 0; n < Rows * Dim / 16; n += mfma::wave_lanes) {
    for (int i = 0; i < 4; ++i) {
      check_banks([&](int lane) {
        const auto first = mfma::square<Dim>(n + lane);
        return mfma::place_in_tile<Dim>(first.row + i, first.col);
      });
      check_banks([&](int lane) {
        const auto first = mfma::square<Dim>(n + lane);
        return mfma::place_in_tile<Rows>(first.col + i, first.row);
      });
    }
  }
  for (int k = 0; k < Dim; k += 8) {
    check_banks([&](int lane) { return mfma::place_in_tile<Dim>(lane % 32, k + lane / 32 * 4); });
  }
  for (int k = 0; k < Rows; k += 8) {
    check_banks([&](int lane) { return mfma::place_in_tile<Rows>(lane % 32, k + lane / 32 * 4); });
  }
}

TEST_CASE("a tile is brought whole, and no lanes wait for each other's banks, as it is or transposed") {
  check_tile<64, 64>();
  check_tile<32, 64>();
  check_tile<32, 128>();
}

}  // namespace rondo::test
