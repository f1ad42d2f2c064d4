/// \file
/// What the PTX ISA says of warp groups, read from ptx_wgmma.txt and ptx_swizzle.txt: in the simulation, instructions
/// mean what is written there and not what the kernel's own mappings say.
#pragma once

#include <kernel/mma/tables.hpp>

#include <rondo/kernel/hopper/layout.hpp>

#include <array>
#include <cstdint>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace rondo::test {

/// Fragments of a warp group: "A" and "D".
inline const FragmentTable& group_table(const std::string& name) {
  static const auto tables = read_fragment_tables(RONDO_PTX_WGMMA, hopper::group_lanes);
  return tables.at(name);
}

/// Where a lane's sum stands in D, 64 x N, for any N.
inline mma::Place place_in_sums(int lane, int element) {
  static const FragmentTable& table = group_table("D");
  const mma::Place& place = table.at(lane, element % 8);
  return {place.row, place.col + element / 8 * 16};
}

struct SwizzleTables {
  std::array<std::array<int, 8>, 8> place{};  ///< of a group of 16 bytes, by line of 128 bytes and group
  std::map<std::string, std::pair<int, int>> fields;

  std::uint64_t field(std::uint64_t descriptor, const std::string& name) const {
    const auto [first, bits] = fields.at(name);
    return descriptor >> first & ((std::uint64_t{1} << bits) - 1);
  }
  /// Where the byte at an address stands under the 128-byte swizzle.
  std::uint32_t swizzled(std::uint32_t address) const {
    return address / 128 * 128 + static_cast<std::uint32_t>(place[address / 128 % 8][address / 16 % 8]) * 16 +
           address % 16;
  }
};

inline const SwizzleTables& swizzle_tables() {
  static const SwizzleTables tables = [] {
    std::ifstream file(RONDO_PTX_SWIZZLE);
    SwizzleTables read;
    std::string line, part;
    for (int row = 0; std::getline(file, line);) {
      if (line.empty() || line[0] == '#') continue;
      std::istringstream words(line);
      if (line == "swizzle" || line == "descriptor") {
        part = line;
      } else if (part == "swizzle") {
        for (int at = 0, group = 0; at < 8 && words >> group; ++at) read.place.at(row).at(group) = at;
        ++row;
      } else {
        std::string name;
        words >> name;
        words >> read.fields[name].first >> read.fields[name].second;
      }
    }
    if (read.fields.size() != 5 || read.place[7][0] != 7) throw std::runtime_error("no tables in " RONDO_PTX_SWIZZLE);
    return read;
  }();
  return tables;
}

}  // namespace rondo::test
