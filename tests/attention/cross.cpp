/// \file
/// Cross attention: queries of one sequence, keys of another, in shardings of
/// their own, against the oracle.
#include "exact.hpp"

#include <rondo/mask/intervals.hpp>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace rondo::test {
namespace {

/// As self-attention of the longer sequence, of which there are only so many
/// queries and keys.
struct Crossed : intervals {
  std::int64_t queries = 0;
  std::int64_t keys_held = 0;
  bool expected(int b, int h, std::int64_t i, std::int64_t j) const {
    return i < queries && j < keys_held && rondo::allows(static_cast<const intervals&>(*this), b, h, i, j);
  }
};

struct Case {
  std::int64_t queries, keys;
  int ranks;
  Layout query_layout, key_layout;
  std::int64_t chunk;
  int value_dim = 16;
};

void check(const std::string& kind, const intervals& mask, const Case& c) {
  const Extents e{.batch = 4,
                  .heads = 4,
                  .kv_heads = 2,
                  .head_dim = 16,
                  .tokens = std::max(c.queries, c.keys),
                  .value_dim = c.value_dim};
  const Problem problem{Crossed{mask, c.queries, c.keys}};
  const Exactness<float, Problem<Crossed>> exactness(e, problem);
  const Inputs<float>& in = exactness.inputs();
  Results<double> results = empty_results<double>(e);
  for (double& x : results.lse.values()) x = -std::numeric_limits<double>::infinity();
  in_process_group<>(c.ranks, {.deadline = Deadline{30}}).run([&](auto& comm) {
    const cross sharding{sharding_of(c.query_layout, c.queries), sharding_of(c.key_layout, c.keys)};
    RingAttention attention{comm, shape_of(e), sharding, default_kernel<float>{}, Options{.chunk = c.chunk}};
    const int rank = comm.rank();
    using Held = Shard<default_kernel<float>>;
    const Held of_queries(e, attention.tokens()), of_keys(e, attention.key_tokens());
    take_tokens(in.q, of_queries.q, attention.shards(), rank);
    take_tokens(in.grad_out, of_queries.grad_out, attention.shards(), rank);
    take_tokens(in.k, of_keys.k, attention.key_shards(), rank);
    take_tokens(in.v, of_keys.v, attention.key_shards(), rank);
    attention.forward(of_queries.q, of_keys.k, of_keys.v, of_queries.out, of_queries.lse, problem);
    attention.backward(of_queries.q, of_keys.k, of_keys.v, of_queries.out, of_queries.lse, of_queries.grad_out,
                       of_queries.grad_q, of_keys.grad_k, of_keys.grad_v, problem);
    put_tokens(of_queries.out, results.out, attention.shards(), rank);
    put_tokens(of_queries.lse, results.lse, attention.shards(), rank);
    put_tokens(of_queries.grad_q, results.grad_q, attention.shards(), rank);
    put_tokens(of_keys.grad_k, results.grad_k, attention.key_shards(), rank);
    put_tokens(of_keys.grad_v, results.grad_v, attention.key_shards(), rank);
  });
  const ErrorRatios ratios = exactness.ratios(results);
  INFO(kind << ", " << c.queries << " queries, " << c.keys << " keys, " << c.ranks << " ranks\n" << ratios.text());
  CHECK(ratios.of_promise() <= 1);
}

}  // namespace

TEST_CASE(
    "queries of one sequence attend to keys of another, longer or "
    "shorter, over any two shardings") {
  for (const int ranks : {1, 3, 4}) {
    for (const std::int64_t chunk : {9, 4096}) {
      for (const auto& [queries, keys] :
           {std::pair<std::int64_t, std::int64_t>{37, 101}, {101, 37}, {40, 2}, {2, 50}}) {
        for (const Layout of_queries : all_layouts) {
          const Layout of_keys = of_queries == Layout::contiguous ? Layout::striped : Layout::contiguous;
          const Case c{queries, keys, ranks, of_queries, of_keys, chunk};
          check("full", full{}, c);
          check("causal", causal{}, c);
          check("a window", window{20, 5}, c);
          if (queries > 2 && keys > 2)
            check("narrow values", causal{}, {queries, keys, ranks, of_queries, of_keys, chunk, 6});
        }
      }
    }
  }
}

TEST_CASE("queries that find no keys at all give 0, -inf and no gradient") {
  check("no keys", full{}, {20, 0, 3, Layout::striped, Layout::contiguous, 9});
  check("no queries", full{}, {0, 20, 3, Layout::striped, Layout::contiguous, 9});
}

TEST_CASE("tensors and masks of the wrong sequence are refused") {
  std::vector<std::string> refusals[2];  // by rank: Catch2's checks are for one thread at a time
  in_process_group<>(2).run([&](auto& comm) {
    const Extents e{.batch = 1, .heads = 1, .kv_heads = 1, .head_dim = 4, .tokens = 20};
    RingAttention attention{comm, shape_of(e), cross{contiguous{8}, contiguous{20}}};
    const Shard<default_kernel<float>> four(e, 4), ten(e, 10);
    const auto refusal = [&](const auto& f) {
      try {
        f();
        refusals[comm.rank()].push_back({});
      } catch (const argument_error& refused) {
        refusals[comm.rank()].push_back(refused.what());
      }
    };
    refusal([&] { attention.forward(four.q, four.k, four.v, four.out, four.lse); });
    refusal([&] { attention.forward(ten.q, ten.k, ten.v, ten.out, ten.lse); });
    const Documents documents{{0, 3, 20}};
    refusal([&] { attention.forward(four.q, ten.k, ten.v, four.out, four.lse, Problem{intervals{documents.mask()}}); });
  });
  for (const std::vector<std::string>& said : refusals) {
    REQUIRE(said.size() == 3);
    CHECK(said[0] ==
          "k has shape [1, 4, 1, 4], needed is [batch, sequence, "
          "kv_heads, head_dim] = [1, 10, 1, 4]");
    CHECK(said[1] ==
          "q has shape [1, 10, 1, 4], needed is [batch, sequence, heads, "
          "head_dim] = [1, 4, 1, 4]");
    CHECK(said[2] ==
          "document: the offsets of batch entry 0 end at 20, there are 8 "
          "queries and 20 keys");
  }
}

}  // namespace rondo::test
