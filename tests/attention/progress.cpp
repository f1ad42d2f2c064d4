/// \file
/// Messages that move only when they are asked: the engine asks between the kernel's tiles, on the rank's own thread,
/// and what goes wrong there reaches the caller.
#include <support/generators.hpp>
#include <support/ring_case.hpp>

#include <rondo/comm/paced.hpp>
#include <rondo/rondo.hpp>

#include <Kokkos_Core.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_exception.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <thread>
#include <utility>

namespace rondo::test {
namespace {

using Kernel = host_kernel<float>;
static_assert(ReportsProgress<Kernel>);

constexpr Extents sequence{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = 16, .tokens = 3601};

/// What all ranks' transfers have seen.
struct Asked {
  std::atomic<int> times = 0;
  std::atomic<int> on_other_threads = 0;
  int fails_at = -1;  ///< rank 1's so many-th question is answered with an exception
};

/// A communicator whose transfers want to be asked, and note who does.
template <class Comm>
class asked : public Comm {
 public:
  static constexpr bool moves_when_asked = true;
  using Inner =
      decltype(std::declval<Comm&>().exchange(std::declval<const typename Comm::execution_space&>(),
                                              std::span<const Segment<typename Comm::memory_space>>{}, Where{}));
  class Started {
   public:
    Started(Inner inner, Asked& seen, int rank) : inner_(std::move(inner)), seen_(&seen), rank_(rank) {}
    bool test() {
      ++seen_->times;
      if (std::this_thread::get_id() != owner_) ++seen_->on_other_threads;
      if (rank_ == 1 && seen_->fails_at >= 0 && seen_->fails_at-- == 0) throw peer_failed(0, "the link is down");
      inner_.test();
      return false;  // to be asked to the end of the step
    }
    void wait() { inner_.wait(); }
    void order(const typename Comm::execution_space& exec) { inner_.order(exec); }

   private:
    Inner inner_;
    Asked* seen_;
    int rank_;
    std::thread::id owner_ = std::this_thread::get_id();
  };

  asked(Comm comm, Asked& seen) : Comm(std::move(comm)), seen_(&seen) {}
  Started exchange(const typename Comm::execution_space& after,
                   std::span<const Segment<typename Comm::memory_space>> segments, Where where = {}) {
    return {Comm::exchange(after, segments, where), *seen_, Comm::rank()};
  }
  asked split(int color, int key) { return {Comm::split(color, key), *seen_}; }

 private:
  Asked* seen_;
};

bool same_bits(const Results<double>& a, const Results<double>& b) {
  bool same = true;
  for_each_result([&](const char*, const auto& x, const auto& y) { same = same && x.values() == y.values(); }, a, b);
  return same;
}

Results<double> run(const Ring& ring, const auto& wrap) {
  return ring_attention<Kernel>(random_inputs<float>(sequence), ring, Problem{causal{}}, {}, wrap);
}

}  // namespace

TEST_CASE("transfers are asked between tiles, by the rank's own thread, and results keep their bits") {
  for (const int threads : {1, 2}) {
    const Ring ring{.ranks = 3, .layout = Layout::striped, .chunk = 200, .calls = 1, .threads_per_rank = threads};
    INFO(text(ring) << ", " << threads << " threads per rank");
    Asked seen;
    const auto with_questions = run(ring, [&](auto& comm) { return asked(std::move(comm), seen); });
    CHECK(seen.times > 100);
    CHECK(seen.on_other_threads == 0);
    CHECK(same_bits(with_questions, run(ring, unwrapped)));
  }
}

TEST_CASE("messages behind a link start while a kernel runs, and results keep their bits") {
  const Ring ring{.ranks = 3, .layout = Layout::zigzag, .chunk = 300};
  const auto behind_a_link = run(ring, [&](auto& comm) {
    return paced(std::move(comm), Link{.latency = 1e-4, .bytes_per_second = 1e9, .slice_bytes = 4096});
  });
  CHECK(same_bits(behind_a_link, run(ring, unwrapped)));
}

TEST_CASE("a failure between tiles reaches the caller, in either pass") {
  const Ring ring{.ranks = 2, .layout = Layout::striped, .chunk = 200};
  Asked undisturbed;
  run(ring, [&](auto& comm) { return asked(std::move(comm), undisturbed); });
  // Questions come at intervals of time. Three quarters of one rank's: in the backward pass.
  const int late = undisturbed.times * 3 / 8;
  CHECK(late > 7);
  for (const int question : {0, 7, late}) {
    Asked seen;
    seen.fails_at = question;
    CHECK_THROWS_MATCHES(run(ring, [&](auto& comm) { return asked(std::move(comm), seen); }),
                         peer_failed,
                         Catch::Matchers::MessageMatches(Catch::Matchers::ContainsSubstring("the link is down")));
    CHECK(seen.fails_at == -1);
  }
}

TEST_CASE("a kernel that is told that its result is not wanted begins no other tile") {
  const Kokkos::DefaultHostExecutionSpace exec;
  const Shape shape = Shape{.batch = 1, .heads = 8, .head_dim = 16}.checked();
  const std::int64_t tokens = 500;
  const Run run{.first = 0, .stride = 1, .count = tokens};
  const Shard<Kernel> shard({.batch = 1, .heads = 8, .kv_heads = 8, .head_dim = 16, .tokens = tokens}, tokens);
  for (const auto& input : {shard.q, shard.k, shard.v}) Kokkos::deep_copy(input, 1.0F);
  Kokkos::View<float***, Kokkos::LayoutRight, Kokkos::HostSpace> l("l", 1, 8, tokens);
  const SoftmaxState<float, Kokkos::HostSpace> state{shard.lse, l, shard.out};
  Kernel kernel;
  const WireView<Kokkos::HostSpace> wire(
      static_cast<std::byte*>(std::aligned_alloc(64, (kernel.wire_bytes(Pass::forward, shape, tokens) + 63) / 64 * 64)),
      kernel.wire_bytes(Pass::forward, shape, tokens));
  kernel.pack(exec, Pass::forward, shape, shard.k, shard.v, wire);
  const auto calls_when = [&](bool wanted) {
    int calls = 0;
    auto callback = [&] {
      ++calls;
      return wanted;
    };
    kernel.set_progress(ProgressCallback(callback));
    kernel.fold(exec, Problem{full{}}, shape, shard.q, run, wire, run, state, Phase{true, true});
    kernel.set_progress({});
    return calls;
  };
  CHECK(calls_when(false) == 1);
  if (exec.concurrency() == 1) CHECK(calls_when(true) >= 8);
  std::free(wire.data());
}

}  // namespace rondo::test
