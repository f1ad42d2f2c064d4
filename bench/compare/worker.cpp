// Our side of the comparison: one shape through the public API, forward and backward, timed call by call. Prints JSON:
// seconds of every call, and the FMA peak of as many cores, measured before them.
//
//   bench_compare_worker TOKENS HEADS HEAD_DIM full|causal fp32|bf16 RANKS THREADS CALLS INPUTS OUTPUTS
//
// INPUTS holds q, k, v, grad_out, each [TOKENS, HEADS, HEAD_DIM] in float; OUTPUTS gets out, grad_q, grad_k, grad_v.
#include <support/peak.hpp>
#include <support/tensors.hpp>
#include <support/timed.hpp>

#include <rondo/rondo.hpp>

#include <array>
#include <cstdio>
#include <exception>
#include <fstream>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using Exec = Kokkos::DefaultHostExecutionSpace;

struct Case {
  std::int64_t tokens;
  int heads, head_dim;
  bool causal;
  int ranks, threads, calls;
  std::string inputs, outputs;
};

struct Times {
  std::vector<double> forward, backward;
  std::vector<double> peaks;  // of each rank, all at the same time
};

template <class T>
bench::Tensor4<T> zeros(std::int64_t tokens, const Case& shape) {
  return bench::Tensor4<T>("tensor", 1, tokens, shape.heads, shape.head_dim);
}

/// q, k, v, grad_out, or out, grad_q, grad_k, grad_v, of the whole sequence.
template <class T>
using Tensors = std::array<bench::Tensor4<T>, 4>;

template <class T>
Tensors<T> read(const Case& shape) {
  std::ifstream file(shape.inputs, std::ios::binary);
  file.exceptions(std::ios::failbit);
  Tensors<T> all;
  for (auto& x : all) {
    x = zeros<T>(shape.tokens, shape);
    std::vector<float> values(x.size());
    file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
    for (std::size_t i = 0; i < values.size(); ++i) x.data()[i] = static_cast<T>(values[i]);
  }
  return all;
}

template <class T>
void write(const Case& shape, const Tensors<T>& all) {
  std::ofstream file(shape.outputs, std::ios::binary);
  file.exceptions(std::ios::failbit);
  for (const auto& x : all) {
    std::vector<float> values(x.size());
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(x.data()[i]);
    file.write(reinterpret_cast<const char*>(values.data()),
               static_cast<std::streamsize>(values.size() * sizeof(float)));
  }
}

/// Seconds of every call after a first one that is not counted.
template <class Call>
std::vector<double> timed(auto& comm, int calls, const Call& call) {
  std::vector<double> seconds;
  call();
  for (int i = 0; i < calls; ++i) seconds.push_back(bench::timed(comm, call));
  return seconds;
}

template <class T, class Mask>
Times measure(const Case& shape) {
  using Kernel = rondo::default_kernel<T, Exec>;
  using A = typename Kernel::accumulate_type;
  const Tensors<T> given = read<T>(shape);
  Tensors<T> computed;
  for (auto& x : computed) x = zeros<T>(shape.tokens, shape);
  Times times;
  times.peaks.resize(static_cast<std::size_t>(shape.ranks));

  rondo::in_process_group<Exec>(shape.ranks, {.threads_per_rank = shape.threads}).run([&](auto& comm) {
    const int rank = comm.rank();
    rondo::RingAttention attention{comm, rondo::Shape{.heads = shape.heads, .head_dim = shape.head_dim},
                                   rondo::striped{shape.tokens}, Kernel{}};
    const std::int64_t tokens = attention.tokens();
    Tensors<T> in, result;
    for (std::size_t i = 0; i < in.size(); ++i) {
      in[i] = zeros<T>(tokens, shape);
      result[i] = zeros<T>(tokens, shape);
      rondo::shard(given[i], in[i], attention.shards(), rank);
    }
    const auto& [q, k, v, grad_out] = in;
    const auto& [out, grad_q, grad_k, grad_v] = result;
    const bench::Tensor3<A> lse("lse", 1, shape.heads, tokens);
    const rondo::Problem problem{Mask{}};

    comm.barrier();
    times.peaks[static_cast<std::size_t>(rank)] = shape.threads * bench::peak_gflops<float>();
    const auto forward = timed(comm, shape.calls, [&] { attention.forward(q, k, v, out, lse, problem); });
    const auto backward = timed(
        comm, shape.calls, [&] { attention.backward(q, k, v, out, lse, grad_out, grad_q, grad_k, grad_v, problem); });
    for (std::size_t i = 0; i < result.size(); ++i) rondo::unshard(result[i], computed[i], attention.shards(), rank);
    if (rank == 0) times.forward = forward, times.backward = backward;
  });
  write(shape, computed);
  return times;
}

template <class T>
Times measure(const Case& shape) {
  return shape.causal ? measure<T, rondo::causal>(shape) : measure<T, rondo::full>(shape);
}

/// Is `word` the one thing? If not, it has to be the other.
bool is(const std::string& word, const char* one, const char* other) {
  if (word != one && word != other) throw std::invalid_argument(word + " is neither " + one + " nor " + other);
  return word == one;
}

void print(const char* name, const std::vector<double>& values) {
  std::printf("\"%s\": [", name);
  for (std::size_t i = 0; i < values.size(); ++i) std::printf("%s%.9g", i == 0 ? "" : ", ", values[i]);
  std::printf("], ");
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 11) {
    std::fprintf(stderr, "usage: %s TOKENS HEADS HEAD_DIM full|causal fp32|bf16 RANKS THREADS CALLS INPUTS OUTPUTS\n",
                 argv[0]);
    return 2;
  }
  const std::vector<std::string> words(argv + 1, argv + argc);
  const Case shape{.tokens = std::stoll(words[0]),
                   .heads = std::stoi(words[1]),
                   .head_dim = std::stoi(words[2]),
                   .causal = is(words[3], "causal", "full"),
                   .ranks = std::stoi(words[5]),
                   .threads = std::stoi(words[6]),
                   .calls = std::stoi(words[7]),
                   .inputs = words[8],
                   .outputs = words[9]};
  Kokkos::ScopeGuard kokkos;
  const Times times = is(words[4], "bf16", "fp32") ? measure<rondo::bfloat16>(shape) : measure<float>(shape);
  std::printf("{");
  print("forward", times.forward);
  print("backward", times.backward);
  std::printf("\"peak_gflops\": %.1f, ", std::accumulate(times.peaks.begin(), times.peaks.end(), 0.0));
  std::printf("\"version\": \"%d-bit vectors\"}\n", 8 * rondo::host::vector_bytes);
  return 0;
} catch (const std::exception& exception) {
  std::fprintf(stderr, "%s: %s\n", argv[0], exception.what());
  return 1;
}
