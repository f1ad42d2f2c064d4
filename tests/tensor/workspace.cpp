#include <rondo/workspace.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace {

using Host = Kokkos::HostSpace;
using rondo::Workspace;
using rondo::WorkspaceLayout;

TEST_CASE("Parts of a workspace start at multiples of 128 bytes and do not meet") {
  WorkspaceLayout layout;
  std::vector<std::pair<std::size_t, std::size_t>> parts;
  std::size_t needed = 0;
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{0}, std::size_t{127}, std::size_t{128}, std::size_t{129},
                                  std::size_t{0}, std::size_t{4000}}) {
    const std::size_t offset = layout.add(bytes);
    CHECK(offset % 128 == 0);
    for (const auto& [begin, size] : parts) CHECK((offset >= begin + size || offset + bytes <= begin));
    parts.emplace_back(offset, bytes);
    needed += (bytes + 127) / 128 * 128;
    CHECK(layout.bytes() == needed);
    CHECK(offset + bytes <= layout.bytes());
  }
}

TEST_CASE("A layout without parts needs no memory") { CHECK(WorkspaceLayout{}.bytes() == 0); }

TEST_CASE("What is written to a part by its type is what its bytes are sent as") {
  const Workspace<Host> workspace(512);
  *workspace.at<double>(256) = 1.5;
  const auto bytes = workspace.bytes(256, sizeof(double));
  CHECK(bytes.size() == sizeof(double));
  CHECK(*reinterpret_cast<const double*>(bytes.data()) == 1.5);
  CHECK(workspace.bytes(512, 0).size() == 0);
}

TEST_CASE("Bytes on their way keep the whole workspace alive") {
  Workspace<Host>::Bytes in_flight;
  {
    const Workspace<Host> workspace(256);
    in_flight = workspace.bytes(128, 64);
    CHECK(in_flight.use_count() == 2);
  }
  CHECK(in_flight.use_count() == 1);
  in_flight(63) = std::byte{42};
  CHECK(in_flight(63) == std::byte{42});
}

}  // namespace
