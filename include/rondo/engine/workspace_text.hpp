/// \file
/// A workspace in words, for programs that say what they take.
#pragma once

#include <rondo/engine/rank_layout.hpp>
#include <rondo/error.hpp>

#include <string>

namespace rondo {

/// A line for each pass that takes anything: "forward: 4096 bytes, of which 2048 pieces, 2048 state of the queries, 0
/// travelling gradients". \param before  what each line begins with
inline std::string in_words(const WorkspaceBytes& bytes, const std::string& before) {
  std::string lines;
  for (const bool backward : {false, true}) {
    const PassBytes& pass = backward ? bytes.backward : bytes.forward;
    if (pass.total() == 0) continue;
    lines +=
        detail::message(before, backward ? "backward" : "forward", ": ", pass.total(), " bytes, of which ", pass.pieces,
                        " pieces, ", pass.state, " state of the queries, ", pass.gradients, " travelling gradients\n");
  }
  return lines;
}

}  // namespace rondo
