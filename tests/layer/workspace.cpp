// What the layers own, and that they allocate nothing in steady state: Kokkos' allocation callbacks, a counting
// operator new, and Eigen's own check (EIGEN_RUNTIME_NO_MALLOC), which is why this is a program of its own.
#include <stdexcept>

#define EIGEN_RUNTIME_NO_MALLOC
#define eigen_assert(condition) (static_cast<bool>(condition) ? void() : throw std::runtime_error("Eigen: " #condition))

#include "plain.hpp"

#include <rondo/layers.hpp>
#include <rondo/sharding/striped.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <atomic>
#include <cstdlib>
#include <new>
#include <string>
#include <utility>

namespace {

std::atomic<std::size_t> news = 0;

}  // namespace

// Not inlined, or GCC sees a new and a free that do not match.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++news;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using namespace layer_test;

std::size_t kokkos_bytes = 0;
std::size_t kokkos_allocations = 0;

/// Counts what Kokkos allocates while it lives.
class KokkosWatch {
 public:
  KokkosWatch() {
    kokkos_bytes = 0;
    kokkos_allocations = 0;
    Kokkos::Tools::Experimental::set_allocate_data_callback(
        [](Kokkos::Profiling::SpaceHandle, const char*, const void*, std::uint64_t size) {
          kokkos_bytes += size;
          ++kokkos_allocations;
        });
  }
  KokkosWatch(const KokkosWatch&) = delete;
  KokkosWatch& operator=(const KokkosWatch&) = delete;
  ~KokkosWatch() { Kokkos::Tools::Experimental::set_allocate_data_callback(nullptr); }
};

/// The bytes that Kokkos reports while `make` makes a layer, beside what the layer says it owns.
template <class Make>
void check_reported(const char* name, Make&& make, std::size_t formula) {
  const KokkosWatch watch;
  const auto layer = make();
  INFO(name);
  CHECK(kokkos_bytes == layer.workspace_bytes());
  CHECK(layer.workspace_bytes() == formula);
}

TEST_CASE("a layer's workspace is what Kokkos allocated for it and what its formula says, to the byte") {
  check_reported(
      "gelu", [] { return rondo::feed_forward<float, rondo::gelu>(8, 32, 16); }, 2 * 16 * 32 * 4);
  check_reported(
      "swiglu", [] { return rondo::feed_forward<double>(8, 32, 16); }, 3 * 16 * 32 * 8);
  check_reported(
      "rms_norm", [] { return rondo::rms_norm<float>(24); }, 24 * 8);
  check_reported(
      "cross_entropy", [] { return rondo::cross_entropy<float>(8, 100, 16, 40); }, 16 * ((2 * 8 + 40 + 2) * 4 + 20));
  check_reported(
      "cross_entropy, vocabulary of one block", [] { return rondo::cross_entropy<double>(8, 30, 16, 40); },
      16 * ((2 * 8 + 30 + 2) * 8 + 20));
  const rondo::ShardTable table(rondo::striped{101}, 4);
  check_reported(
      "rope of no tokens", [&] { return rondo::rope<float>(rondo::ShardTable(rondo::striped{2}, 4), 3, 6); }, 0);
  check_reported(
      "rope", [&] { return rondo::rope<float>(table, 1, 6); }, 25 * 6 * 4);
}

/// All layers on some tokens, forward and backward.
template <class T>
class Everything {
 public:
  Everything(std::int64_t dim, std::int64_t hidden, std::int64_t vocab, std::int64_t block)
      : gelu_(dim, hidden, block), swiglu_(dim, hidden, block), norm_(dim), loss_(dim, vocab, block, vocab / 2) {
    Random random(95);
    up_ = random.matrix<T>(dim, hidden);
    gate_ = random.matrix<T>(dim, hidden);
    down_ = random.matrix<T>(hidden, dim);
    head_ = random.matrix<T>(vocab, dim);
    grad_up_ = random.matrix<T>(dim, hidden);
    grad_gate_ = random.matrix<T>(dim, hidden);
    grad_down_ = random.matrix<T>(hidden, dim);
    grad_head_ = random.matrix<T>(vocab, dim);
    weight_ = random.vector<T>(dim);
    grad_weight_ = random.vector<T>(dim);
  }

