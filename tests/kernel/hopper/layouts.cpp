/// \file
/// The kernel's mappings of lanes to elements, its places in shared memory and its descriptors against the PTX ISA's
/// tables.
#include "simulated.hpp"

#include <catch2/catch_test_macros.hpp>

#include <set>

namespace rondo::test {

TEST_CASE("every lane's elements of A and D stand where the ISA's tables have them") {
  for (int lane = 0; lane < hopper::group_lanes; ++lane) {
    INFO("lane " << lane);
    for (int i = 0; i < 8; ++i) CHECK(hopper::place_in_a(lane, i) == group_table("A").at(lane, i));
    for (int i = 0; i < 64; ++i) CHECK(hopper::place_in_d(lane, i) == place_in_sums(lane, i));
    // A row's numbers are in four neighbouring lanes: what combine_rows takes together.
    for (int i = 0; i < 64; ++i) CHECK(place_in_sums(lane, i).row == place_in_sums(lane ^ 3, i).row);
  }
}

/// Where element (row, col) of a panel that begins at 0 stands, by the ISA's table.
int in_panel(int row, int col) {
  return static_cast<int>(swizzle_tables().swizzled(static_cast<std::uint32_t>(row * 64 + col) * 2)) / 2;
}

template <int Rows, int Dim>
void check_places() {
  std::set<int> places;
  for (int row = 0; row < Rows; ++row) {
    for (int col = 0; col < Dim; ++col) {
      const int place = hopper::place_in_tile<Rows>(row, col);
      CHECK(place == col / 64 * Rows * 64 + in_panel(row, col % 64));
      places.insert(place);
    }
  }
  CHECK(places.size() == Rows * Dim);
  CHECK(*places.rbegin() == Rows * Dim - 1);
}

TEST_CASE("elements stand in shared memory where tensor copies put them") {
  check_places<64, 64>();
  check_places<128, 64>();
  check_places<64, 128>();
  check_places<128, 128>();
}

TEST_CASE("a descriptor has its fields where the ISA has them") {
  const std::uint64_t descriptor = hopper::matrix_descriptor(0x2c400, 0x8000, 0x400, 0x30);
  const SwizzleTables& tables = swizzle_tables();
  CHECK(tables.field(descriptor, "address") == 0x2c43);
  CHECK(tables.field(descriptor, "leading") == 0x800);
  CHECK(tables.field(descriptor, "stride") == 0x40);
  CHECK(tables.field(descriptor, "base_offset") == 0);
  CHECK(tables.field(descriptor, "swizzle") == 1);
}

TEST_CASE("a turn comes back to its place with the other parity") {
  hopper::Turn<3> turn;
  for (int step = 0; step < 20; ++step, turn.next()) {
    CHECK(turn.stage == step % 3);
    CHECK(turn.parity == static_cast<std::uint32_t>(step / 3 % 2));
  }
}

}  // namespace rondo::test
