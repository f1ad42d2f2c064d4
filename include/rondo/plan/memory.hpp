/// \file
/// Bytes of a rank that trains a model, by purpose, and the longest context that fits.
#pragma once

#include <rondo/engine/rank_layout.hpp>
#include <rondo/plan/hop.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace rondo::plan {

/// What is computed again in the backward pass instead of kept. Norms and the feed-forward's hidden rows always are, block by
/// block (arXiv 2305.19370).
enum class Recompute {
  layers,             ///< whole layers: only their inputs are kept
  all_but_attention,  ///< the rest of the layer: attention's output and lse are kept too
  nothing             ///< nothing else: q, k, v and what enters the feed-forward are kept too
};

/// \throws argument_error listing the names there are
inline Recompute recompute(const std::string& name) {
  struct Entry {
    std::string name;
    Recompute value;
  };
  static const std::vector<Entry> table = {{"layers", Recompute::layers},
                                           {"all-but-attention", Recompute::all_but_attention},
                                           {"nothing", Recompute::nothing}};
  return detail::named(table, name, "choice of what to recompute").value;
}

/// What a rank does with its memory.
struct Setting {
  Model model;
  int ranks = 1;
  std::int64_t batch = 1;
  std::int64_t chunk = 4096;
  Precision type;
  Recompute recompute = Recompute::layers;
  int backward_tensors = 2;  ///< as Attention::backward_tensors
  /// Bytes of weights, gradients and optimiser for a parameter, spread over all ranks. 16: all four of Adam in float.
  double parameter_bytes = 16;
  std::int64_t dense_block = 256;  ///< tokens that feed-forward and loss take at a time

  Attention attention() const { return {batch, model.heads, model.kv_heads, model.head_dim(), type, backward_tensors}; }
};

/// Bytes of one rank by purpose.
struct Memory {
  double parameters = 0;     ///< weights, gradients, optimiser: this rank's part
  double layer = 0;          ///< the gathered weights of the layer at work
  double kept = 0;           ///< for the backward pass, of all layers
  double tensors = 0;        ///< of the layer at work: gradients, and what was not kept
  WorkspaceBytes workspace;  ///< RingAttention's
  double dense = 0;          ///< norm, feed-forward and loss, of the block at work
  double total() const { return parameters + layer + kept + tensors + static_cast<double>(workspace.total()) + dense; }
};

/// RingAttention's workspace for `tokens` of a rank, with pieces as they are in the source: portable_kernel's, or where a
/// kernel fills up nothing. rondo::workspace_bytes asks the kernel itself.
inline WorkspaceBytes workspace_of(const Attention& attention, std::int64_t tokens, std::int64_t chunk) {
  const auto piece = static_cast<std::size_t>(std::min(tokens, chunk));
  const auto rows = static_cast<std::size_t>(attention.batch * attention.heads * tokens * attention.type.sum_bytes);
  const auto width = static_cast<std::size_t>(attention.batch * attention.kv_heads * attention.head_dim);
  const auto element = static_cast<std::size_t>(attention.type.bytes);
  const auto sum = static_cast<std::size_t>(attention.type.sum_bytes);
  return detail::RankLayout(
             {.forward_wire = 2 * element * piece * width,
              .backward_wire = static_cast<std::size_t>(attention.backward_tensors) * element * piece * width,
              .rows = rows,
              .out = sum == element ? 0 : rows * static_cast<std::size_t>(attention.head_dim),
              .queries = sum == element ? 0 : rows * static_cast<std::size_t>(attention.head_dim),
              .gradient = 2 * sum * piece * width})
      .bytes;
}

/// Bytes of activations for each token of a rank.
struct BlockBytes {
  double kept = 0;     ///< of each layer
  double at_work = 0;  ///< once, whatever the number of layers
};

/// Of blocks of norm, attention, norm and feed-forward, as examples/train holds them: to the byte in float and double.
inline BlockBytes block_bytes(const Model& model, const Precision& type, Recompute recompute) {
  const double dim = static_cast<double>(model.dim), kv_dim = static_cast<double>(model.kv_dim());
  const double element = type.bytes, sum = type.sum_bytes;
  const double attended = element * dim + sum * model.heads;  // attention's output and lse
  const double between = element * (dim + 2 * kv_dim + dim);  // q, k, v, and what enters the feed-forward
  const double gradients = element * (3 * dim + 2 * kv_dim);  // of the block, of a part of it, of q, k, v
  const double around = element * 2 * dim;                    // a norm's output, and what leaves the last block
  const double tokens =
      sum * static_cast<double>(model.head_dim()) + 8;  // rotary angles; what goes in and is to come out
  const bool keeps_attended = recompute != Recompute::layers, keeps_between = recompute == Recompute::nothing;
  return {.kept = element * dim + (keeps_attended ? attended : 0) + (keeps_between ? between : 0),
          .at_work = gradients + around + tokens + (keeps_attended ? 0 : attended) + (keeps_between ? 0 : between)};
}

/// Bytes of rms_norm, feed_forward and cross_entropy, which take `dense_block` tokens at a time.
inline double dense_bytes(const Setting& setting) {
  const Model& model = setting.model;
  const double block = static_cast<double>(setting.dense_block), sum = setting.type.sum_bytes;
  const double dim = static_cast<double>(model.dim);
  const double hidden = (model.gated ? 3.0 : 2.0) * static_cast<double>(model.ffn);
  const double logits = static_cast<double>(std::min<std::int64_t>(model.vocabulary, 4096));
  return 8 * dim + block * (sum * hidden + sum * (2 * dim + logits + 2) + 20);
}

/// Bytes of a rank that holds `tokens` of each sequence.
inline Memory memory(const Setting& setting, std::int64_t tokens) {
  const Model& model = setting.model;
  const auto rows = static_cast<double>(setting.batch * tokens);
  const BlockBytes block = block_bytes(model, setting.type, setting.recompute);
  return {.parameters = setting.parameter_bytes * model.parameters() / setting.ranks,
          .layer = setting.type.bytes * model.layer_parameters(),
          .kept = model.layers * rows * block.kept,
          .tensors = rows * block.at_work,
          .workspace = workspace_of(setting.attention(), tokens, setting.chunk),
          .dense = dense_bytes(setting)};
}

/// The longest sequence whose ranks each fit in `bytes`; 0 when not even a token a rank does.
inline std::int64_t largest_context(const Setting& setting, double bytes) {
  const auto fits = [&](std::int64_t tokens) { return memory(setting, tokens).total() <= bytes; };
  if (!fits(1)) return 0;
  std::int64_t low = 1, high = 2;
  while (high < (std::int64_t{1} << 50) && fits(high)) low = std::exchange(high, 2 * high);
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low * setting.ranks;
}

}  // namespace rondo::plan
