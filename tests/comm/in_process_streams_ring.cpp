/// Ring attention over an execution space that queues: nothing but events keeps kernels and messages in order. As exact as
/// promised, with the same bits as where the host waits.
#include "stand_in/queued_kernel.hpp"
#include "streams_launcher.hpp"

#include <support/exactness.hpp>

#include <rondo/mask/window.hpp>
#include <rondo/reproducible.hpp>
#include <rondo/sharding/striped_blocks.hpp>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

namespace rondo::test {
namespace {

using namespace std::chrono_literals;
using stand_in::QueuedExec;
using stand_in::QueuedStreams;
using Host = Kokkos::DefaultHostExecutionSpace;
using Inner = portable_kernel<float, Host>;
using Kernel = stand_in::queued_kernel<Inner>;
static_assert(BlockKernel<Kernel>);
constexpr Extents sequence{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = 16, .tokens = 101};

/// Causal or, on contiguous shards, a mask of which most is skipped.
struct Seen : window {
  bool expected(int, int, std::int64_t i, std::int64_t j) const { return j <= i + right && j >= i - left; }
};
using SeenProblem = Problem<Seen>;
const SeenProblem causal_problem{Seen{{.left = window::unlimited, .right = 0}}};
const SeenProblem narrow_problem{Seen{{.left = 9, .right = 3}}};

/// Copies take their time.
struct Slow : QueuedStreams {
  static void copy(stream on, void* target, const void* source, std::size_t bytes) {
    on->push([] { std::this_thread::sleep_for(100us); });
    QueuedStreams::copy(on, target, source, bytes);
  }
};

// What may be forgotten: `wait` is called for a rank's own stream after an exchange, for the copies' stream before.
inline thread_local stand_in::Stream own_stream = nullptr;
struct CopiesWithoutWaiting : Slow {
  static void wait(stream later, event given) {
    if (later == own_stream) Slow::wait(later, given);
  }
};
struct ComputesWithoutWaiting : Slow {
  static void wait(stream later, event given) {
    if (later != own_stream) Slow::wait(later, given);
  }
};

template <class S>
Results<double> over_streams(const Inputs<float>& in, const Ring& ring, const SeenProblem& problem) {
  Results<double> results = empty_results<double>(in.extents);
  comm_test::QueuedGroup<S>(ring.ranks, {.deadline = Deadline{60}}).run([&](auto& comm) {
    own_stream = comm.execution_instance().stream();
    const Kernel kernel(in_process::make_instance<Host>(1), comm.rank());
    ring_rank(comm, in, ring, problem, kernel, results, nullptr);
  });
  return results;
}

TEST_CASE("over streams a ring is as exact as promised, with the same bits as where the host waits") {
  for (const SeenProblem& problem : {causal_problem, narrow_problem}) {
    const Exactness<float, SeenProblem> exactness(sequence, problem);
    for (const int ranks : {1, 2, 3, 7}) {
      for (const Layout layout : all_layouts) {
        const Ring ring{ranks, layout, ranks % 2 == 0 ? 5 : 4096, 2};
        INFO(text(ring) << ", right " << problem.mask.right);
        const auto results = over_streams<Slow>(exactness.inputs(), ring, problem);
        const ErrorRatios ratios = exactness.ratios(results);
        INFO(ratios.text());
        CHECK(ratios.of_promise() <= 1);
        const auto waiting = ring_attention(exactness.inputs(), ring, problem, Inner{});
        for_each_result(
            [](const char* name, const auto& a, const auto& b) {
              INFO(name);
              CHECK(a.values() == b.values());
            },
            results, waiting);
      }
    }
  }
}

/// The first rank's tensors after two calls of each pass, and whether all ranks' first calls returned before their streams
/// came to them.
struct Queueing {
  std::vector<std::vector<float>> tensors;
  bool returned_early = true;
};

Queueing called_twice(bool waits) {
  const Inputs<float> in = random_inputs<float>(sequence);
  Queueing result;
  std::atomic<int> late = 0;
  comm_test::QueuedGroup<Slow>(3, {.deadline = Deadline{60}}).run([&](auto& comm) {
    const Kernel kernel(in_process::make_instance<Host>(1), comm.rank());
    RingAttention attention{comm, shape_of(sequence), striped{sequence.tokens}, kernel,
                            Options{.chunk = 10, .check_agreement = false, .waits = waits}};
    const Shard<Kernel> mine(sequence, attention.tokens());
    take_tokens(in.q, mine.q, attention.shards(), comm.rank());
    take_tokens(in.k, mine.k, attention.shards(), comm.rank());
    take_tokens(in.v, mine.v, attention.shards(), comm.rank());
    take_tokens(in.grad_out, mine.grad_out, attention.shards(), comm.rank());
    std::atomic<bool> came_to_it = false;
    comm.execution_instance().stream()->push([&] {
      std::this_thread::sleep_for(300ms);
      came_to_it = true;
    });
    attention.forward(mine.q, mine.k, mine.v, mine.out, mine.lse, causal_problem);
    if (came_to_it) ++late;
    for (int call = 0; call < 2; ++call) {
      if (call > 0) attention.forward(mine.q, mine.k, mine.v, mine.out, mine.lse, causal_problem);
      attention.backward(mine.q, mine.k, mine.v, mine.out, mine.lse, mine.grad_out, mine.grad_q, mine.grad_k,
                         mine.grad_v, causal_problem);
    }
    attention.wait();
    if (comm.rank() != 0) return;
    for (const auto& x : {mine.out, mine.grad_q, mine.grad_k, mine.grad_v}) {
      result.tensors.emplace_back(x.data(), x.data() + x.span());
    }
  });
  result.returned_early = late == 0;
  return result;
}

TEST_CASE("over streams calls that do not wait return before their work is done, which has the same bits") {
  const Queueing waiting = called_twice(true), queueing = called_twice(false);
  CHECK_FALSE(waiting.returned_early);
  CHECK(queueing.returned_early);
  CHECK(waiting.tensors == queueing.tensors);
}

TEST_CASE("over streams the check can fail: without events on either side the promise is broken") {
#ifdef __SANITIZE_THREAD__
  SKIP("what is forgotten is a race");
#endif
  const Exactness<float, SeenProblem> exactness(sequence, causal_problem);
  const Ring ring{3, Layout::striped, 4096, 2};
  CHECK_FALSE(
      exactness.ratios(over_streams<CopiesWithoutWaiting>(exactness.inputs(), ring, causal_problem)).of_promise() <= 1);
  CHECK_FALSE(
      exactness.ratios(over_streams<ComputesWithoutWaiting>(exactness.inputs(), ring, causal_problem)).of_promise() <=
      1);
}

TEST_CASE("over streams reproducible attention has the bits of one rank") {
  const Inputs<float> in = random_inputs<float>(sequence);
  const auto run = [&](int ranks) {
    Results<double> results = empty_results<double>(sequence);
    comm_test::QueuedGroup<Slow>(ranks, {.deadline = Deadline{60}}).run([&](auto& comm) {
      const Kernel kernel(in_process::make_instance<Host>(1), comm.rank());
      ReproducibleAttention attention{comm, shape_of(sequence), striped_blocks{sequence.tokens, 16}, kernel, 16};
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
  for (const int ranks : {2, 3, 7}) {
    INFO(ranks << " ranks");
    const auto results = run(ranks);
    CHECK(results.out.values() == alone.out.values());
    CHECK(results.grad_q.values() == alone.grad_q.values());
    CHECK(results.grad_k.values() == alone.grad_k.values());
    CHECK(results.grad_v.values() == alone.grad_v.values());
  }
}

TEST_CASE("over streams a rank that is not there costs the others the deadline, and they are told at which hop") {
  std::vector<std::string> texts(3);
  comm_test::QueuedGroup<>(3, {.deadline = Deadline{0.5}}).run([&](auto& comm) {
    const Kernel kernel(in_process::make_instance<Host>(1), comm.rank());
    RingAttention attention{comm, shape_of(sequence), contiguous{sequence.tokens}, kernel,
                            Options{.check_agreement = false}};
    const Shard<Kernel> mine(sequence, attention.tokens());
    try {
      while (comm.rank() == 1) comm.listen();
      attention.forward(mine.q, mine.k, mine.v, mine.out, mine.lse, causal_problem);
    } catch (const error& failure) {
      texts[static_cast<std::size_t>(comm.rank())] = failure.what();
    }
  });
  using Catch::Matchers::ContainsSubstring;
  for (const std::string& text : texts) {
    CHECK_THAT(text, ContainsSubstring("waited 0.5 s for rank 1 at hop 0 of forward ("));
  }
}

}  // namespace
}  // namespace rondo::test
