/// \file
/// What is chosen while the program runs, as one type each: one instantiation of a kernel serves every choice.
#pragma once

#include <rondo/rondo.hpp>

#include <bit>
#include <cstdint>
#include <string>
#include <vector>

namespace attend {

/// One of the shardings.
struct chosen_sharding {
  static constexpr int code = 100;

  int kind = rondo::contiguous::code;
  std::int64_t tokens = 0;

  static chosen_sharding named(const std::string& name, std::int64_t tokens) {
    if (name == "striped") return {rondo::striped::code, tokens};
    return {name == "zigzag" ? rondo::zigzag::code : rondo::contiguous::code, tokens};
  }

  std::int64_t total_tokens() const { return tokens; }
  std::vector<rondo::Run> runs(int rank, int ranks) const {
    if (kind == rondo::striped::code) return rondo::striped{tokens}.runs(rank, ranks);
    if (kind == rondo::zigzag::code) return rondo::zigzag{tokens}.runs(rank, ranks);
    return rondo::contiguous{tokens}.runs(rank, ranks);
  }
};

/// Any of the score functions, one after the other.
struct chosen_scores {
  static constexpr int code = 100;

  double cap = 0;  ///< 0: none

  bool any() const { return cap > 0; }
  std::int64_t fingerprint() const { return rondo::softcap{cap}.fingerprint(); }

  template <class A>
  KOKKOS_FUNCTION A apply(A score, int batch, int head, std::int64_t query, std::int64_t key) const {
    return cap > 0 ? rondo::softcap{cap}.apply(score, batch, head, query, key) : score;
  }
  template <class A>
  KOKKOS_FUNCTION A derivative(A score, int batch, int head, std::int64_t query, std::int64_t key) const {
    return cap > 0 ? rondo::softcap{cap}.derivative(score, batch, head, query, key) : A{1};
  }
};

static_assert(rondo::Sharding<chosen_sharding> && rondo::ScoreMod<chosen_scores>);

}  // namespace attend
