/// \file
/// What a rank's workspace is made of: bytes by purpose, known before anything is allocated.
#pragma once

#include <rondo/workspace_layout.hpp>

#include <algorithm>
#include <array>
#include <cstddef>

namespace rondo {

/// Bytes of one pass, by purpose.
struct PassBytes {
  std::size_t pieces =
      0;  ///< packed keys and values: the piece computed with, the rank's own or a visitor's, and the one arriving
  std::size_t state = 0;      ///< of the rank's queries: l and acc forward, delta and the sums of grad_q backward
  std::size_t gradients = 0;  ///< of pieces on their way: own, computed with, leaving, arriving
  std::size_t total() const { return pieces + state + gradients; }
  friend bool operator==(const PassBytes&, const PassBytes&) = default;
};

/// A rank's workspace. The passes share the memory: the larger counts.
struct WorkspaceBytes {
  PassBytes forward;
  PassBytes backward;
  std::size_t total() const { return std::max(forward.total(), backward.total()); }
  friend bool operator==(const WorkspaceBytes&, const WorkspaceBytes&) = default;
};

namespace detail {

/// The sizes from which a workspace is laid out, in bytes.
struct RankSizes {
  std::size_t forward_wire = 0;  ///< a packed piece
  std::size_t backward_wire = 0;
  std::size_t rows = 0;     ///< a number in the accumulate type for each query row
  std::size_t out = 0;      ///< as much as out in the accumulate type; 0 where outputs are as wide and serve themselves
  std::size_t queries = 0;  ///< as much as q, likewise
  std::size_t gradient = 0;  ///< gradients of a piece's keys and values in the accumulate type
};

/// Where everything lies. Each part is rounded up to 128 bytes:
///   forward   2 wires of a piece, l, and acc where out is narrower
///   backward  2 wires of a piece, delta, the sums of grad_q likewise, and 4 gradients of a piece
struct RankLayout {
  /// Places for packed pieces: one computed with, one arriving.
  static constexpr int slots = 2;

  /// \param with_backward  false: forward alone, nothing is laid out for the other pass
  explicit RankLayout(const RankSizes& sizes, bool with_backward = true) {
    WorkspaceLayout forward;
    for (auto& slot : forward_slot) slot = forward.add(sizes.forward_wire);
    bytes.forward.pieces = forward.bytes();
    l = forward.add(sizes.rows);
    acc = forward.add(sizes.out);
    bytes.forward.state = forward.bytes() - bytes.forward.pieces;
    if (!with_backward) return;
    WorkspaceLayout backward;
    for (auto& slot : backward_slot) slot = backward.add(sizes.backward_wire);
    bytes.backward.pieces = backward.bytes();
    delta = backward.add(sizes.rows);
    grad_q = backward.add(sizes.queries);
    bytes.backward.state = backward.bytes() - bytes.backward.pieces;
    for (auto& place : gradient) place = backward.add(sizes.gradient);
    bytes.backward.gradients = backward.bytes() - bytes.backward.pieces - bytes.backward.state;
  }

  std::array<std::size_t, slots> forward_slot{};
  std::array<std::size_t, slots> backward_slot{};
  std::array<std::size_t, 4> gradient{};
  std::size_t l = 0, acc = 0, delta = 0, grad_q = 0;
  WorkspaceBytes bytes;
};

}  // namespace detail
}  // namespace rondo
