#include <rondo/comm/in_process.hpp>
#include <rondo/sharding/contiguous.hpp>
#include <rondo/sharding/shard.hpp>
#include <rondo/sharding/striped.hpp>
#include <rondo/sharding/zigzag.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace {

using Catch::Matchers::Message;
using rondo::argument_error;
using rondo::contiguous;
using rondo::in_process_group;
using rondo::shape_error;
using rondo::ShardTable;
using rondo::striped;
using rondo::zigzag;

using Host = Kokkos::HostSpace;
template <class T>
using Rank4 = Kokkos::View<T****, Kokkos::LayoutRight, Host>;
template <class T>
using Rank3 = Kokkos::View<T***, Kokkos::LayoutRight, Host>;

constexpr int batch = 2;
constexpr int heads = 3;
constexpr int dim = 4;

/// A number that says where it belongs: token, batch, head and element.
double label(std::int64_t token, int b, int h, int d) {
  return static_cast<double>(token) * 1000 + b * 100 + h * 10 + d;
}

Rank4<double> labelled(std::int64_t tokens) {
  const Rank4<double> x("whole", batch, static_cast<std::size_t>(tokens), heads, dim);
  for (int b = 0; b < batch; ++b) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (int h = 0; h < heads; ++h) {
        for (int d = 0; d < dim; ++d) x(b, t, h, d) = label(t, b, h, d);
      }
    }
  }
  return x;
}

Rank3<float> labelled_rows(std::int64_t tokens) {
  const Rank3<float> x("whole", batch, heads, static_cast<std::size_t>(tokens));
  for (int b = 0; b < batch; ++b) {
    for (int h = 0; h < heads; ++h) {
      for (std::int64_t t = 0; t < tokens; ++t) x(b, h, t) = static_cast<float>(label(t, b, h, 0));
    }
  }
  return x;
}

template <class View>
bool equal(const View& a, const View& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a.data()[i] != b.data()[i]) return false;
  }
  return true;
}

/// The tables of the three shardings.
std::vector<ShardTable> tables(std::int64_t tokens, int ranks) {
  return {ShardTable(contiguous{tokens}, ranks), ShardTable(striped{tokens}, ranks), ShardTable(zigzag{tokens}, ranks)};
}

TEST_CASE("A shard holds its rank's tokens in the order of its runs") {
  const int ranks = GENERATE(1, 2, 3, 4, 7);
  const std::int64_t tokens = GENERATE(0, 1, 5, 17);
  const auto whole = labelled(tokens);
  const auto whole_rows = labelled_rows(tokens);
  for (const ShardTable& table : tables(tokens, ranks)) {
    for (int rank = 0; rank < ranks; ++rank) {
      const auto count = static_cast<std::size_t>(table.tokens(rank));
      const Rank4<double> part("part", batch, count, heads, dim);
      const Rank3<float> part_rows("part", batch, heads, count);
      rondo::shard(whole, part, table, rank);
      rondo::shard<2>(whole_rows, part_rows, table, rank);
      bool right = true;
      std::int64_t row = 0;
      for (const rondo::Run& run : table.runs(rank)) {
        for (std::int64_t i = 0; i < run.count; ++i, ++row) {
          for (int b = 0; b < batch; ++b) {
            for (int h = 0; h < heads; ++h) {
              const std::int64_t token = run.first + run.stride * i;
              right = right && part_rows(b, h, row) == static_cast<float>(label(token, b, h, 0));
              for (int d = 0; d < dim; ++d) right = right && part(b, row, h, d) == label(token, b, h, d);
            }
          }
        }
      }
      CHECK(right);
    }
  }
}

TEST_CASE("Unsharding what was sharded gives the whole sequence back") {
  const int ranks = GENERATE(1, 2, 3, 4, 7);
  const std::int64_t tokens = GENERATE(0, 1, 5, 17);
  const auto whole = labelled(tokens);
  const auto whole_rows = labelled_rows(tokens);
  for (const ShardTable& table : tables(tokens, ranks)) {
    const Rank4<double> again("again", batch, static_cast<std::size_t>(tokens), heads, dim);
    const Rank3<float> rows_again("again", batch, heads, static_cast<std::size_t>(tokens));
    for (int rank = 0; rank < ranks; ++rank) {
      const auto count = static_cast<std::size_t>(table.tokens(rank));
      const Rank4<double> part("part", batch, count, heads, dim);
      const Rank3<float> part_rows("part", batch, heads, count);
      rondo::shard(whole, part, table, rank);
      rondo::shard<2>(whole_rows, part_rows, table, rank);
      rondo::unshard(part, again, table, rank);
      rondo::unshard<2>(part_rows, rows_again, table, rank);
    }
    CHECK(equal(whole, again));
    CHECK(equal(whole_rows, rows_again));
  }
}

