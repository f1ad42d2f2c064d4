/// \file
/// A problem with every feature beside the mask, any of which its parameters can turn off, and what it means, said another
/// way: capped and sloped scores, a table of biases, sinks, dropout.
#pragma once

#include <support/exactness.hpp>

#include <rondo/score/relative_bias.hpp>
#include <rondo/score/softcap_alibi.hpp>

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace rondo::test {

/// The slopes as they are published: those of a power of two are a geometric series that starts with its own ratio;
/// another number takes those of the power below, and every second one of the power above.
inline std::vector<double> published_slopes(int heads) {
  const double log = std::log2(heads);
  if (log == std::floor(log)) {
    const double start = std::pow(2, -std::pow(2, -(log - 3)));
    std::vector<double> slopes;
    for (double slope = start; static_cast<int>(slopes.size()) < heads; slope *= start) slopes.push_back(slope);
    return slopes;
  }
  const int below = 1 << static_cast<int>(std::floor(log));
  std::vector<double> slopes = published_slopes(below);
  const std::vector<double> above = published_slopes(2 * below);
  for (int i = 0; static_cast<int>(slopes.size()) < heads; i += 2) slopes.push_back(above[static_cast<std::size_t>(i)]);
  return slopes;
}

/// One Philox round function, in 64-bit arithmetic, and the ten rounds, each with its own key.
inline std::uint32_t drawn_number(std::uint64_t seed, int batch, int head, std::uint64_t query, std::uint64_t key) {
  const auto low = [](std::uint64_t x) { return x & 0xffffffffu; };
  std::uint64_t c[4] = {static_cast<std::uint64_t>(batch), static_cast<std::uint64_t>(head), 0, 0};
  for (std::uint64_t round = 0; round < 10; ++round) {
    const std::uint64_t k0 = low(seed + round * 0x9E3779B9u), k1 = low((seed >> 32) + round * 0xBB67AE85u);
    const std::uint64_t p0 = 0xD2511F53u * c[0], p1 = 0xCD9E8D57u * c[2];
    const std::uint64_t next[4] = {(p1 >> 32) ^ c[1] ^ k0, low(p1), (p0 >> 32) ^ c[3] ^ k1, low(p0)};
    for (int i = 0; i < 4; ++i) c[i] = next[i];
  }
  std::uint64_t x = low(key) ^ c[1], y = low(query) ^ c[2];
  for (std::uint64_t round = 0; round < 10; ++round) {
    const std::uint64_t product = 0xD256D193u * x;
    const std::uint64_t next = (product >> 32) ^ low(c[0] + round * 0x9E3779B9u) ^ y;
    y = low(product);
    x = next;
  }
  return static_cast<std::uint32_t>(x);
}

/// What FeatureScore means, in any arithmetic.
struct ExpectedScore {
  double cap;
  std::vector<double> slopes;
  std::vector<std::vector<double>> table;  ///< [head][distance + reach]

  template <class R>
  R apply(R s, int, int h, std::int64_t i, std::int64_t j) const {
    R x = cap > 0 ? static_cast<R>(cap) * std::tanh(s / static_cast<R>(cap)) : s;
    if (!slopes.empty()) x -= static_cast<R>(slopes[static_cast<std::size_t>(h)]) * static_cast<R>(std::abs(i - j));
    return x + static_cast<R>(table[static_cast<std::size_t>(h)][place(i, j)]);
  }
  template <class R>
  R derivative(R s, int, int, std::int64_t, std::int64_t) const {
    if (!(cap > 0)) return R{1};
    const R c = std::cosh(s / static_cast<R>(cap));
    return 1 / (c * c);
  }
  std::size_t place(std::int64_t i, std::int64_t j) const {
    const auto reach = static_cast<std::int64_t>(table[0].size() / 2);
    return static_cast<std::size_t>(std::min(std::max(j - i, -reach), reach) + reach);
  }
};

/// Capped, sloped, with a table for 4 heads.
template <class A>
struct FeatureScore : chained_score<softcap_alibi, relative_bias<A>> {
  ExpectedScore expected() const {
    const auto& [cap, heads] = this->first;
    ExpectedScore score{cap, heads > 0 ? published_slopes(heads) : std::vector<double>{}, {}};
    const auto width = static_cast<std::size_t>(2 * this->second.reach + 1);
    for (std::size_t h = 0; h < 4; ++h) {
      const A* row = this->second.table + h * width;
      score.table.emplace_back(row, row + width);
    }
    return score;
  }
};

/// What the sinks and dropout mean, and sums of the gradients that belong to them and to the table.
struct ExpectedExtras {
  static constexpr bool has_sink = true;
  std::vector<double> sinks;
  double probability;
  std::uint64_t seed;
  std::vector<std::vector<double>>* table_sums = nullptr;
  std::vector<double>* sink_sums = nullptr;
  const ExpectedScore* score = nullptr;

  double sink(int h) const { return sinks[static_cast<std::size_t>(h)]; }
  double weight(int b, int h, std::int64_t i, std::int64_t j) const {
    const double limit = probability * 0x1p32;
    const auto drawn = drawn_number(seed, b, h, static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(j));
    return static_cast<double>(drawn) < std::floor(limit) ? 0 : 1 / (1 - probability);
  }
  void note_score(int, int h, std::int64_t i, std::int64_t j, double, double gradient) const {
    if (table_sums != nullptr) (*table_sums)[static_cast<std::size_t>(h)][score->place(i, j)] += gradient;
  }
  void note_sink(int h, double gradient) const {
    if (sink_sums != nullptr) (*sink_sums)[static_cast<std::size_t>(h)] += gradient;
  }
};

template <class A>
struct FeatureSink : head_sink<A> {
  ExpectedExtras expected(const dropout& drop) const {
    return {{this->logits, this->logits + 4}, drop.probability, drop.seed};
  }
};

template <class A, class M>
using FeatureProblem = Problem<M, FeatureScore<A>, FeatureSink<A>, dropout>;

/// Memory that host and device read and write alike.
template <class A>
struct SharedAllocator {
  using value_type = A;

  A* allocate(std::size_t count) {
    return static_cast<A*>(Kokkos::kokkos_malloc<Kokkos::SharedSpace>(count * sizeof(A)));
  }
  void deallocate(A* memory, std::size_t) { Kokkos::kokkos_free<Kokkos::SharedSpace>(memory); }
  bool operator==(const SharedAllocator&) const = default;
};

/// Tables and logits for 4 heads, and room for their gradients: kernels use them where they are.
template <class A>
struct Learned {
  static constexpr int heads = 4;
  static constexpr int reach = 9;
  static constexpr int width = 2 * reach + 1;
  std::vector<A, SharedAllocator<A>> table, grad_table, logits, grad_logits;

  /// \param size  of the biases, 0 for none \param sinks  whether there are some
  Learned(double size, bool sinks)
      : table(heads * width), grad_table(heads * width, -7), logits(heads), grad_logits(heads, -7) {
    Random random(77);
    for (A& x : table) x = static_cast<A>(random.number(size));
    for (A& x : logits) x = sinks ? static_cast<A>(1 + random.number(2)) : -std::numeric_limits<A>::infinity();
  }

  template <class M>
  FeatureProblem<A, M> problem(const M& mask, softcap_alibi score, dropout drop) {
    return {mask,
            {{score, {table.data(), reach, grad_table.data()}}},
            std::numeric_limits<double>::quiet_NaN(),
            {{logits.data(), grad_logits.data()}},
            drop};
  }
};

}  // namespace rondo::test
