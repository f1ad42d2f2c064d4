/// \file
/// Ring attention over MPI processes: as exact as promised, and the same bits as over threads.
#include "world.hpp"

#include <support/exactness.hpp>
#include <support/faults.hpp>

#include <catch2/catch_test_macros.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace rondo::test {
namespace {

constexpr Extents sequence{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = 16, .tokens = 101};

/// Forward and backward over all processes; every one gets the whole results.
template <class Kernel, class P, class Wrap = decltype(unwrapped)>
Results<double> over_mpi(const Inputs<typename Kernel::value_type>& in, const Ring& ring, const P& problem,
                         const Kernel& kernel, const Wrap& wrap = unwrapped) {
  any_communicator comm = world({.deadline = Deadline{60}});
  Results<double> results = empty_results<double>(in.extents);
  auto&& wrapped = wrap(comm);
  ring_rank(wrapped, in, ring, problem, kernel, results, nullptr);
  // Every token's results are one rank's, and 0 elsewhere.
  for_each_result([&](const char*, auto& tensor) { comm.all_reduce(std::span(tensor.values()), Reduction::sum); },
                  results);
  return results;
}

std::vector<Ring> rings() {
  std::vector<Ring> rings;
  for (const Layout layout : all_layouts) {
    for (const std::int64_t chunk : {5, 4096}) rings.push_back({world_size(), layout, chunk, 2});
  }
  return rings;
}

template <class T, class P>
void check_ring(const P& problem, const Extents& extents, bool in_parts = false) {
  const Exactness<T, P> exactness(extents, problem);
  for (const Ring& ring : rings()) {
    const auto results = over_mpi(exactness.inputs(), ring, problem, default_kernel<T>{});
    const ErrorRatios ratios = exactness.ratios(results);
    INFO(precision_traits<T>::name << ", " << text(ring) << "\n" << ratios.text());
    CHECK(ratios.of_promise() <= 1);
    if (world_rank() != 0) continue;
    const auto in_process = ring_attention(exactness.inputs(), ring, problem, default_kernel<T>{});
    for_each_result(
        [in_parts](const char* name, const auto& a, const auto& b) {
          INFO(name);
          // Gradients of keys are summed up part by part of the queries, so that their last bits differ.
          if (!in_parts || name[0] != 'g' || name[5] == 'q') CHECK(a.values() == b.values());
        },
        results, in_process);
  }
}

}  // namespace

TEST_CASE("over MPI a ring is as exact as promised, with the same bits as over threads") {
  check_ring<float>(Problem{causal{}}, sequence);
  check_ring<float>(Problem{full{}}, sequence);
  check_ring<bfloat16>(Problem{causal{}}, sequence);
}

TEST_CASE("over MPI queries are taken in parts, between which messages move, with the same out and grad_q") {
  if (world_size() > 3) return;
  check_ring<float>(Problem{causal{}}, {.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 16, .tokens = 900}, true);
}

TEST_CASE("over MPI ranks may hold no token") {
  for (const std::int64_t tokens : {1, 3}) {
    Extents few = sequence;
    few.tokens = tokens;
    check_ring<float>(Problem{causal{}}, few);
  }
}

TEST_CASE("over MPI the check can fail: a skipped hop and a stale block break the promise") {
  if (world_size() == 1) return;
  const Exactness<float, Problem<causal>> exactness(sequence, Problem{causal{}});
  for (const Ring& ring : rings()) {
    INFO(text(ring));
    const auto skipped =
        over_mpi(exactness.inputs(), ring, exactness.problem(), faulty_kernel<default_kernel<float>, skipped_hop>{});
    CHECK_FALSE(exactness.ratios(skipped).of_promise() <= 1);
    const auto stale = over_mpi(exactness.inputs(), ring, exactness.problem(), default_kernel<float>{},
                                [](auto& comm) { return faulty_communicator<any_communicator, stale_block>(comm); });
    CHECK_FALSE(exactness.ratios(stale).of_promise() <= 1);
  }
}

TEST_CASE("a ring over a part of the processes runs beside another part's") {
  any_communicator whole = world({.deadline = Deadline{60}});
  any_communicator part = whole.split(whole.rank() % 2, -whole.rank());
  const Extents extents{.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 16, .tokens = 60 + 10 * (whole.rank() % 2)};
  const Exactness<float, Problem<causal>> exactness(extents, Problem{causal{}}, Scores::usual, whole.rank() % 2);
  Results<double> results = empty_results<double>(extents);
  ring_rank(part, exactness.inputs(), {part.size(), Layout::striped, 7, 3}, exactness.problem(),
            default_kernel<float>{}, results, nullptr);
  for_each_result([&](const char*, auto& tensor) { part.all_reduce(std::span(tensor.values()), Reduction::sum); },
                  results);
  CHECK(exactness.ratios(results).of_promise() <= 1);
  CHECK(whole.agree(true));
}

}  // namespace rondo::test
