// Attention in bfloat16 where Kokkos computes by default, a line of JSON for each measurement: what scripts/device reports.
//   bench_device kernel|ring|memory [--tokens N] [--heads N] [--seconds S] [--chunk N] [--only NAME] [--dim D]
//   kernel   one rank: forward and backward, full and causal, head_dim 64 and 128, by every kernel for this device
//   ring     the same work on 1 to 8 ranks of one device, each with a stream of its own, and what of it is messages that
//            nothing hides: the share by which it is faster when none are sent
//   memory   what a rank's workspace takes of the device, beside the formula
#include "../support/silent.hpp"

#include <rondo/rondo.hpp>
#ifdef KOKKOS_ENABLE_CUDA
#include <rondo/kernel/hopper/hopper.hpp>
#endif

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <type_traits>

namespace {

using Exec = Kokkos::DefaultExecutionSpace;
using T = rondo::bfloat16;
template <class X>
using Tensor = Kokkos::View<X****, Kokkos::LayoutRight, Exec>;

struct Settings {
  std::int64_t tokens = 8192;
  int heads = 16;
  double seconds = 0.3;
  std::int64_t chunk = 1 << 20;  ///< tokens of a piece, at most: a rank's own are one piece
  std::string only;              ///< the one kernel to measure
  int dim = 0;                   ///< the one head_dim
};

/// Numbers between -1 and 1.
Tensor<T> filled(std::int64_t tokens, int heads, int dim, std::uint32_t salt) {
  const Tensor<T> x(Kokkos::view_alloc(Kokkos::WithoutInitializing, "x"), 1, tokens, heads, dim);
  T* const data = x.data();
  Kokkos::parallel_for(
      "fill", Kokkos::RangePolicy<Exec, Kokkos::IndexType<std::int64_t>>(0, static_cast<std::int64_t>(x.size())),
      KOKKOS_LAMBDA(std::int64_t i) {
        auto bits = static_cast<std::uint32_t>(i) * 2654435761u + salt * 40503u;
        bits = (bits ^ (bits >> 15)) * 2246822519u;
        data[i] = T(static_cast<float>(bits >> 8) / 8388608.0f - 1.0f);
      });
  Kokkos::fence();
  return x;
}

/// One rank's tensors and its attention.
template <class Comm, class Kernel>
struct Rank {
  Rank(Comm& comm, const Settings& given, int dim)
      : attention(comm, rondo::Shape{.heads = given.heads, .head_dim = dim}, rondo::striped{given.tokens}, Kernel{},
                  rondo::Options{.chunk = given.chunk, .waits = false}),
        tokens(attention.tokens()),
        q(filled(tokens, given.heads, dim, 1)),
        k(filled(tokens, given.heads, dim, 2)),
        v(filled(tokens, given.heads, dim, 3)),
        grad_out(filled(tokens, given.heads, dim, 4)),
        out("out", 1, tokens, given.heads, dim),
        grad_q("grad_q", 1, tokens, given.heads, dim),
        grad_k("grad_k", 1, tokens, given.heads, dim),
        grad_v("grad_v", 1, tokens, given.heads, dim),
        lse("lse", 1, given.heads, tokens) {}

  template <class P>
  void forward(const P& problem) {
    attention.forward(q, k, v, out, lse, problem);
  }
  template <class P>
  void backward(const P& problem) {
    attention.backward(q, k, v, out, lse, grad_out, grad_q, grad_k, grad_v, problem);
  }

