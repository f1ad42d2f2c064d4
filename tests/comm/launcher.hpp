/// \file
/// What a test of communicators needs of a transport: a launcher that runs a function on N ranks and brings back what
/// they found. The suite is a template over launchers.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/error.hpp>

#include <Kokkos_Core.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

namespace comm_test {

/// What one rank found wrong. Ranks do not call Catch2, which knows one thread of one process.
class Findings {
 public:
  void expect(bool right, const std::string& what) {
    if (!right) text_ += what + "; ";
  }
  template <class Given, class Needed>
  void equal(const Given& given, const Needed& needed, const std::string& what) {
    if (given == needed) return;
    std::ostringstream stream;
    stream << what << " is " << given << ", needed is " << needed << "; ";
    text_ += stream.str();
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

/// What the ranks of this process found, one line for each that found something: empty when all was right.
using Report = std::vector<std::string>;
inline const Report nothing;

inline Report report(const std::vector<Findings>& findings, int first_rank = 0) {
  Report lines;
  for (std::size_t i = 0; i < findings.size(); ++i) {
    if (findings[i].text().empty()) continue;
    lines.push_back("rank " + std::to_string(first_rank + static_cast<int>(i)) + ": " + findings[i].text());
  }
  return lines;
}

/// `sizes()` are the numbers of ranks that it can run; `run(ranks, work)` calls work(communicator, findings) on every
/// rank, gives back what ranks found, and throws what a rank threw.
template <class L>
concept Launcher = rondo::Communicator<typename L::communicator> &&
                   requires(void (*work)(typename L::communicator&, Findings&), int ranks) {
                     { L::sizes() } -> std::convertible_to<std::vector<int>>;
                     { L::run(ranks, work) } -> std::same_as<Report>;
                   };

template <class Comm>
using SegmentOf = rondo::Segment<typename std::remove_cvref_t<Comm>::memory_space>;
template <class Comm>
using BytesOf = typename SegmentOf<Comm>::Bytes;

/// A rank's neighbours in a ring.
template <class Comm>
int next(const Comm& comm) {
  return (comm.rank() + 1) % comm.size();
}
template <class Comm>
int previous(const Comm& comm) {
  return (comm.rank() + comm.size() - 1) % comm.size();
}

/// Memory of a communicator's space for `count` values of T, filled with what no message holds: memory that an earlier
/// message had lain in might show that one.
template <class T, class Comm>
BytesOf<Comm> room(const Comm&, std::size_t count) {
  const BytesOf<Comm> bytes(Kokkos::view_alloc(Kokkos::WithoutInitializing, "room"), count * sizeof(T));
  Kokkos::deep_copy(bytes, std::byte{0xa5});
  return bytes;
}

/// Values in memory of a communicator's space.
template <class T, class Comm>
BytesOf<Comm> packed(const Comm& comm, const std::vector<T>& values) {
  const auto bytes = room<T>(comm, values.size());
  if (values.empty()) return bytes;
  const auto host = Kokkos::create_mirror_view(bytes);
  std::memcpy(host.data(), values.data(), bytes.size());
  Kokkos::deep_copy(comm.execution_instance(), bytes, host);
  comm.execution_instance().fence();
  return bytes;
}

/// The values that lie in bytes.
template <class T, class Bytes>
std::vector<T> unpacked(const Bytes& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (values.empty()) return values;
  const auto host = Kokkos::create_mirror_view(bytes);
  Kokkos::deep_copy(host, bytes);
  std::memcpy(values.data(), host.data(), bytes.size());
  return values;
}

/// `count` numbers that no other (sender, message) has.
inline std::vector<std::uint64_t> marked(int sender, int message, std::size_t count) {
  std::vector<std::uint64_t> values(count);
  const std::uint64_t mark = static_cast<std::uint64_t>(sender) << 56 | static_cast<std::uint64_t>(message) << 48;
  for (std::size_t i = 0; i < count; ++i) values[i] = mark | i;
  return values;
}

}  // namespace comm_test
