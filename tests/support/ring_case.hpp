/// \file
/// One attention problem over a ring of in-process ranks: whole tensors in, whole results out.
#pragma once

#include <support/layouts.hpp>
#include <support/whole.hpp>

#include <rondo/rondo.hpp>

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace rondo::test {

/// How the sequence is spread.
struct Ring {
  int ranks = 1;
  Layout layout = Layout::contiguous;
  std::int64_t chunk = 4096;
  int calls = 1;  ///< forward and backward this many times; the results are the last call's
  int threads_per_rank = 1;
};

/// Fills a contiguous view. (From the host: Kokkos 4.6.99's deep_copy of a number writes to wrong addresses of a device when
/// nvcc 13.0 has compiled it.)
template <class View>
void fill(const View& view, const typename View::non_const_value_type& value) {
  const auto host = Kokkos::create_mirror_view(view);
  std::fill_n(host.data(), host.size(), value);
  Kokkos::deep_copy(view, host);
}

/// What one rank holds, in its kernel's memory space. Gradients and outputs start as NaN.
template <class Kernel>
struct Shard {
  using T = typename Kernel::value_type;
  using A = typename Kernel::accumulate_type;
  using Space = typename Kernel::execution_space::memory_space;
  template <class X>
  using View4 = Kokkos::View<X****, Kokkos::LayoutRight, Space>;

  View4<T> q, k, v, grad_out, out, grad_q, grad_k, grad_v;
  Kokkos::View<A***, Kokkos::LayoutRight, Space> lse;

  Shard(const Extents& e, std::int64_t tokens)
      : q("q", e.batch, tokens, e.heads, e.head_dim),
        k("k", e.batch, tokens, e.kv_heads, e.head_dim),
        v("v", e.batch, tokens, e.kv_heads, e.value_width()),
        grad_out("grad_out", e.batch, tokens, e.heads, e.value_width()),
        out("out", e.batch, tokens, e.heads, e.value_width()),
        grad_q("grad_q", e.batch, tokens, e.heads, e.head_dim),
        grad_k("grad_k", e.batch, tokens, e.kv_heads, e.head_dim),
        grad_v("grad_v", e.batch, tokens, e.kv_heads, e.value_width()),
        lse("lse", e.batch, e.heads, tokens) {
    constexpr auto nan = std::numeric_limits<A>::quiet_NaN();
    fill(out, T(nan));
    fill(grad_q, T(nan));
    fill(grad_k, T(nan));
    fill(grad_v, T(nan));
    fill(lse, nan);
  }
};

/// Copies one rank's tokens out of a whole sequence.
template <class T, class View>
void take_tokens(const Whole<T>& whole, const View& part, const ShardTable& table, int rank) {
  const auto host = Kokkos::create_mirror_view(part);
  table.for_each_token(rank, [&](std::int64_t position, std::int64_t row) {
    for (std::size_t b = 0; b < part.extent(0); ++b) {
      for (int h = 0; h < whole.heads(); ++h) {
        for (int d = 0; d < whole.width(); ++d) {
          host(b, row, h, d) = whole(static_cast<std::int64_t>(b), position, h, d);
        }
      }
    }
  });
  Kokkos::deep_copy(part, host);
}

/// Copies one rank's results to their places in a whole sequence. lse, [batch, heads, sequence], has three axes.
template <class View>
void put_tokens(const View& part, Whole<double>& whole, const ShardTable& table, int rank) {
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, part);
  const auto wide = [](const auto& x) {
    if constexpr (std::is_floating_point_v<std::remove_cvref_t<decltype(x)>>) {
      return static_cast<double>(x);
    } else {
      return static_cast<double>(static_cast<float>(x));
    }
  };
  table.for_each_token(rank, [&](std::int64_t position, std::int64_t row) {
    for (std::size_t b = 0; b < part.extent(0); ++b) {
      for (int h = 0; h < whole.heads(); ++h) {
        for (int d = 0; d < whole.width(); ++d) {
          double& to = whole(static_cast<std::int64_t>(b), position, h, d);
          if constexpr (View::rank() == 3) {
            to = wide(host(b, h, row));
          } else {
            to = wide(host(b, row, h, d));
          }
        }
      }
    }
  });
}

inline rondo::Shape shape_of(const Extents& e) {
  return {
      .batch = e.batch, .heads = e.heads, .kv_heads = e.kv_heads, .head_dim = e.head_dim, .value_dim = e.value_width()};
}

/// Leaves the communicator as it is.
inline constexpr auto unwrapped = [](auto& comm) -> auto& { return comm; };

/// One rank's part: forward and backward, and its tokens' results put into `results`.
/// \param observe observe(attention): called after the calls
template <class Comm, class Kernel, class P, class Observe>
void ring_rank(Comm& comm, const Inputs<typename Kernel::value_type>& in, const Ring& ring, const P& problem,
               const Kernel& kernel, Results<double>& results, const Observe& observe) {
  RingAttention attention{comm, shape_of(in.extents), sharding_of(ring.layout, in.extents.tokens), kernel,
                          Options{.chunk = ring.chunk}};
  const ShardTable& table = attention.shards();
  const int rank = comm.rank();
  const Shard<Kernel> mine(in.extents, attention.tokens());
  take_tokens(in.q, mine.q, table, rank);
  take_tokens(in.k, mine.k, table, rank);
  take_tokens(in.v, mine.v, table, rank);
  take_tokens(in.grad_out, mine.grad_out, table, rank);
  for (int call = 0; call < ring.calls; ++call) {
    attention.forward(mine.q, mine.k, mine.v, mine.out, mine.lse, problem);
    attention.backward(mine.q, mine.k, mine.v, mine.out, mine.lse, mine.grad_out, mine.grad_q, mine.grad_k, mine.grad_v,
                       problem);
  }
  put_tokens(mine.out, results.out, table, rank);
  put_tokens(mine.lse, results.lse, table, rank);
  put_tokens(mine.grad_q, results.grad_q, table, rank);
  put_tokens(mine.grad_k, results.grad_k, table, rank);
  put_tokens(mine.grad_v, results.grad_v, table, rank);
  if constexpr (std::is_invocable_v<const Observe&, decltype(attention)&>) observe(attention);
}

/// Forward and backward over a ring of threads.
/// \param kernel  copied by every rank
/// \param wrap    wrap(comm): the communicator to use in a rank's place, itself or by value
/// \param observe observe(attention): called on every rank after the calls, one rank after the other
template <class Kernel, class P = Problem<>, class Wrap = decltype(unwrapped), class Observe = void (*)(int)>
Results<double> ring_attention(const Inputs<typename Kernel::value_type>& in, const Ring& ring, const P& problem = {},
                               const Kernel& kernel = {}, const Wrap& wrap = unwrapped,
                               const Observe& observe = nullptr) {
  using Exec = typename Kernel::execution_space;
  Results<double> results = empty_results<double>(in.extents);
  in_process_group<Exec>(ring.ranks, {.threads_per_rank = ring.threads_per_rank, .deadline = Deadline{30}})
      .run([&](auto& group_comm) {
        auto&& comm = wrap(group_comm);
        ring_rank(comm, in, ring, problem, kernel, results, observe);
      });
  return results;
}

/// "4 ranks, zigzag, chunk 7"
inline std::string text(const Ring& ring) {
  return std::to_string(ring.ranks) + " ranks, " + name(ring.layout) + ", chunk " + std::to_string(ring.chunk);
}

}  // namespace rondo::test