  void operator()(const HostMatrix<T>& x, const HostMatrix<T>& grad, const HostMatrix<T>& result,
                  const Kokkos::View<std::int32_t*, Kokkos::HostSpace>& targets) {
    const rondo::FeedForwardWeights<T> plain{up_, {}, down_};
    const rondo::FeedForwardWeights<T> plain_gradients{grad_up_, {}, grad_down_};
    const rondo::FeedForwardWeights<T> gated{up_, gate_, down_};
    const rondo::FeedForwardWeights<T> gated_gradients{grad_up_, grad_gate_, grad_down_};
    gelu_.forward(x, plain, result);
    gelu_.backward(x, plain, grad, result, plain_gradients);
    swiglu_.forward(x, gated, result);
    swiglu_.backward(x, gated, grad, result, gated_gradients);
    norm_.forward(x, weight_, result);
    norm_.backward(x, weight_, grad, result, grad_weight_);
    loss_.forward(x, head_, targets);
    loss_.forward_backward(x, head_, targets, 0.5, result, grad_head_);
  }

 private:
  rondo::feed_forward<T, rondo::gelu> gelu_;
  rondo::feed_forward<T, rondo::swiglu> swiglu_;
  rondo::rms_norm<T> norm_;
  rondo::cross_entropy<T> loss_;
  HostMatrix<T> up_, gate_, down_, head_, grad_up_, grad_gate_, grad_down_, grad_head_;
  HostVector<T> weight_, grad_weight_;
};

/// Runs everything with Eigen forbidden to allocate, if so wanted, and returns what operator new and Kokkos counted.
template <class T>
std::size_t allocations(std::int64_t dim, std::int64_t hidden, std::int64_t tokens, bool eigen_may) {
  Random random(96);
  const auto x = random.matrix<T>(tokens, dim);
  const auto grad = random.matrix<T>(tokens, dim);
  const auto result = random.matrix<T>(tokens, dim);
  const Kokkos::View<std::int32_t*, Kokkos::HostSpace> targets("targets", static_cast<std::size_t>(tokens));
  Everything<T> everything(dim, hidden, 30, 16);
  const rondo::rope<T> rope(rondo::ShardTable(rondo::striped{tokens}, 1), 0, dim);
  const Kokkos::View<T****, Kokkos::LayoutRight, Kokkos::HostSpace> heads(result.data(), 1, result.extent(0), 1,
                                                                          result.extent(1));
  everything(x, grad, result, targets);  // what a first call sets up (the sizes of caches) is not steady state
  const KokkosWatch watch;
  Eigen::internal::set_is_malloc_allowed(eigen_may);
  const std::size_t before = news;
  std::string thrown;
  try {
    everything(x, grad, result, targets);
    rope.forward(heads);
    rope.backward(heads);
  } catch (const std::runtime_error& failure) {
    thrown = failure.what();
  }
  const std::size_t after = news;
  Eigen::internal::set_is_malloc_allowed(true);
  CHECK(thrown == "");
  return after - before + kokkos_allocations;
}

TEMPLATE_TEST_CASE("layers allocate nothing in steady state", "", float, double) {
  for (const std::int64_t tokens : {1, 5, 100}) {
    CAPTURE(tokens);
    CHECK(allocations<TestType>(4, 6, tokens, false) == 0);     // Eigen's coefficient-wise products
    CHECK(allocations<TestType>(32, 48, tokens, false) == 0);   // packed products, panels on the stack
    CHECK(allocations<TestType>(256, 640, tokens, true) == 0);  // panels too large for the stack: Eigen's own malloc
  }
}

TEST_CASE("the counters count") {
  const KokkosWatch watch;
  const std::size_t before = news;
  const HostVector<float> view("view", 10);
  CHECK(kokkos_bytes == 40);
  CHECK(news > before);
  Eigen::internal::set_is_malloc_allowed(false);
  CHECK_THROWS_AS(Eigen::MatrixXf(50, 50), std::runtime_error);
  Eigen::internal::set_is_malloc_allowed(true);
}

TEST_CASE("a layer that was moved from owns nothing, the other computes as before") {
  rondo::rms_norm<float> first(8);
  const rondo::rms_norm<float> second(std::move(first));
  CHECK(second.workspace_bytes() == 64);
}

}  // namespace
