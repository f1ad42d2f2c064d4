/// \file
/// A message that is longer than MPI can count, for real: 2^31 bytes and some more from one process to another.
#include "world.hpp"

#include <catch2/catch_message.hpp>
#include <catch2/catch_test_macros.hpp>

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <span>
#include <string>

namespace rondo::test {
namespace {

using Bytes = Segment<any_communicator::memory_space>::Bytes;

constexpr std::size_t length = (std::size_t{1} << 31) + (std::size_t{1} << 20) + 13;

/// What /proc/meminfo says is available, in bytes; more than there can be where nobody says.
std::int64_t available_memory() {
  std::ifstream in("/proc/meminfo");
  for (std::string name, unit; in >> name;) {
    std::int64_t kilobytes = 0;
    if (in >> kilobytes && name == "MemAvailable:") return 1024 * kilobytes;
    std::getline(in, unit);
  }
  return std::numeric_limits<std::int64_t>::max();
}

/// The eight bytes at 8 · index: others everywhere, and for every mark.
constexpr std::uint64_t word(std::size_t index, std::uint64_t mark) { return (index + mark) * 0x9e3779b97f4a7c15u; }

void fill(const Bytes& bytes, std::uint64_t mark) {
  for (std::size_t at = 0; at < length; at += 8) {
    const std::uint64_t value = word(at / 8, mark);
    std::memcpy(bytes.data() + at, &value, std::min<std::size_t>(8, length - at));
  }
}

/// The first place that holds another byte than it should, or `length`.
std::size_t first_wrong(const Bytes& bytes, std::uint64_t mark) {
  for (std::size_t at = 0; at < length; at += 8) {
    const std::uint64_t value = word(at / 8, mark);
    if (std::memcmp(bytes.data() + at, &value, std::min<std::size_t>(8, length - at)) != 0) return at;
  }
  return length;
}

}  // namespace

TEST_CASE("A message of more than 2^31 bytes arrives whole") {
  constexpr std::int64_t needed = std::int64_t{6} << 30;  // a sender's, a receiver's, and what MPI may take
  std::int64_t available = available_memory();
  any_communicator(world()).all_reduce(std::span{&available, 1}, Reduction::minimum);
  if (available < needed) {
    SKIP("large messages are left out: " << (available >> 20) << " MiB of memory are available, needed are "
                                         << (needed >> 20));
  }
  const Bytes bytes(Kokkos::view_alloc(Kokkos::WithoutInitializing, "large"), length);
  const bool sends = world_rank() == 0;
  // In the slices of the default, and in the longest that there are.
  for (const std::size_t slice_bytes : {MpiOptions{}.slice_bytes, (std::size_t{1} << 31) - 1}) {
    any_communicator comm = world({.deadline = Deadline{60}, .slice_bytes = slice_bytes});
    const std::uint64_t mark = slice_bytes;
    if (sends) fill(bytes, mark);
    comm.barrier();
    const Segment<any_communicator::memory_space> segments[] = {
        {sends ? Direction::send : Direction::receive, 1 - world_rank(), bytes}};
    comm.exchange(comm.execution_instance(), segments).wait();
    INFO("slices of " << slice_bytes << " bytes");
    if (!sends) CHECK(first_wrong(bytes, mark) == length);
    comm.barrier();
  }
}

}  // namespace rondo::test
