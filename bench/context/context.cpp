// The longest context whose attention, forward and backward, fits in so many bytes of each rank: with all probabilities in
// memory, blockwise on one rank, and on rings. Really allocated, counted, run, and rows of the result compared with double.
//   OMP_PROC_BIND=false build/release/bin/bench_context budget=256 ranks=64
// budget in MiB a rank; ranks: up to so many. Prints a line of JSON a row; context.py draws them. Ends with an error when what was
// counted is not what the formula says, or a row is wrong.
#include "plain.hpp"

#include <examples/train/memory.hpp>

#include <rondo/rondo.hpp>

#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using bench::Tensor;
using train::MemoryCount;

constexpr int heads = 4, dim = 64;
constexpr std::int64_t chunk = 512;
constexpr std::int64_t width = 256;  // of the causal window: memory knows no mask, time does
const rondo::Shape shape{.heads = heads, .head_dim = dim};
using Exec = Kokkos::DefaultHostExecutionSpace;
using Kernel = rondo::default_kernel<float, Exec>;
using Lse = Kokkos::View<float***, Kokkos::LayoutRight, Kokkos::HostSpace>;

/// Bytes of q, k, v, out and their gradients.
std::int64_t tensor_bytes(std::int64_t tokens) { return 8 * tokens * heads * dim * std::int64_t{sizeof(float)}; }
/// A rank's bytes by the published formula.
std::int64_t ring_bytes(std::int64_t tokens, int ranks) {
  const rondo::contiguous sharding{tokens * ranks};
  const auto workspace = rondo::workspace_bytes(Kernel{}, shape, sharding, ranks, 0, chunk).total();
  return tensor_bytes(tokens) + tokens * heads * std::int64_t{sizeof(float)} + static_cast<std::int64_t>(workspace);
}
std::int64_t plain_bytes(std::int64_t tokens) {
  return tensor_bytes(tokens) + 2 * heads * tokens * tokens * std::int64_t{sizeof(float)};
}

/// The most tokens whose bytes are within the budget.
template <class Bytes>
std::int64_t most_tokens(std::int64_t budget, const Bytes& bytes) {
  std::int64_t low = 0, high = budget;
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (bytes(middle) <= budget ? low : high) = middle;
  }
  return low;
}

/// A number in [-1, 1) that any rank can make.
float number(int tensor, std::int64_t token, int head, int d) {
  std::uint64_t x = (static_cast<std::uint64_t>(token) * heads + static_cast<std::uint64_t>(head)) * dim +
                    static_cast<std::uint64_t>(d) + (static_cast<std::uint64_t>(tensor) << 56);
  x = (x ^ (x >> 31)) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9u;
  return static_cast<float>(static_cast<std::int32_t>(x >> 32)) * 0x1p-31f;
}
enum : int { Q, K, V, GRAD };

/// A rank's tensors, of the tokens from `first`.
struct Shard {
  std::int64_t first;
  Tensor q, k, v, grad, out, grad_q, grad_k, grad_v;
  Shard(std::int64_t first_token, std::int64_t tokens) : first(first_token) {
    for (Tensor* x : {&q, &k, &v, &grad, &out, &grad_q, &grad_k, &grad_v}) *x = Tensor("shard", 1, tokens, heads, dim);
    const Tensor inputs[] = {q, k, v, grad};
    for (int tensor = Q; tensor <= GRAD; ++tensor) {
      for (std::int64_t i = 0; i < tokens; ++i) {
        for (int h = 0; h < heads; ++h) {
          for (int d = 0; d < dim; ++d) inputs[tensor](0, i, h, d) = number(tensor, first + i, h, d);
        }
      }
    }
  }

  /// The largest error of out and grad_q in a row, relative to the row's size in double.
  double error_of_row(std::int64_t row) const {
    double farthest = 0;
    const std::int64_t token = first + row, begin = std::max<std::int64_t>(0, token - width + 1);
    for (int h = 0; h < heads; ++h) {
      std::vector<double> p, right(dim), slope(dim);
      const auto dot = [&](int a, std::int64_t i, int b, std::int64_t j) {
        double sum = 0;
        for (int d = 0; d < dim; ++d) sum += double{number(a, i, h, d)} * double{number(b, j, h, d)};
        return sum;
      };
      double l = 0, delta = 0;
      const double scale = 1 / std::sqrt(double{dim});
      for (std::int64_t j = begin; j <= token; ++j) l += p.emplace_back(std::exp(scale * dot(Q, token, K, j)));
      const auto of = [&](int d) { return static_cast<std::size_t>(d); };
      for (std::int64_t j = begin; j <= token; ++j) {
        for (int d = 0; d < dim; ++d)
          right[of(d)] += p[static_cast<std::size_t>(j - begin)] / l * double{number(V, j, h, d)};
      }
      for (int d = 0; d < dim; ++d) delta += right[of(d)] * double{number(GRAD, token, h, d)};
      for (std::int64_t j = begin; j <= token; ++j) {
        const double ds = scale * p[static_cast<std::size_t>(j - begin)] / l * (dot(GRAD, token, V, j) - delta);
        for (int d = 0; d < dim; ++d) slope[of(d)] += ds * double{number(K, j, h, d)};
      }
      const auto compare = [&](const Tensor& found, const std::vector<double>& exact) {
        double square = 0, most = 0;
        for (int d = 0; d < dim; ++d) {
          square += exact[of(d)] * exact[of(d)] / dim;
          most = std::max(most, std::abs(double{found(0, row, h, d)} - exact[of(d)]));
        }
        const double error = square == 0 ? most : most / std::sqrt(square);
        farthest = error <= farthest ? farthest : error;  // NaN too
      };
      compare(out, right);
      if (token > begin) compare(grad_q, slope);  // a row that sees one key has no slope
    }
    return farthest;
  }
};

