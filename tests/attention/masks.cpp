/// \file
/// RingAttention under every mask against the oracle, over rings, shardings and chunks: what is left out was not needed.
#include "exact.hpp"

#include <rondo/mask/intervals.hpp>
#include <rondo/mask/pairs.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace rondo::test {
namespace {

/// A mask beside its definition.
template <class M>
struct Ruled : M {
  bool (*rule)(int b, std::int64_t i, std::int64_t j);
  bool expected(int b, int /*head*/, std::int64_t i, std::int64_t j) const { return rule(b, i, j); }
};

/// A rule that is asked pair by pair. (No lambda: one local to a function cannot be part of what nvcc compiles.)
struct EveryFourthLeftOut {
  KOKKOS_FUNCTION bool operator()(int, int, std::int64_t i, std::int64_t j) const { return (3 * i + j) % 4 != 1; }
};

constexpr std::int64_t tokens = 137;
constexpr Extents sequence{.batch = 2, .heads = 4, .kv_heads = 2, .head_dim = 16, .tokens = tokens};

std::vector<Ring> some_rings() {
  std::vector<Ring> rings{{1, Layout::contiguous, 40}};
  for (const Layout layout : all_layouts) {
    rings.push_back({4, layout, 4096});
    rings.push_back({8, layout, 9});
  }
  return rings;
}

template <class M>
void check(const std::string& kind, const M& mask, bool (*rule)(int, std::int64_t, std::int64_t)) {
  const Problem problem{Ruled<M>{mask, rule}};
  check_rings(Exactness<float, Problem<Ruled<M>>>(sequence, problem), kind, some_rings());
}

}  // namespace

TEST_CASE("windows that look back, ahead or both ways are as exact as promised") {
  check("a window back", intervals{window{20, 0}},
        [](int, std::int64_t i, std::int64_t j) { return j <= i && j >= i - 20; });
  check("a window ahead", intervals{window{0, 20}},
        [](int, std::int64_t i, std::int64_t j) { return j >= i && j <= i + 20; });
  check("a window", intervals{window{11, 7}},
        [](int, std::int64_t i, std::int64_t j) { return j >= i - 11 && j <= i + 7; });
  check("a window narrower than a stripe", intervals{window{2, 0}},
        [](int, std::int64_t i, std::int64_t j) { return j <= i && j >= i - 2; });
}

TEST_CASE("prefixes, chunks, documents and padding are as exact as promised") {
  check("a prefix", intervals{prefix{50}}, [](int, std::int64_t i, std::int64_t j) { return j <= i || j < 50; });
  check("chunks", intervals{chunked{30}}, [](int, std::int64_t i, std::int64_t j) { return i / 30 == j / 30; });
  const auto documents = Documents<>::per_batch({{0, 3, 90, tokens}, {0, 64, 64, 65, tokens}});
  const auto in_document = [](int b, std::int64_t i, std::int64_t j) {
    const auto id = [b](std::int64_t x) {
      return b == 0 ? (x < 3 ? 0 : x < 90 ? 1 : 2) : (x < 64 ? 0 : x < 65 ? 1 : 2);
    };
    return id(i) == id(j);
  };
  check("documents", intervals{documents.mask()}, in_document);
  const Lengths lengths{{50, 0}};
  check("padding", intervals{lengths.mask()}, [](int b, std::int64_t, std::int64_t j) { return b == 0 && j < 50; });

  intervals all = causal{};
  all &= window{.left = 40};
  all &= documents.mask();
  const Lengths most{{100, tokens}};
  all &= most.mask();
  check("a combination", all, [](int b, std::int64_t i, std::int64_t j) {
    const auto id = [b](std::int64_t x) {
      return b == 0 ? (x < 3 ? 0 : x < 90 ? 1 : 2) : (x < 64 ? 0 : x < 65 ? 1 : 2);
    };
    return j <= i && j >= i - 40 && id(i) == id(j) && (b == 1 || j < 100);
  });
}

TEST_CASE("a combination that is asked pair by pair is as exact as promised") {
  const pairs striped_out{EveryFourthLeftOut{}};
  check("pairs", (striped_out & window{20, 9}) | !window{60, 60}, [](int, std::int64_t i, std::int64_t j) {
    const bool near = j >= i - 20 && j <= i + 9 && (3 * i + j) % 4 != 1;
    return near || j < i - 60 || j > i + 60;
  });
}

}  // namespace rondo::test
