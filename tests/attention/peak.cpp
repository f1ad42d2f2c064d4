/// \file
/// What a rank holds at most in forward and backward, its tensors included: counted, and by the published formula.
#include "../../examples/train/memory.hpp"

#include <support/ring_case.hpp>

#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace rondo::test {
namespace {

using train::MemoryCount;

constexpr std::size_t lines(std::size_t bytes) { return (bytes + 127) / 128 * 128; }

/// Bytes of a rank that holds c tokens, in pieces of `chunk`. One tensor of queries is c, one of keys g = c / group; forward
/// holds q, out, k, v, lse and its workspace; backward their gradients in addition.
template <class Kernel>
std::size_t formula(const Extents& e, std::int64_t c, std::int64_t chunk, bool backward) {
  using T = typename Kernel::value_type;
  using A = typename Kernel::accumulate_type;
  constexpr bool narrow = sizeof(T) < sizeof(A);
  const auto count = [&](std::int64_t tokens, int heads) { return static_cast<std::size_t>(e.batch * tokens * heads); };
  const auto dim = static_cast<std::size_t>(e.head_dim);
  const std::size_t queries = count(c, e.heads) * dim, keys = count(c, e.kv_heads) * dim;
  const std::size_t tensors = sizeof(T) * (backward ? 4 * queries + 4 * keys : 2 * queries + 2 * keys);
  const std::size_t rows = sizeof(A) * count(c, e.heads);
  const std::size_t state = lines(rows) + (narrow ? lines(sizeof(A) * queries) : 0);
  const auto pieces = [&](Pass pass) { return 2 * lines(Kernel{}.wire_bytes(pass, shape_of(e), chunk)); };
  const std::size_t gradients = 4 * lines(2 * sizeof(A) * count(chunk, e.kv_heads) * dim);
  const std::size_t forward = pieces(Pass::forward) + state;
  return tensors + rows + (backward ? std::max(forward, pieces(Pass::backward) + state + gradients) : forward);
}

/// A rank's calls, with tensors of its own. \return whether a backward pass without room was refused
template <class Kernel, class Comm>
bool call(Comm& comm, const Extents& e, std::int64_t tokens, std::int64_t chunk, bool backward) {
  using Space = typename Kernel::execution_space::memory_space;
  using T = typename Kernel::value_type;
  using View = Kokkos::View<T****, Kokkos::LayoutRight, Space>;
  RingAttention attention{comm, shape_of(e), contiguous{tokens * comm.size()}, Kernel{},
                          Options{.chunk = chunk, .backward = backward}};
  const auto tensor = [&](int heads) { return View("tensor", e.batch, tokens, heads, e.head_dim); };
  const View q = tensor(e.heads), k = tensor(e.kv_heads), v = tensor(e.kv_heads), out = tensor(e.heads);
  const Kokkos::View<typename Kernel::accumulate_type***, Kokkos::LayoutRight, Space> lse("lse", e.batch, e.heads,
                                                                                          tokens);
  for (const View& x : {q, k, v}) Kokkos::deep_copy(x, T(1.0f));
  attention.forward(q, k, v, out, lse, Problem{causal{}});
  if (backward) {
    const View grad = tensor(e.heads), grad_q = tensor(e.heads), grad_k = tensor(e.kv_heads),
               grad_v = tensor(e.kv_heads);
    attention.backward(q, k, v, out, lse, grad, grad_q, grad_k, grad_v, Problem{causal{}});
    return true;
  }
  try {
    attention.backward(q, k, v, out, lse, q, out, k, v, Problem{causal{}});
    return false;
  } catch (const argument_error& refusal) {
    return std::string(refusal.what()).find("backward = false") != std::string::npos;
  }
}

/// The most that each rank's thread holds of all that is allocated for the calls. What Kokkos keeps of each thread's scratch
/// memory, which depends on the shape alone, is there beforehand: a call with a token a rank has asked for it.
template <class Kernel>
std::vector<std::int64_t> peaks(const Extents& e, int ranks, std::int64_t chunk, bool backward) {
  std::vector<std::int64_t> result(static_cast<std::size_t>(ranks), -1);
  in_process_group<>(ranks).run([&](auto& comm) {
    call<Kernel>(comm, e, 1, chunk, backward);
    const std::int64_t before = MemoryCount::bytes();
    if (call<Kernel>(comm, e, e.tokens, chunk, backward)) {
      result[static_cast<std::size_t>(comm.rank())] = MemoryCount::peak() - before;
    }
  });
  return result;
}

}  // namespace

TEMPLATE_TEST_CASE("a rank's peak is the formula's to the byte, the same at every number of ranks", "", float, double,
                   bfloat16, float16) {
  using Kernel = default_kernel<TestType>;
  const MemoryCount counting;
  for (const int kv_heads : {4, 2}) {
    const Extents e{.batch = 2, .heads = 4, .kv_heads = kv_heads, .head_dim = 32, .tokens = 20};
    for (const bool backward : {false, true}) {
      for (const std::int64_t chunk : {8, 20}) {
        if (chunk == 20 && kv_heads == 4) continue;
        const auto expected = static_cast<std::int64_t>(formula<Kernel>(e, e.tokens, chunk, backward));
        for (const int ranks : {1, 2, 4, 8, 16, 32}) {
          if (ranks > 8 && (chunk == 20 || !backward)) continue;  // long rings take long
          INFO(precision_traits<TestType>::name << ", " << kv_heads << " kv heads, chunk " << chunk << ", " << ranks
                                                << " ranks" << (backward ? ", backward too" : ""));
          for (const std::int64_t peak : peaks<Kernel>(e, ranks, chunk, backward)) CHECK(peak == expected);
        }
      }
    }
  }
}

TEST_CASE(
    "in float, forward holds 4c + 4 chunk, two numbers a row and two lines: less than six blocks where chunk < c/2") {
  using Kernel = default_kernel<float>;
  const MemoryCount counting;
  constexpr std::int64_t c = 256;
  const Extents e{.batch = 1, .heads = 2, .kv_heads = 2, .head_dim = 64, .tokens = c};
  constexpr std::int64_t token = 2 * 64 * sizeof(float), rows = 2 * c * sizeof(float);
  for (const std::int64_t chunk : {32, 64, 96}) {
    for (const std::int64_t peak : peaks<Kernel>(e, 4, chunk, false)) {
      CHECK(peak == (4 * c + 2 * 2 * chunk) * token + 2 * rows + 2 * 128);  // a line a piece: which panels are finite
      CHECK(peak < 6 * c * token);
    }
  }
}

}  // namespace rondo::test