std::int64_t resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmRSS:", 0) == 0) return std::stoll(line.substr(6)) * 1024;
  }
  return 0;
}

/// What a row of the table found.
struct Found {
  std::int64_t peak = 0;      ///< of the rank with most, counted
  std::int64_t resident = 0;  ///< of all, as the system counts it
  double error = 0;
};

Found run_plain(std::int64_t tokens) {
  const std::int64_t before = resident_bytes();
  Found found;
  rondo::in_process_group<Exec>(1).run([&](auto&) {
    const std::int64_t held = MemoryCount::bytes();
    const Shard mine(0, tokens);
    bench::plain_attention(mine.q, mine.k, mine.v, mine.out, mine.grad, mine.grad_q, mine.grad_k, mine.grad_v, width);
    found = {MemoryCount::peak() - held, resident_bytes() - before,
             std::max(mine.error_of_row(1), mine.error_of_row(tokens - 1))};
  });
  return found;
}

/// Forward and backward of a rank with so many tokens, and a look at some rows and at the memory. Its peak is left to the caller.
template <class Comm>
Found call(Comm& comm, std::int64_t tokens) {
  rondo::RingAttention attention{comm, shape, rondo::contiguous{tokens * comm.size()}, Kernel{},
                                 rondo::Options{.chunk = chunk}};
  const Shard mine(comm.rank() * tokens, tokens);
  const Lse lse("lse", 1, heads, tokens);
  const rondo::Problem problem{rondo::window{width - 1, 0}};
  attention.forward(mine.q, mine.k, mine.v, mine.out, lse, problem);
  attention.backward(mine.q, mine.k, mine.v, mine.out, lse, mine.grad, mine.grad_q, mine.grad_k, mine.grad_v, problem);
  comm.barrier();
  Found found{.resident = resident_bytes()};
  comm.barrier();
  for (const std::int64_t row : {std::int64_t{0}, tokens / 2, tokens - 1}) {
    const double error = mine.error_of_row(row);
    found.error = error <= found.error ? found.error : error;
  }
  return found;
}

Found run_ring(std::int64_t tokens, int ranks) {
  const std::int64_t before = resident_bytes();
  Found found;
  rondo::in_process_group<Exec>(ranks, {.deadline = rondo::Deadline{3600}}).run([&](auto& comm) {
    call(comm,
         1);  // what Kokkos keeps of each thread's scratch memory, whatever the number of tokens, is there from here on
    const std::int64_t held = MemoryCount::bytes();
    Found mine = call(comm, tokens);
    mine.peak = MemoryCount::peak() - held;
    comm.all_reduce(std::span{&mine.error, 1}, rondo::Reduction::maximum);
    comm.all_reduce(std::span{&mine.peak, 1}, rondo::Reduction::maximum);
    if (comm.rank() == 0) found = {mine.peak, mine.resident - before, mine.error};
  });
  return found;
}

void show(const char* method, int ranks, std::int64_t tokens, std::int64_t formula, const Found& found) {
  const double resident = static_cast<double>(found.resident) / (static_cast<double>(found.peak) * ranks);
  std::printf(
      "{\"method\": \"%s\", \"ranks\": %d, \"context\": %lld, \"peak_bytes\": %lld, \"formula_bytes\": %lld, "
      "\"resident_to_counted\": %.4f, \"error\": %.2e}\n",
      method, ranks, static_cast<long long>(tokens * ranks), static_cast<long long>(found.peak),
      static_cast<long long>(formula), resident, found.error);
  std::fflush(stdout);
  if (found.peak != formula) throw std::runtime_error("the peak is not the formula's");
  if (!(found.error < 1e-3)) throw std::runtime_error("the result is wrong");
}

}  // namespace

int main(int argc, char** argv) {
  std::int64_t budget = 256, most_ranks = 64;
  try {
    for (int i = 1; i < argc; ++i) {
      const std::string argument = argv[i];
      const auto value = [&] { return std::stoll(argument.substr(argument.find('=') + 1)); };
      if (argument.rfind("budget=", 0) == 0) {
        budget = value();
      } else if (argument.rfind("ranks=", 0) == 0) {
        most_ranks = value();
      } else {
        throw std::runtime_error(argument + " is neither budget= nor ranks=");
      }
    }
    budget <<= 20;
    // What a row of the table frees goes back at once, so that the next one's is all that is resident more.
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    const Kokkos::ScopeGuard kokkos(Kokkos::InitializationSettings().set_num_threads(1).set_disable_warnings(true));
    const MemoryCount counting;
    const std::int64_t plain = most_tokens(budget, plain_bytes);
    show("plain", 1, plain, plain_bytes(plain), run_plain(plain));
    for (int ranks = 1; ranks <= most_ranks; ranks *= 2) {
      const std::int64_t tokens = most_tokens(budget, [&](std::int64_t n) { return ring_bytes(n, ranks); });
      show(ranks == 1 ? "blockwise" : "ring", ranks, tokens, ring_bytes(tokens, ranks), run_ring(tokens, ranks));
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_context: %s\n", error.what());
    return EXIT_FAILURE;
  }
}
