/// \file
/// Tables of which lane has which element of a matrix, as those say who made the instructions, read from a file: the meaning of
/// the instructions, in the simulation, is taken from there and not from the kernel's own mappings.
#pragma once

#include <rondo/kernel/mma/fragments.hpp>

#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace rondo::test {

/// Where a lane's element stands, by lane and element.
struct FragmentTable {
  int elements;
  std::vector<mma::Place> places;
  const mma::Place& at(int lane, int element) const {
    return places.at(static_cast<std::size_t>(lane * elements + element));
  }
};

inline std::map<std::string, FragmentTable> read_fragment_tables(const std::string& path, int lanes = mma::warp_lanes) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("no tables in " + path);
  std::map<std::string, FragmentTable> tables;
  std::string line;
  while (std::getline(file, line)) {
    if (line.empty() || line[0] == '#') continue;
    std::string name;
    int rows = 0, cols = 0;
    std::istringstream(line) >> name >> rows >> cols;
    FragmentTable table{rows * cols / lanes, {}};
    table.places.assign(static_cast<std::size_t>(rows * cols), {-1, -1});
    for (int row = 0; row < rows; ++row) {
      std::getline(file, line);
      std::istringstream words(line);
      for (int col = 0; col < cols; ++col) {
        int lane = -1, element = -1;
        char colon = 0;
        words >> lane >> colon >> element;
        table.places.at(static_cast<std::size_t>(lane * table.elements + element)) = {row, col};
      }
    }
    for (const mma::Place& place : table.places) {
      if (place.row < 0) throw std::runtime_error("table " + name + " leaves an element out");
    }
    tables.emplace(name, table);
  }
  return tables;
}

}  // namespace rondo::test
