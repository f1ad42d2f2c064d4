/// \file
/// How host_kernel packs rows, and how its vectors are rounded to narrower types: element by element against what the
/// layout and the types themselves say.
#include <rondo/kernel/host/rows.hpp>
#include <rondo/kernel/host/wire.hpp>

#include <catch2/catch_test_macros.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

namespace rondo::test {
namespace {

constexpr int panel = host::panel<float>;

/// Rows of tokens, each element another number, with room between tokens and between elements.
template <class T>
struct Source {
  Source(int width, int element) : token(width * element + 3), storage(static_cast<std::size_t>(panel * token)) {
    for (std::size_t i = 0; i < storage.size(); ++i) storage[i] = static_cast<T>(static_cast<float>(i % 250) - 100);
    rows = {storage.data(), token, element, panel, width};
  }

  std::int64_t token;
  std::vector<T> storage;
  host::SourceRows<T> rows;
};

/// The element of a token in a panel's rows, or zero where there is none.
template <class T>
float expected(const host::SourceRows<T>& rows, int token, int d) {
  return token < rows.count && d < rows.width ? static_cast<float>(rows.at(token, d)) : 0.0f;
}

template <int Step, class T>
int misplaced_in_rows(const host::SourceRows<T>& rows) {
  int wrong = 0;
  for (int first = 0; first < rows.width; first += panel) {
    const int columns = std::min(panel, host::padded_dim<float>(rows.width) - first);
    std::vector<T> packed(static_cast<std::size_t>(panel * columns));
    if (!host::pack_rows<float, Step>(packed.data(), rows, first, columns)) ++wrong;
    for (int token = 0; token < panel; ++token) {
      for (int d = 0; d < columns; ++d) {
        const auto at = static_cast<std::size_t>(token / Step * Step * columns + d * Step + token % Step);
        if (static_cast<float>(packed[at]) != expected(rows, token, first + d)) ++wrong;
      }
    }
  }
  return wrong;
}

template <class T>
int misplaced_in_panel(const host::SourceRows<T>& rows) {
  constexpr int step = host::depth_step<T>;
  const int depth = host::depth_dim<T>(rows.width);
  std::vector<T> packed(static_cast<std::size_t>(panel * depth));
  int wrong = host::pack_panel<float>(packed.data(), rows) ? 0 : 1;
  for (int token = 0; token < panel; ++token) {
    for (int d = 0; d < depth; ++d) {
      const auto at = static_cast<std::size_t>(d / step * step * panel + token * step + d % step);
      if (static_cast<float>(packed[at]) != expected(rows, token, d)) ++wrong;
    }
  }
  return wrong;
}

/// Calls f(rows) for widths of whole vectors and others, whole panels and others, elements side by side and apart.
template <class T, class F>
void for_sources(const F& f) {
  for (const int width : {1, 4, 8, 13, 32, 40, 64, 71}) {
    for (const int element : {1, 2}) {
      Source<T> source(width, element);
      for (const int count : {panel, panel - 1, 1}) {
        INFO("width " << width << ", elements " << element << " apart, " << count << " of " << panel << " tokens");
        source.rows.count = count;
        f(source);
      }
    }
  }
}

/// How many single numbers that are not finite go unnoticed.
template <class T, class Pack>
int unnoticed(Source<T>& source, const Pack& pack) {
  int missed = 0;
  for (int token = 0; token < source.rows.count; ++token) {
    for (int d = 0; d < source.rows.width; ++d) {
      T& one = source.storage[static_cast<std::size_t>(token * source.token + d * source.rows.element)];
      const T before = one;
      for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                              std::numeric_limits<float>::quiet_NaN()}) {
        one = static_cast<T>(bad);
        if (pack()) ++missed;
      }
      one = before;
    }
  }
  return missed;
}

template <class T>
void check_packing() {
  for_sources<T>([](Source<T>& source) {
    CHECK(misplaced_in_rows<1>(source.rows) == 0);
    if constexpr (std::is_same_v<T, bfloat16>) CHECK(misplaced_in_rows<2>(source.rows) == 0);
    CHECK(misplaced_in_panel(source.rows) == 0);
  });
}

template <int Step, class T>
void check_flags() {
  for (const int width : {4, 13, 64}) {
    Source<T> source(width, 1);
    for (const int count : {panel, panel - 1}) {
      INFO("width " << width << ", " << count << " tokens, step " << Step);
      source.rows.count = count;
      const int depth = std::max(host::padded_dim<float>(width), host::depth_dim<T>(width));
      std::vector<T> packed(static_cast<std::size_t>(panel * depth));
      CHECK(unnoticed(source, [&] { return host::pack_panel<float>(packed.data(), source.rows); }) == 0);
      CHECK(unnoticed(source, [&] {
              bool finite = true;
              for (int first = 0; first < width; first += panel) {
                const int columns = std::min(panel, host::padded_dim<float>(width) - first);
                finite = host::pack_rows<float, Step>(packed.data(), source.rows, first, columns) && finite;
              }
              return finite;
            }) == 0);
    }
  }
}

/// Every float whose low bits decide how it is rounded, at every exponent.
std::vector<float> floats_to_round() {
  std::vector<float> floats;
  for (std::uint32_t high = 0; high < 0x10000; high += 7) {
    for (const std::uint32_t low : {0x0000u, 0x0001u, 0x0fffu, 0x1000u, 0x1001u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      floats.push_back(std::bit_cast<float>(high << 16 | low));
    }
  }
  while (floats.size() % host::width<float> != 0) floats.push_back(0);
  return floats;
}

template <class T>
int rounded_otherwise() {
  const std::vector<float> floats = floats_to_round();
  std::vector<T> rounded(floats.size());
  for (std::size_t at = 0; at < floats.size(); at += host::width<float>) {
    host::store<float>(rounded.data() + at, host::load<float>(floats.data() + at));
  }
  int wrong = 0;
  for (std::size_t i = 0; i < floats.size(); ++i) {
    if (rounded[i].bits() != static_cast<T>(floats[i]).bits()) ++wrong;
  }
  return wrong;
}

TEST_CASE("packed rows and panels hold every element at its place, and zeros elsewhere") {
  check_packing<float>();
  check_packing<bfloat16>();
  check_packing<float16>();
}

TEST_CASE("packing notices every number that is not finite") {
  check_flags<1, float>();
  check_flags<1, bfloat16>();
  check_flags<2, bfloat16>();
  check_flags<1, float16>();
}

TEST_CASE("vectors are rounded to narrower types as single numbers are") {
  CHECK(rounded_otherwise<bfloat16>() == 0);
  CHECK(rounded_otherwise<float16>() == 0);
}

}  // namespace
}  // namespace rondo::test
