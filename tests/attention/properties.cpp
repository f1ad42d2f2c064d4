/// \file
/// What holds for RingAttention whatever the numbers: repeated bits, strides, finite differences, empty sequences.
#include <support/exactness.hpp>

#include <catch2/catch_test_macros.hpp>

#include <bit>
#include <cmath>
#include <cstdint>
#include <string>

namespace rondo::test {
namespace {

/// The names of the results whose bits differ.
template <class T>
std::string differing_bits(const Results<T>& a, const Results<T>& b) {
  std::string names;
  for_each_result(
      [&](const char* name, const auto& x, const auto& y) {
        for (std::size_t i = 0; i < x.values().size(); ++i) {
          if (std::bit_cast<std::uint64_t>(x.values()[i]) != std::bit_cast<std::uint64_t>(y.values()[i])) {
            names += std::string(name) + " ";
            return;
          }
        }
      },
      a, b);
  return names;
}

constexpr Extents sequence{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = 16, .tokens = 149};

}  // namespace

TEST_CASE("a call repeated, in the same and in a new ring, gives the same bits") {
  const auto in = random_inputs<float>(sequence);
  for (const Layout layout : all_layouts) {
    for (const int ranks : {1, 2, 5}) {
      Ring ring{ranks, layout, 11};
      const auto once = ring_attention<default_kernel<float>>(in, ring, Problem{causal{}});
      const auto again = ring_attention<default_kernel<float>>(in, ring, Problem{causal{}});
      ring.calls = 3;
      const auto third = ring_attention<default_kernel<float>>(in, ring, Problem{causal{}});
      INFO(text(ring));
      CHECK(differing_bits(once, again) == "");
      CHECK(differing_bits(once, third) == "");
    }
  }
}

TEST_CASE("ranks with one and with several threads give the same bits") {
  const auto in = random_inputs<float>(sequence);
  for (const int ranks : {1, 3}) {
    Ring ring{ranks, Layout::striped, 11};
    const auto one = ring_attention<default_kernel<float>>(in, ring, Problem{causal{}});
    ring.threads_per_rank = 2;
    const auto two = ring_attention<default_kernel<float>>(in, ring, Problem{causal{}});
    CHECK(differing_bits(one, two) == "");
  }
}

TEST_CASE("results under all shardings, chunks and rank counts differ by less than they may differ from the oracle") {
  const Exactness<float, Problem<causal>> exactness(sequence, Problem{causal{}});
  const auto one_rank = ring_attention<default_kernel<float>>(exactness.inputs(), {1}, Problem{causal{}});
  for (const int ranks : {2, 3, 7}) {
    for (const Layout layout : all_layouts) {
      for (const std::int64_t chunk : {6, 4096}) {
        const Ring ring{ranks, layout, chunk};
        INFO(text(ring));
        const auto results = ring_attention<default_kernel<float>>(exactness.inputs(), ring, Problem{causal{}});
        for_each_result(
            [](const char* name, const auto& a, const auto& b, const auto& exact) {
              INFO(name);
              CHECK(difference(a, b).max <= 2 * (difference(a, exact).max + difference(b, exact).max));
              CHECK(difference(a, b).rms <= 4e-6 * (1 + root_mean_square(exact)));
            },
            one_rank, results, exactness.exact());
      }
    }
  }
}

TEST_CASE("groups of 1, 2 and 4 query heads a key head are as exact as promised, under softcap too") {
  for (const int kv_heads : {4, 2, 1}) {
    const Extents extents{.batch = 2, .heads = 4, .kv_heads = kv_heads, .head_dim = 16, .tokens = 83};
    const Ring ring{3, Layout::zigzag, 10};
    INFO(kv_heads << " kv heads");
    CHECK(Exactness<float, Problem<causal>>(extents, Problem{causal{}}).of_ring(ring).of_promise() <= 1);
    const Exactness<float, Problem<causal, softcap>> capped(extents, Problem{causal{}, softcap{1.5}});
    const ErrorRatios ratios = capped.of_ring(ring);
    note("softcap", ratios, text(ring));
    INFO(ratios.text());
    CHECK(ratios.of_promise() <= 1);
  }
}

TEST_CASE("a scale that is given is used, a negative one too") {
  const Extents extents{.batch = 2, .heads = 2, .kv_heads = 2, .head_dim = 16, .tokens = 83};
  for (const double scale : {0.7, -0.3, 0.0}) {
    const Exactness<float, Problem<causal>> exactness(extents, Problem{causal{}, unmodified{}, scale});
    const ErrorRatios ratios = exactness.of_ring({3, Layout::striped, 10});
    INFO("scale " << scale << "\n" << ratios.text());
    CHECK(ratios.of_promise() <= 1);
  }
}

TEST_CASE("a sequence without tokens is no error") {
  const Extents extents{.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 8, .tokens = 0};
  const auto in = random_inputs<float>(extents);
  for (const int ranks : {1, 3}) {
    for (const Layout layout : all_layouts) {
      CHECK(ring_attention<default_kernel<float>>(in, {ranks, layout}, Problem{causal{}}).out.values().empty());
    }
  }
}

TEST_CASE("every gradient, through three ranks, is the slope that finite differences show") {
  using Kernel = default_kernel<double>;
  const Extents extents{.batch = 1, .heads = 2, .kv_heads = 1, .head_dim = 3, .tokens = 11};
  const auto check = [&](const auto& problem) {
    const Ring ring{3, Layout::zigzag, 1};
    auto in = random_inputs<double>(extents);
    const auto loss = [&] {
      const auto out = ring_attention<Kernel>(in, ring, problem).out;
      double sum = 0;
      for (std::size_t i = 0; i < out.values().size(); ++i) sum += out.values()[i] * in.grad_out.values()[i];
      return sum;
    };
    const auto results = ring_attention<Kernel>(in, ring, problem);
    const auto check_slopes = [&](const char* name, Whole<double>& x, const Whole<double>& gradient) {
      constexpr double step = 1e-4;
      double worst = 0;
      for (std::size_t i = 0; i < x.values().size(); ++i) {
        const double kept = x.values()[i];
        const auto at = [&](double offset) {
          x.values()[i] = kept + offset;
          return loss();
        };
        // Fourth order in the step.
        const double slope = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step);
        x.values()[i] = kept;
        worst = std::max(worst, std::abs(slope - gradient.values()[i]));
      }
      Measurements::instance().note("gradient - finite difference", worst, name);
      INFO(name);
      CHECK(worst < 1e-10);
      CHECK(root_mean_square(gradient) > 1e-2);
    };
    check_slopes("grad_q", in.q, results.grad_q);
    check_slopes("grad_k", in.k, results.grad_k);
    check_slopes("grad_v", in.v, results.grad_v);
  };
  check(Problem{causal{}});
  check(Problem{causal{}, softcap{1.5}});
}

