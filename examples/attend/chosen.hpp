/// \file
/// The sharding that is chosen while the program runs, as one type: one instantiation serves every choice.
#pragma once

#include <rondo/rondo.hpp>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace attend {

/// One of the shardings, of tokens or of whole granules of them.
struct chosen_sharding {
  static constexpr int code = 100;

  int kind = rondo::contiguous::code;
  std::int64_t tokens = 0;
  std::int64_t granule = 1;

  static chosen_sharding named(const std::string& name, std::int64_t tokens, std::int64_t granule) {
    if (name == "striped") return {rondo::striped::code, tokens, granule};
    return {name == "zigzag" ? rondo::zigzag::code : rondo::contiguous::code, tokens, granule};
  }

  std::int64_t total_tokens() const { return tokens; }
  std::vector<rondo::Run> runs(int rank, int ranks) const {
    if (granule == 1) return runs_of(tokens, rank, ranks);
    std::vector<rondo::Run> result;
    for (const rondo::Run& granules : runs_of((tokens + granule - 1) / granule, rank, ranks)) {
      for (std::int32_t index = 0; index < granules.count; ++index) {
        const std::int64_t first = granules.at(index) * granule;
        const auto count = static_cast<std::int32_t>(std::min(granule, tokens - first));
        if (granules.stride == 1 && index > 0) {
          result.back().count += count;
        } else {
          result.push_back({first, 1, count});
        }
      }
    }
    return result;
  }

 private:
  std::vector<rondo::Run> runs_of(std::int64_t count, int rank, int ranks) const {
    if (kind == rondo::striped::code) return rondo::striped{count}.runs(rank, ranks);
    if (kind == rondo::zigzag::code) return rondo::zigzag{count}.runs(rank, ranks);
    return rondo::contiguous{count}.runs(rank, ranks);
  }
};

static_assert(rondo::Sharding<chosen_sharding>);

}  // namespace attend
