/// \file
/// Random inputs from a fixed seed: the same numbers with every compiler and library.
#pragma once

#include <support/whole.hpp>

#include <catch2/catch_get_random_seed.hpp>

#include <cstdint>
#include <random>

namespace rondo::test {

/// Numbers evenly spread over [-size, size).
class Random {
 public:
  /// \param stream  tells apart several generators of one test program
  explicit Random(std::uint64_t stream = 0) : engine_(Catch::getSeed() + 1000003 * stream) {}

  double number(double size = 1) { return size * (2 * static_cast<double>(engine_() >> 11) / 0x1p53 - 1); }

  template <class T>
  void fill(Whole<T>& tensor, double size = 1) {
    for (T& x : tensor.values()) {
      if constexpr (std::is_floating_point_v<T>) {
        x = static_cast<T>(number(size));
      } else {
        x = T(static_cast<float>(number(size)));
      }
    }
  }

 private:
  std::mt19937_64 engine_;
};

/// How large the entries of q and k are. Of the usual size, scores are around 1 and a row attends to all of its keys;
/// peaked, they reach 50 to 100 and nearly all of a row's weight lies on one key.
enum class Scores { usual, peaked };

template <class T>
Inputs<T> random_inputs(const Extents& e, Scores scores = Scores::usual, std::uint64_t stream = 0) {
  Inputs<T> in{e,
               {e.batch, e.tokens, e.heads, e.head_dim},
               {e.batch, e.tokens, e.kv_heads, e.head_dim},
               {e.batch, e.tokens, e.kv_heads, e.value_width()},
               {e.batch, e.tokens, e.heads, e.value_width()}};
  Random random(stream);
  const double size = scores == Scores::peaked ? 10 : 1.7;
  random.fill(in.q, size);
  random.fill(in.k, size);
  random.fill(in.v);
  random.fill(in.grad_out);
  return in;
}

}  // namespace rondo::test
