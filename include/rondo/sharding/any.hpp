/// \file
/// A sharding that is chosen while the program runs.
#pragma once

#include <rondo/error.hpp>
#include <rondo/sharding/concept.hpp>
#include <rondo/sharding/contiguous.hpp>
#include <rondo/sharding/striped.hpp>
#include <rondo/sharding/zigzag.hpp>

#include <concepts>
#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>
#include <vector>

namespace rondo {

/// Any sharding, as one type: what takes it is compiled once for all choices. Runs are asked for once, when a ring is made, so
/// it costs nothing after that. All ranks use it, or none.
class any_sharding {
 public:
  static constexpr int code = 6;

  /// None yet: a sequence without tokens.
  any_sharding() : any_sharding(contiguous{}) {}

  template <class S>
    requires(!std::same_as<S, any_sharding> && Sharding<S>)  // in this order: else the concept would ask for itself
  any_sharding(S sharding)
      : kind_(S::code),
        tokens_(sharding.total_tokens()),
        runs_([held = std::move(sharding)](int rank, int ranks) { return held.runs(rank, ranks); }) {}

  /// \param name  "contiguous", "striped" or "zigzag"
  /// \throws argument_error for any other name
  static any_sharding named(std::string_view name, std::int64_t tokens) {
    if (name == "contiguous") return contiguous{tokens};
    if (name == "striped") return striped{tokens};
    if (name == "zigzag") return zigzag{tokens};
    throw argument_error(detail::message("a sharding named ", name, ": it must be contiguous, striped or zigzag"));
  }

  /// The code of the sharding that was chosen.
  int kind() const { return kind_; }
  std::int64_t total_tokens() const { return tokens_; }
  std::vector<Run> runs(int rank, int ranks) const { return runs_(rank, ranks); }

 private:
  int kind_;
  std::int64_t tokens_;
  std::function<std::vector<Run>(int, int)> runs_;
};

static_assert(Sharding<any_sharding>);

}  // namespace rondo