TEST_CASE("Gathering the shards puts the whole sequence together on every rank") {
  const int ranks = GENERATE(1, 2, 3, 4, 7);
  const std::int64_t tokens = GENERATE(0, 1, 5, 17);
  const auto whole = labelled(tokens);
  const auto whole_rows = labelled_rows(tokens);
  for (const ShardTable& table : tables(tokens, ranks)) {
    std::atomic<int> right{0};
    in_process_group(ranks, {.deadline = rondo::Deadline(30)}).run([&](auto& comm) {
      const auto count = static_cast<std::size_t>(table.tokens(comm.rank()));
      // A part with padding between its tokens: contiguous memory is not needed.
      const Rank4<double> padded("part", batch, count, heads + 1, dim);
      const auto part = Kokkos::subview(padded, Kokkos::ALL, Kokkos::ALL, std::pair{0, heads}, Kokkos::ALL);
      const Rank3<float> part_rows("part", batch, heads, count);
      rondo::shard(whole, part, table, comm.rank());
      rondo::shard<2>(whole_rows, part_rows, table, comm.rank());
      const Rank4<double> again("again", batch, static_cast<std::size_t>(tokens), heads, dim);
      const Rank3<float> rows_again("again", batch, heads, static_cast<std::size_t>(tokens));
      rondo::gather(comm, part, again, table);
      rondo::gather<2>(comm, part_rows, rows_again, table);
      if (equal(whole, again) && equal(whole_rows, rows_again)) ++right;
    });
    CHECK(right == ranks);
  }
}

TEST_CASE("Cutting a sequence that does not fit the table is refused, saying what was given and what is needed") {
  const ShardTable table(striped{10}, 3);
  const auto whole = labelled(10);
  const Rank4<double> part("part", batch, 4, heads, dim);
  CHECK_NOTHROW(rondo::shard(whole, part, table, 0));
  CHECK_THROWS_MATCHES(rondo::shard(whole, part, table, 1), shape_error,
                       Message("shard: the part of rank 1 has shape [2, 4, 3, 4], needed is [2, 3, 3, 4]"));
  CHECK_THROWS_MATCHES(rondo::shard(whole, part, table, 3), argument_error,
                       Message("shard: rank 3 does not exist, there are 3 ranks"));
  CHECK_THROWS_MATCHES(rondo::shard(whole, part, table, -1), argument_error,
                       Message("shard: rank -1 does not exist, there are 3 ranks"));
  CHECK_THROWS_MATCHES(rondo::shard(labelled(11), part, table, 0), shape_error,
                       Message("shard: the whole has 11 tokens along axis 1, the sharding 10"));
  CHECK_THROWS_MATCHES(rondo::shard<2>(labelled_rows(9), Rank3<float>("part", batch, heads, 4), table, 0), shape_error,
                       Message("shard: the whole has 9 tokens along axis 2, the sharding 10"));
  const Rank4<double> other_heads("part", batch, 4, heads + 1, dim);
  CHECK_THROWS_MATCHES(rondo::unshard(other_heads, whole, table, 0), shape_error,
                       Message("shard: the part of rank 0 has shape [2, 4, 4, 4], needed is [2, 4, 3, 4]"));
}

/// Calls gather on every rank with this table and parts of `rows` rows; the messages of what it threw.
template <class Error>
std::vector<std::string> refusals(int ranks, const ShardTable& table, std::size_t rows) {
  std::vector<std::string> messages(static_cast<std::size_t>(ranks));
  in_process_group(ranks, {.deadline = rondo::Deadline(5)}).run([&](auto& comm) {
    const Rank4<double> part("part", batch, rows, heads, dim);
    const Rank4<double> whole("whole", batch, 10, heads, dim);
    try {
      rondo::gather(comm, part, whole, table);
    } catch (const Error& error) {
      messages[static_cast<std::size_t>(comm.rank())] = error.what();
    }
    comm.barrier();
  });
  return messages;
}

TEST_CASE("Gathering parts that do not fit is refused before anything is sent") {
  CHECK(refusals<shape_error>(2, ShardTable(contiguous{10}, 2), 6) ==
        std::vector<std::string>{"shard: the part of rank 0 has shape [2, 6, 3, 4], needed is [2, 5, 3, 4]",
                                 "shard: the part of rank 1 has shape [2, 6, 3, 4], needed is [2, 5, 3, 4]"});
}

TEST_CASE("Gathering with the table of another number of ranks is refused before anything is sent") {
  CHECK(refusals<argument_error>(3, ShardTable(contiguous{10}, 2), 5) ==
        std::vector<std::string>(3, "gather: the table is of 2 ranks, the communicator has 3"));
  // Without the check the first two of five shards would pass for the whole.
  CHECK(refusals<argument_error>(2, ShardTable(contiguous{10}, 5), 2) ==
        std::vector<std::string>(2, "gather: the table is of 5 ranks, the communicator has 2"));
}

}  // namespace
