/// \file
/// Attention of some rows only, over keys that come piece by piece; and rows that see nothing of a piece left out.
#include <support/temporary_directory.hpp>

#include <rondo/mapped_source.hpp>
#include <rondo/rondo.hpp>
#include <rondo/source.hpp>

#include <Kokkos_Core.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace rondo::test {
namespace {

using View4 = Kokkos::View<float****, Kokkos::LayoutRight, Kokkos::HostSpace>;
using View3 = Kokkos::View<float***, Kokkos::LayoutRight, Kokkos::HostSpace>;
using Kernel = default_kernel<float, Kokkos::DefaultHostExecutionSpace>;
using Group = in_process_group<Kokkos::DefaultHostExecutionSpace>;

/// Any number in [-1, 1) for a place.
float value(std::uint64_t which, std::int64_t token, int head, int d) {
  std::uint64_t x = which * 0x9e3779b97f4a7c15u + static_cast<std::uint64_t>(token) * 0xbf58476d1ce4e5b9u +
                    static_cast<std::uint64_t>(head * 1000 + d) * 0x94d049bb133111ebu;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return static_cast<float>(static_cast<double>(x >> 11) * 0x1p-52 - 1);
}

constexpr int heads = 2, dim = 8;
const Shape shape{.heads = heads, .kv_heads = 1, .head_dim = dim};

void fill(const Part& part, const auto& k, const auto& v) {
  for (std::int64_t i = 0; i < part.tokens.count; ++i) {
    for (int d = 0; d < dim; ++d) {
      k(0, i, 0, d) = 3 * value(1, part.tokens.at(i), 0, d);
      v(0, i, 0, d) = value(2, part.tokens.at(i), 0, d);
    }
  }
}

/// Output and lse of a query, in double, over all keys up to `last`.
std::vector<double> expected(std::int64_t query, int head, std::int64_t last) {
  double l = 0;
  std::vector<double> row(dim + 1);
  for (std::int64_t key = 0; key <= last; ++key) {
    double score = 0;
    for (int d = 0; d < dim; ++d) {
      score += static_cast<double>(value(3, query, head, d)) * static_cast<double>(3 * value(1, key, 0, d));
    }
    const double p = std::exp(score / std::sqrt(double{dim}));
    l += p;
    for (int d = 0; d < dim; ++d) row[static_cast<std::size_t>(d)] += p * static_cast<double>(value(2, key, 0, d));
  }
  for (double& x : row) x /= l;
  row[dim] = std::log(l);
  return row;
}

/// A few queries, shared among the ranks, over many keys, under a mask.
template <class Sharding, class M, class MakeSource>
void check_rows(const Sharding& keys, int ranks, std::int64_t total, const M& mask, bool is_causal,
                const MakeSource& make_source) {
  Group(ranks, {.deadline = Deadline{60}}).run([&](auto& comm) {
    RingAttention attention{comm, shape, cross{contiguous{11}, keys}, Kernel{}, Options{.chunk = 100}};
    const std::int64_t rows = attention.tokens();
    View4 q("q", 1, rows, heads, dim), out("out", 1, rows, heads, dim);
    const View3 lse("lse", 1, heads, rows);
    attention.shards().for_each_token(comm.rank(), [&](std::int64_t query, std::int64_t i) {
      for (int h = 0; h < heads; ++h) {
        for (int d = 0; d < dim; ++d) q(0, i, h, d) = value(3, query, h, d);
      }
    });
    auto source = make_source(attention);
    attention.forward(comm.execution_instance(), q, source, out, lse, Problem{mask});
    attention.shards().for_each_token(comm.rank(), [&](std::int64_t query, std::int64_t i) {
      for (int h = 0; h < heads; ++h) {
        const auto row = expected(query, h, is_causal ? query : total - 1);
        for (int d = 0; d < dim; ++d) {
          const double right = row[static_cast<std::size_t>(d)], found = static_cast<double>(out(0, i, h, d));
          if (std::abs(found - right) > 2e-6) {
            throw std::runtime_error("query " + std::to_string(query) + ": " + std::to_string(found) + " is not " +
                                     std::to_string(right));
          }
        }
        if (std::abs(static_cast<double>(lse(0, h, i)) - row[dim]) > 2e-6) throw std::runtime_error("lse");
      }
    });
    // The workspace is that of the rows, not of the keys.
    if (attention.workspace_bytes() > std::size_t{100'000}) throw std::runtime_error("the workspace grows with keys");
  });
}

TEST_CASE("some rows attend to all ranks' keys, which are made piece by piece while the ring computes") {
  std::atomic<int> filled = 0;
  const auto streamed = [&](auto& attention) {
    return make_streamed_source<float>(shape, attention.chunk(), [&](const Part& part, const auto& k, const auto& v) {
      ++filled;
      fill(part, k, v);
    });
  };
  CHECK_NOTHROW(check_rows(contiguous{1234}, 3, 1234, full{}, false, streamed));
  CHECK(filled == 3 * 5);  // every piece once: 412, 411 and 411 tokens by hundreds
  CHECK_NOTHROW(check_rows(striped{1234}, 4, 1234, causal{}, true, streamed));
}

/// Views of a rank's whole shard.
struct Held {
  View4 k, v;
  tensor_source<float, Kokkos::HostSpace> source{k, v};
  auto part(const Kokkos::DefaultHostExecutionSpace& exec, const Part& part) { return source.part(exec, part); }
  void expect(const Part& part) { source.expect(part); }
};

TEST_CASE("keys and values in memory are a source too") {
  const auto held = [](auto& attention) {
    const View4 k("k", 1, attention.key_tokens(), 1, dim), v("v", 1, attention.key_tokens(), 1, dim);
    const Run& run = attention.key_shards().runs(0)[0];
    fill({run, 0}, k, v);
    return Held{k, v};
  };
  CHECK_NOTHROW(check_rows(contiguous{700}, 1, 700, full{}, false, held));
}

TEST_CASE("keys and values in a file are read where they lie, by every sharding; a file that is too short is refused") {
  constexpr std::int64_t total = 700, before = 9;  // the sequence begins at token 9 of the file
  const TemporaryDirectory place;
  std::string bytes(64, 'x');
  for (const std::uint64_t which : {1, 2}) {
    for (std::int64_t token = -before; token < total; ++token) {
      float row[dim];
      for (int d = 0; d < dim; ++d) row[d] = (which == 1 ? 3.0f : 1.0f) * (token < 0 ? 99 : value(which, token, 0, d));
      bytes.append(reinterpret_cast<const char*>(row), sizeof row);
    }
  }
  write_file(place / "kv", bytes);
  constexpr std::uint64_t tensor = (total + before) * dim * sizeof(float);
  const auto open_file = [&](std::uint64_t values_at, std::int64_t tokens) {
    return mapped_source<float>(place / "kv", shape, tokens, 64, values_at, before);
  };
  const auto mapped = [&](auto&) { return open_file(64 + tensor, total + before); };
  CHECK_NOTHROW(check_rows(contiguous{total}, 3, total, full{}, false, mapped));
  CHECK_NOTHROW(check_rows(striped{total}, 4, total, causal{}, true, mapped));
  CHECK_THROWS_AS(check_rows(contiguous{total + 1}, 3, total + 1, full{}, false, mapped), argument_error);
  CHECK_THROWS_AS(open_file(64 + tensor + 4, total + before), argument_error);
  CHECK_THROWS_AS(open_file(63 + tensor, total + before), argument_error);
  CHECK_THROWS_AS(mapped_source<float>(place / "none", shape, 1, 0, 0), argument_error);
}

TEST_CASE("what a source throws ends the call on every rank") {
  const auto broken = [](auto& attention) {
    return make_streamed_source<float>(shape, attention.chunk(), [](const Part& part, const auto& k, const auto& v) {
      if (part.tokens.first > 500) throw std::runtime_error("the disk is gone");
      fill(part, k, v);
    });
  };
  try {
    check_rows(contiguous{1234}, 3, 1234, full{}, false, broken);
    FAIL("nothing was thrown");
  } catch (const std::exception& exception) {
    CHECK(std::string(exception.what()) == "the disk is gone");
  }
}

/// Documents whose pieces are all sent round, so that sums have one order; and the same without a word on whole tiles.
struct all_sent : document {
  static constexpr int code = 98;
  static constexpr bool sends_all = true;
};
struct blunt : all_sent {
  static constexpr int code = 99;
  Coverage coverage(int, int, const Run&, const Run&) const { return Coverage::some; }
};

/// Every rank's results of forward and backward over packed documents, one after the other.
template <class M>
std::vector<float> packed_results(std::int64_t total, int ranks, const M& mask, std::int64_t chunk) {
  std::vector<std::vector<float>> results(static_cast<std::size_t>(ranks));
  Group(ranks, {.deadline = Deadline{60}}).run([&](auto& comm) {
    RingAttention attention{comm, Shape{.heads = 1, .head_dim = 4}, contiguous{total}, Kernel{},
                            Options{.chunk = chunk}};
    const std::int64_t tokens = attention.tokens();
    View4 x[8];
    for (int which = 0; which < 8; ++which) {
      x[which] = View4("x", 1, tokens, 1, 4);
      attention.shards().for_each_token(comm.rank(), [&](std::int64_t position, std::int64_t row) {
        for (int d = 0; d < 4; ++d) x[which](0, row, 0, d) = value(static_cast<std::uint64_t>(which), position, 0, d);
      });
    }
    const View3 lse("lse", 1, 1, tokens);
    const auto& [q, k, v, grad, out, grad_q, grad_k, grad_v] = x;
    attention.forward(q, k, v, out, lse, Problem{mask});
    attention.backward(q, k, v, out, lse, grad, grad_q, grad_k, grad_v, Problem{mask});
    auto& mine = results[static_cast<std::size_t>(comm.rank())];
    for (const View4& view : {out, grad_q, grad_k, grad_v})
      mine.insert(mine.end(), view.data(), view.data() + view.size());
    mine.insert(mine.end(), lse.data(), lse.data() + lse.size());
  });
  std::vector<float> all;
  for (const auto& mine : results) all.insert(all.end(), mine.begin(), mine.end());
  return all;
}

TEST_CASE("leaving out rows that see nothing of a piece changes no bit") {
  const std::int64_t total = 9000;
  const Documents<Kokkos::HostSpace> documents({0, 700, 701, 2500, 4000, 4444, 8200, 9000});
  const all_sent mask{documents.mask()};
  for (const int ranks : {1, 3}) {
    for (const std::int64_t chunk : {1000, 512}) {
      INFO(ranks << " ranks, chunk " << chunk);
      CHECK(packed_results(total, ranks, mask, chunk) == packed_results(total, ranks, blunt{mask}, chunk));
    }
  }
}

TEST_CASE("the rows that see a piece are found, to within a step") {
  const auto seen = [](const auto& mask, const Run& queries, const Run& keys) {
    Run result{-1, 1, 0};
    detail::for_seen_rows(mask, 1, 1, queries, 10, keys, [&](const Run& run, std::int64_t row) {
      CHECK(row - 10 == (run.first - queries.first) / queries.stride);
      result = run;
    });
    return result;
  };
  const Run queries{0, 1, 100'000};
  CHECK(seen(full{}, queries, {5, 1, 10}) == queries);
  CHECK(seen(causal{}, queries, {50'000, 1, 10}) == Run{65 * 768, 1, 100'000 - 65 * 768});
  CHECK(seen(window{100, 0}, queries, {50'000, 1, 10}) == Run{65 * 768, 1, 768});
  CHECK(seen(causal{}, queries, {200'000, 1, 10}).count == 0);
  CHECK(seen(full{}, queries, {0, 1, 0}).count == 0);
  CHECK(seen(full{}, {0, 1, 0}, queries).count == 0);
}

}  // namespace
}  // namespace rondo::test
