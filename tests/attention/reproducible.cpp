/// \file
/// The same bits at every number of ranks, forward and backward, and as exact as promised.
#include "exact.hpp"

#include <rondo/mask/intervals.hpp>
#include <rondo/reproducible.hpp>
#include <rondo/sharding/striped_blocks.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace rondo::test {
namespace {

constexpr std::int64_t granule = 32;

/// Held against its definition in tests/mask.
struct Masked : intervals {
  bool expected(int b, int h, std::int64_t i, std::int64_t j) const { return rondo::allows(*this, b, h, i, j); }
};

Masked masked(const intervals& parts) {
  Masked mask;
  static_cast<intervals&>(mask) = parts;
  return mask;
}

template <class T, class P, class S>
Results<double> reproducible(const Inputs<T>& in, int ranks, const P& problem, const S& sharding, int threads = 1) {
  const Extents& e = in.extents;
  using Kernel = default_kernel<T>;
  Results<double> results = empty_results<double>(e);
  in_process_group<>(ranks, {.threads_per_rank = threads, .deadline = Deadline{60}}).run([&](auto& comm) {
    ReproducibleAttention attention{comm, shape_of(e), sharding, Kernel{}, granule};
    const ShardTable& table = attention.shards();
    const int rank = comm.rank();
    const Shard<Kernel> mine(e, attention.tokens());
    take_tokens(in.q, mine.q, table, rank);
    take_tokens(in.k, mine.k, table, rank);
    take_tokens(in.v, mine.v, table, rank);
    take_tokens(in.grad_out, mine.grad_out, table, rank);
    for (int call = 0; call < 2; ++call) {
      attention.forward(mine.q, mine.k, mine.v, mine.out, mine.lse, problem);
      attention.backward(mine.q, mine.k, mine.v, mine.out, mine.lse, mine.grad_out, mine.grad_q, mine.grad_k,
                         mine.grad_v, problem);
    }
    put_tokens(mine.out, results.out, table, rank);
    put_tokens(mine.lse, results.lse, table, rank);
    put_tokens(mine.grad_q, results.grad_q, table, rank);
    put_tokens(mine.grad_k, results.grad_k, table, rank);
    put_tokens(mine.grad_v, results.grad_v, table, rank);
  });
  return results;
}

int differing(const Results<double>& a, const Results<double>& b) {
  int count = 0;
  for_each_result(
      [&](const char*, const auto& x, const auto& y) {
        for (std::size_t i = 0; i < x.values().size(); ++i) count += x.values()[i] != y.values()[i];
      },
      a, b);
  return count;
}

template <class T>
void check_bits() {
  const Extents e{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = 24, .tokens = 301, .value_dim = 40};
  const Lengths lengths{{301, 170}};
  intervals banded = window{100, 20};
  banded &= lengths.mask();
  const auto problem = [](const intervals& mask) { return Problem{masked(mask)}; };
  for (const auto& mask : {intervals{causal{}}, intervals{}, banded}) {
    const Exactness<T, decltype(problem(mask))> exactness(e, problem(mask));
    const auto alone = reproducible<T>(exactness.inputs(), 1, problem(mask), striped_blocks{e.tokens, granule});
    INFO(precision_traits<T>::name << "\n" << exactness.ratios(alone).text());
    CHECK(exactness.ratios(alone).of_promise() <= allowed<T>);
    for (const int ranks : {2, 3, 4, 8, 10}) {
      INFO(ranks << " ranks");
      CHECK(differing(alone, reproducible<T>(exactness.inputs(), ranks, problem(mask),
                                             striped_blocks{e.tokens, granule})) == 0);
    }
    CHECK(differing(alone,
                    reproducible<T>(exactness.inputs(), 2, problem(mask), striped_blocks{e.tokens, granule}, 2)) == 0);
    // Another distribution of whole granules.
    CHECK(differing(alone,
                    reproducible<T>(exactness.inputs(), 2, problem(mask), striped_blocks{e.tokens, 2 * granule})) == 0);
    // What makes the test able to fail: the ring adds in an order that depends on the number of ranks.
    const auto ring = ring_attention<default_kernel<T>>(exactness.inputs(), {1, Layout::contiguous, 32}, problem(mask));
    CHECK(differing(ring, ring_attention<default_kernel<T>>(exactness.inputs(), {4, Layout::contiguous, 32},
                                                            problem(mask))) > 0);
  }
}

std::string refusal_of(const auto& f) {
  try {
    f();
    return {};
  } catch (const argument_error& refused) {
    return refused.what();
  }
}

}  // namespace

TEST_CASE("in float the bits are the same at 1, 2, 3, 4, 8 and 10 ranks") { check_bits<float>(); }

TEST_CASE("in bfloat16 the bits are the same at 1, 2, 3, 4, 8 and 10 ranks") { check_bits<bfloat16>(); }

TEST_CASE("a sharding that cuts granules is refused, and a granule of no tokens") {
  std::string of_cut[2], of_none[2];  // by rank: Catch2's checks are for one thread at a time
  in_process_group<>(2).run([&](auto& comm) {
    const Shape shape{.heads = 4, .head_dim = 8};
    of_cut[comm.rank()] = refusal_of([&] {
      ReproducibleAttention{comm, shape, contiguous{100}, host_kernel<float>{}, 32};
    });
    of_none[comm.rank()] = refusal_of([&] {
      ReproducibleAttention{comm, shape, striped_blocks{100, 32}, host_kernel<float>{}, 0};
    });
  });
  for (const int rank : {0, 1}) {
    CHECK(of_cut[rank] ==
          "reproducible: rank 0 holds a run of 50 tokens from 0 by 1: runs must be whole granules of 32 tokens "
          "(striped_blocks gives such)");
    CHECK(of_none[rank] == "reproducible: the granule is 0, it must be at least 1");
  }
}

}  // namespace rondo::test
