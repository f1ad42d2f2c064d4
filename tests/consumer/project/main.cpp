// Uses Rondo as a project of its own would: causal attention over two ranks, with a value that is known beforehand, and
// a layer where that component was asked for.
#include <rondo/rondo.hpp>
#ifdef CONSUMER_LAYERS
#include <rondo/layers.hpp>
#endif

#include <atomic>
#include <cmath>
#include <cstdio>

namespace {

/// With equal scores the output of token i is the mean of the values 0 ... i: i / 2.
bool attention_is_right() {
  std::atomic<int> wrong = 0;
  rondo::in_process_group(2).run([&](auto& comm) {
    rondo::RingAttention attention{comm, rondo::Shape{.heads = 2, .head_dim = 4}, rondo::zigzag{101}};
    using Tensor = Kokkos::View<float****, Kokkos::LayoutRight, Kokkos::HostSpace>;
    const auto tokens = attention.tokens();
    const Tensor q("q", 1, tokens, 2, 4), k("k", 1, tokens, 2, 4), v("v", 1, tokens, 2, 4), out("out", 1, tokens, 2, 4);
    const Kokkos::View<float***, Kokkos::LayoutRight, Kokkos::HostSpace> lse("lse", 1, 2, tokens);
    attention.shards().for_each_token(comm.rank(), [&](auto position, auto row) {
      v(0, row, 1, 3) = static_cast<float>(position);
    });
    attention.forward(q, k, v, out, lse, rondo::Problem{rondo::causal{}});
    attention.shards().for_each_token(comm.rank(), [&](auto position, auto row) {
      const float expected = static_cast<float>(position) / 2;
      if (std::abs(out(0, row, 1, 3) - expected) > 1e-5f * (1 + expected)) ++wrong;
    });
  });
  return wrong == 0;
}

#ifdef CONSUMER_LAYERS
/// The root mean square of (3, 4) is sqrt(12.5).
bool layer_is_right() {
  float x[] = {3, 4}, weight[] = {1, 1}, out[2];
  rondo::rms_norm<float> norm(2, 0.0);
  norm.forward(rondo::tensor<Kokkos::HostSpace>(x, {1, 2}), rondo::tensor<Kokkos::HostSpace>(weight, {2}),
               rondo::tensor<Kokkos::HostSpace>(out, {1, 2}));
  return std::abs(out[1] - 4 / std::sqrt(12.5f)) < 1e-6f;
}
constexpr const char* components = " with layers";
#else
bool layer_is_right() { return true; }
constexpr const char* components = "";
#endif

}  // namespace

int main(int argc, char** argv) {
  Kokkos::ScopeGuard kokkos(argc, argv);
  bool right = attention_is_right() && layer_is_right();
#ifdef CONSUMER_LAYERS
  right = right && rondo::build_info().layers;
#else
  right = right && !rondo::build_info().layers;
#endif
  std::printf("%s", rondo::build_info().text().c_str());
  std::printf("rondo %s%s: %s\n", rondo::version_string, components, right ? "right" : "wrong");
  return right ? 0 : 1;
}