TEST_CASE("slices of a fused tensor, and memory behind a pointer with strides, give the bits of plain tensors") {
  using Kernel = default_kernel<float>;
  using Space = Kernel::execution_space::memory_space;
  const Extents& e = sequence;
  const auto in = random_inputs<float>(e);
  const Ring ring{3, Layout::zigzag, 11};
  const auto plain = ring_attention<Kernel>(in, ring, Problem{causal{}});
  auto strided = empty_results<double>(e);
  in_process_group<>(ring.ranks).run([&](auto& comm) {
    RingAttention attention{comm, shape_of(e), sharding_of(ring.layout, e.tokens), Kernel{}, Options{.chunk = 11}};
    const std::int64_t tokens = attention.tokens();
    const auto& table = attention.shards();
    const int rank = comm.rank();
    // q, k and v as slices of one tensor [batch, sequence, heads + 2 kv_heads, head_dim].
    const Kokkos::View<float****, Kokkos::LayoutRight, Space> fused("fused", e.batch, tokens, e.heads + 2 * e.kv_heads,
                                                                    e.head_dim);
    const auto slice = [&](int first, int count) {
      return Kokkos::subview(fused, Kokkos::ALL, Kokkos::ALL, std::pair{first, first + count}, Kokkos::ALL);
    };
    const auto q = slice(0, e.heads), k = slice(e.heads, e.kv_heads), v = slice(e.heads + e.kv_heads, e.kv_heads);
    // The rest [batch, heads, sequence, head_dim] behind pointers; lse [batch, sequence, heads].
    const auto room = [](std::size_t size) { return Kokkos::View<float*, Space>("room", size); };
    const auto head_major = [&](float* data, int heads) {
      const std::int64_t dim = e.head_dim;
      return tensor<Space>(data, {std::int64_t{e.batch}, tokens, std::int64_t{heads}, dim},
                           {heads * tokens * dim, dim, tokens * dim, std::int64_t{1}});
    };
    const auto size = fused.size();
    const auto out_room = room(size), grad_out_room = room(size), grad_q_room = room(size), grad_k_room = room(size),
               grad_v_room = room(size), lse_room = room(size);
    const auto out = head_major(out_room.data(), e.heads), grad_out = head_major(grad_out_room.data(), e.heads),
               grad_q = head_major(grad_q_room.data(), e.heads), grad_k = head_major(grad_k_room.data(), e.kv_heads),
               grad_v = head_major(grad_v_room.data(), e.kv_heads);
    const auto lse = tensor<Space>(lse_room.data(), {std::int64_t{e.batch}, std::int64_t{e.heads}, tokens},
                                   {tokens * e.heads, std::int64_t{1}, std::int64_t{e.heads}});
    take_tokens(in.q, q, table, rank);
    take_tokens(in.k, k, table, rank);
    take_tokens(in.v, v, table, rank);
    take_tokens(in.grad_out, grad_out, table, rank);
    attention.forward(q, k, v, out, lse, Problem{causal{}});
    attention.backward(q, k, v, out, lse, grad_out, grad_q, grad_k, grad_v, Problem{causal{}});
    put_tokens(out, strided.out, table, rank);
    put_tokens(lse, strided.lse, table, rank);
    put_tokens(grad_q, strided.grad_q, table, rank);
    put_tokens(grad_k, strided.grad_k, table, rank);
    put_tokens(grad_v, strided.grad_v, table, rank);
  });
  CHECK(differing_bits(plain, strided) == "");
}

}  // namespace rondo::test
