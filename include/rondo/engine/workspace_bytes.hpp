/// \file
/// How much a RingAttention would take, before there is one.
#pragma once

#include <rondo/engine/rank_memory.hpp>
#include <rondo/error.hpp>
#include <rondo/sharding/cross.hpp>

#include <algorithm>
#include <cstdint>

namespace rondo {
namespace detail {

/// Tokens of a piece: what was asked for, or the longest piece there is if that is shorter.
inline std::int64_t piece_tokens(const ShardTable& table, std::int64_t chunk) {
  return std::max<std::int64_t>(1, std::min(chunk, table.longest_piece()));
}

/// \throws argument_error when the workspace would be larger than the budget (0: there is none), with what it consists of
inline void check_budget(const WorkspaceBytes& bytes, std::size_t budget, int rank) {
  if (budget == 0 || bytes.total() <= budget) return;
  const bool forward = bytes.forward.total() > bytes.backward.total();
  const PassBytes& pass = forward ? bytes.forward : bytes.backward;
  throw argument_error(message("options: the workspace of rank ", rank, " takes ", bytes.total(), " bytes (",
                               pass.pieces, " for pieces, ", pass.state, " for the state of its queries, ",
                               pass.gradients, " for travelling gradients, in the ", forward ? "forward" : "backward",
                               " pass), the budget is ", budget, ": take a smaller chunk or more ranks"));
}

}  // namespace detail

/// The workspace that RingAttention takes on rank `rank` of `ranks`, by purpose, to the byte. Allocates none of it.
/// \param chunk, backward  as in Options
/// \throws shape_error, argument_error as RingAttention would
template <BlockKernel Kernel, AttentionSharding S>
WorkspaceBytes workspace_bytes(const Kernel& kernel, const Shape& shape, const S& sharding, int ranks, int rank,
                               std::int64_t chunk = 4096, bool backward = true) {
  if (chunk < 1) throw argument_error(detail::message("options: chunk is ", chunk, ", it must be at least 1"));
  if (rank < 0 || rank >= ranks) {
    throw argument_error(
        detail::message("workspace_bytes: rank ", rank, " does not exist, there are ", ranks, " ranks"));
  }
  const std::int64_t tokens = detail::query_table(sharding, ranks).tokens(rank);
  const ShardTable keys = detail::key_table(sharding, ranks);
  return detail::rank_layout(kernel, shape.checked(), tokens, keys, detail::piece_tokens(keys, chunk), backward).bytes;
}

}  // namespace rondo
