/// \file
/// Ring attention over the stand-in NCCL: as exact as promised, with the same bits as over threads, and in time when a
/// rank is not there.
#include "launcher.hpp"

#include <support/exactness.hpp>
#include <support/faults.hpp>

#include <rondo/mask/window.hpp>
#include <rondo/reproducible.hpp>
#include <rondo/sharding/striped_blocks.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace rondo::test {
namespace {

using Control = in_process_communicator<>;
using Kernel = portable_kernel<float>;
constexpr Extents sequence{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = 16, .tokens = 101};

/// Causal or, on contiguous shards, a mask of which most is skipped.
struct Seen : window {
  bool expected(int, int, std::int64_t i, std::int64_t j) const { return j <= i + right && j >= i - left; }
};
using SeenProblem = Problem<Seen>;
const SeenProblem causal_problem{Seen{{.left = window::unlimited, .right = 0}}};
const SeenProblem narrow_problem{Seen{{.left = 9, .right = 3}}};

/// For ring_attention, in the place of its communicator.
const auto over_nccl = [](auto& control) { return comm_test::over_nccl(control); };

void check_no_misuse() {
  CHECK(stand_in::take_misuses().empty());
  CHECK(stand_in::open_communicators() == 0);
}

TEST_CASE("over NCCL a ring is as exact as promised, with the same bits as over threads") {
  stand_in::set_delays({.launch = std::chrono::microseconds(100), .copy = std::chrono::microseconds(50)});
  for (const SeenProblem& problem : {causal_problem, narrow_problem}) {
    const Exactness<float, SeenProblem> exactness(sequence, problem);
    for (const int ranks : {1, 2, 3, 4, 7}) {
      for (const Layout layout : all_layouts) {
        const Ring ring{ranks, layout, ranks % 2 == 0 ? 5 : 4096, 2};
        INFO(text(ring) << ", right " << problem.mask.right);
        const auto results = ring_attention(exactness.inputs(), ring, problem, Kernel{}, over_nccl);
        const ErrorRatios ratios = exactness.ratios(results);
        INFO(ratios.text());
        CHECK(ratios.of_promise() <= 1);
        const auto in_process = ring_attention(exactness.inputs(), ring, problem, Kernel{});
        for_each_result(
            [](const char* name, const auto& a, const auto& b) {
              INFO(name);
              CHECK(a.values() == b.values());
            },
            results, in_process);
      }
    }
  }
  stand_in::set_delays({});
  check_no_misuse();
}

TEST_CASE("over NCCL ranks may hold no token") {
  Extents few = sequence;
  few.tokens = 3;
  const Exactness<float, SeenProblem> exactness(few, causal_problem);
  for (const Layout layout : all_layouts) {
    const auto results = ring_attention(exactness.inputs(), {7, layout}, causal_problem, Kernel{}, over_nccl);
    CHECK(exactness.ratios(results).of_promise() <= 1);
  }
  check_no_misuse();
}

TEST_CASE("over NCCL the check can fail: a stale block breaks the promise") {
  const Exactness<float, SeenProblem> exactness(sequence, causal_problem);
  Results<double> stale = empty_results<double>(sequence);
  in_process_group<>(3, {.deadline = Deadline{30}}).run([&](Control& control) {
    auto comm = comm_test::over_nccl(control);
    faulty_communicator<comm_test::NcclComm<>, stale_block> faulty{comm};
    ring_rank(faulty, exactness.inputs(), {3, Layout::striped}, causal_problem, Kernel{}, stale, nullptr);
  });
  CHECK_FALSE(exactness.ratios(stale).of_promise() <= 1);
}

TEST_CASE("over NCCL reproducible attention has the bits of one rank") {
  const Inputs<float> in = random_inputs<float>(sequence);
  const auto run = [&](int ranks) {
    Results<double> results = empty_results<double>(sequence);
    in_process_group<>(ranks, {.deadline = Deadline{30}}).run([&](Control& control) {
      auto comm = comm_test::over_nccl(control);
      ReproducibleAttention attention{comm, shape_of(sequence), striped_blocks{sequence.tokens, 16}, Kernel{}, 16};
      const Shard<Kernel> mine(sequence, attention.tokens());
      const ShardTable& table = attention.shards();
      take_tokens(in.q, mine.q, table, comm.rank());
      take_tokens(in.k, mine.k, table, comm.rank());
      take_tokens(in.v, mine.v, table, comm.rank());
      take_tokens(in.grad_out, mine.grad_out, table, comm.rank());
      attention.forward(mine.q, mine.k, mine.v, mine.out, mine.lse, narrow_problem);
      attention.backward(mine.q, mine.k, mine.v, mine.out, mine.lse, mine.grad_out, mine.grad_q, mine.grad_k,
                         mine.grad_v, narrow_problem);
      put_tokens(mine.out, results.out, table, comm.rank());
      put_tokens(mine.grad_q, results.grad_q, table, comm.rank());
      put_tokens(mine.grad_k, results.grad_k, table, comm.rank());
      put_tokens(mine.grad_v, results.grad_v, table, comm.rank());
    });
    return results;
  };
  const auto alone = run(1);
  for (const int ranks : {2, 3, 4, 7}) {
    INFO(ranks << " ranks");
    const auto results = run(ranks);
    CHECK(results.out.values() == alone.out.values());
    CHECK(results.grad_q.values() == alone.grad_q.values());
    CHECK(results.grad_k.values() == alone.grad_k.values());
    CHECK(results.grad_v.values() == alone.grad_v.values());
  }
  check_no_misuse();
}

TEST_CASE("over NCCL a rank that is not there costs the others the deadline, and they are told at which hop") {
  std::vector<std::string> texts(3);
  in_process_group<>(3, {.deadline = Deadline{0.5}}).run([&](Control& control) {
    auto comm = comm_test::over_nccl(control);
    RingAttention attention{comm, shape_of(sequence), contiguous{sequence.tokens}, Kernel{},
                            Options{.check_agreement = false}};
    const Shard<Kernel> mine(sequence, attention.tokens());
    try {
      while (control.rank() == 1) control.listen();
      attention.forward(mine.q, mine.k, mine.v, mine.out, mine.lse, causal_problem);
    } catch (const error& failure) {
      texts[static_cast<std::size_t>(control.rank())] = failure.what();
    }
  });
  using Catch::Matchers::ContainsSubstring;
  for (const std::string& text : texts) {
    CHECK_THAT(text, ContainsSubstring("waited 0.5 s at hop 0 of forward (") && ContainsSubstring(" rank 1"));
  }
  stand_in::take_misuses();
}

}  // namespace
}  // namespace rondo::test