  rondo::RingAttention<Comm, rondo::striped, Kernel> attention;
  std::int64_t tokens;
  Tensor<T> q, k, v, grad_out, out, grad_q, grad_k, grad_v;
  Kokkos::View<float***, Kokkos::LayoutRight, Exec> lse;
};

/// Seconds of one call, from the moment when all ranks are ready until all have finished, over at least `seconds`. The calls
/// queue up, as PyTorch's do.
template <class Comm, class Call, class Wait>
double timed(Comm& comm, double seconds, const Call& call, const Wait& wait) {
  using Clock = std::chrono::steady_clock;
  call();
  for (std::int64_t calls = 1;; calls *= 2) {
    wait();
    comm.barrier();
    const auto begin = Clock::now();
    for (std::int64_t i = 0; i < calls; ++i) call();
    wait();
    comm.barrier();
    const double took = std::chrono::duration<double>(Clock::now() - begin).count();
    if (comm.agree(took >= seconds)) return took / static_cast<double>(calls);
  }
}

/// Useful floating-point operations of the forward pass; the backward pass has 2.5 times as many.
double flops(bool causal, std::int64_t tokens, int heads, int dim) {
  const double n = static_cast<double>(tokens);
  return 4.0 * (causal ? n * (n + 1) / 2 : n * n) * heads * dim;
}

template <class Kernel, class P>
void measure(const char* part, const char* kernel, const char* mask, const P& problem, const Settings& given, int ranks,
             int dim) {
  if ((!given.only.empty() && given.only != kernel) || (given.dim != 0 && given.dim != dim)) return;
  const bool is_causal = std::strcmp(mask, "causal") == 0;
  using Group = rondo::in_process_group<Exec>;
  Group(ranks).run([&](typename Group::communicator& group) {
    bench::silent comm(group.split(0, group.rank()));
    Rank<bench::silent<typename Group::communicator>, Kernel> rank(comm, given, dim);
    const auto wait = [&] { rank.attention.wait(); };
    const auto forward_time = [&] {
      return timed(
          comm, given.seconds, [&] { rank.forward(problem); }, wait);
    };
    const auto backward_time = [&] {
      return timed(
          comm, given.seconds, [&] { rank.backward(problem); }, wait);
    };
    const double forward = forward_time(), backward = backward_time();
    comm.set_moving(ranks == 1);
    const double exposed_forward = ranks == 1 ? 0 : 1 - forward_time() / forward;
    const double exposed_backward = ranks == 1 ? 0 : 1 - backward_time() / backward;
    if (comm.rank() != 0) return;
    const double work = flops(is_causal, given.tokens, given.heads, dim);
    std::printf(
        "{\"part\": \"%s\", \"kernel\": \"%s\", \"mask\": \"%s\", \"tokens\": %lld, \"heads\": %d, \"dim\": %d, "
        "\"ranks\": %d, "
        "\"forward_ms\": %.6g, \"backward_ms\": %.6g, \"forward_tflops\": %.4g, \"backward_tflops\": %.4g, "
        "\"exposed_forward\": %.4g, \"exposed_backward\": %.4g}\n",
        part, kernel, mask, static_cast<long long>(given.tokens), given.heads, dim, ranks, forward * 1e3,
        backward * 1e3, work / forward * 1e-12, 2.5 * work / backward * 1e-12, exposed_forward, exposed_backward);
    std::fflush(stdout);
  });
}

/// Calls f(type of kernel, name) for those that are made for bfloat16 on this device.
template <class F>
void for_each_kernel(const F& f) {
#if defined(KOKKOS_ENABLE_CUDA)
  f(std::type_identity<rondo::mma_kernel<T, Exec>>{}, "mma");
  if (rondo::hopper_kernel<T, Exec>::available(Exec()))
    f(std::type_identity<rondo::hopper_kernel<T, Exec>>{}, "hopper");
#else
  f(std::type_identity<rondo::default_kernel<T, Exec>>{}, "default");
#endif
}

/// Bytes that are free on the device, where there is one.
std::optional<std::size_t> free_bytes() {
#if defined(KOKKOS_ENABLE_CUDA)
  std::size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) == cudaSuccess) return free;
#elif defined(KOKKOS_ENABLE_HIP)
  std::size_t free = 0, total = 0;
  if (hipMemGetInfo(&free, &total) == hipSuccess) return free;
#endif
  return std::nullopt;
}

void memory(const Settings& given) {
  rondo::in_process_group<Exec>(1).run([&](auto& comm) {
    const rondo::Shape shape{.heads = given.heads, .head_dim = 128};
    const rondo::striped sharding{given.tokens};
    const auto before = free_bytes();
    rondo::RingAttention attention{comm, shape, sharding, rondo::default_kernel<T, Exec>{}};
    const auto after = free_bytes();
    const std::string taken = before && after ? std::to_string(static_cast<long long>(*before - *after)) : "null";
    std::printf(
        "{\"part\": \"memory\", \"tokens\": %lld, \"heads\": %d, \"dim\": 128, \"workspace_bytes\": %zu, "
        "\"taken_bytes\": %s}\n",
        static_cast<long long>(given.tokens), given.heads, attention.workspace_bytes(), taken.c_str());
  });
}

int usage() {
  std::fputs(
      "bench_device kernel|ring|memory [--tokens N] [--heads N] [--seconds S] [--chunk N] [--only NAME] [--dim D], "
      "numbers above 0\n",
      stderr);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  Settings given;
  const std::string part = argc > 1 ? argv[1] : "";
  for (int i = 2; i < argc; i += 2) {
    const std::string option = argv[i];
    if (i + 1 == argc) return usage();
    if (option == "--tokens") {
      given.tokens = std::atoll(argv[i + 1]);
    } else if (option == "--heads") {
      given.heads = std::atoi(argv[i + 1]);
    } else if (option == "--chunk") {
      given.chunk = std::atoll(argv[i + 1]);
    } else if (option == "--only") {
      given.only = argv[i + 1];
    } else if (option == "--dim") {
      given.dim = std::atoi(argv[i + 1]);
    } else if (option == "--seconds") {
      given.seconds = std::atof(argv[i + 1]);
    } else {
      return usage();
    }
  }
  if ((part != "kernel" && part != "ring" && part != "memory") || given.tokens < 1 || given.heads < 1 ||
      given.chunk < 1 || !(given.seconds > 0)) {
    return usage();
  }
  Kokkos::ScopeGuard kokkos(argc, argv);
  std::fputs(rondo::build_info().text().c_str(), stderr);
  const rondo::Problem full{rondo::full{}};
  const rondo::Problem causal{rondo::causal{}};
  if (part == "kernel") {
    for_each_kernel([&]<class Kernel>(std::type_identity<Kernel>, const char* name) {
      for (const int dim : {64, 128}) {
        measure<Kernel>("kernel", name, "full", full, given, 1, dim);
        measure<Kernel>("kernel", name, "causal", causal, given, 1, dim);
      }
    });
  } else if (part == "ring") {
    for_each_kernel([&]<class Kernel>(std::type_identity<Kernel>, const char* name) {
      for (const int ranks : {1, 2, 4, 8}) measure<Kernel>("ring", name, "causal", causal, given, ranks, 128);
    });
  } else {
    memory(given);
  }
  return 0;
}
