/// \file
/// The sharding that is chosen while the program runs, as one type: one instantiation serves every choice.
#pragma once

#include <rondo/rondo.hpp>

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

static_assert(rondo::Sharding<chosen_sharding>);

}  // namespace attend
