/// \file
/// What was published of ring attention in figures, as formulas: Ring Attention (Liu, Zaharia & Abbeel, arXiv 2310.01889)
/// and Blockwise Parallel Transformer (Liu & Abbeel, arXiv 2305.19370). b batch, s sequence, h hidden size, n heads, c block.
#pragma once

#include <rondo/plan/model.hpp>

#include <algorithm>
#include <cstdint>

namespace rondo::plan {

/// Ways to compute a layer, in the order of the papers' tables.
enum class Method { vanilla, memory_efficient, blockwise, ring };

/// Largest activations of a layer, as table 1 of arXiv 2310.01889 counts them: bytes in bfloat16, but elements for the ring.
struct Activation {
  double attention = 0;
  double feed_forward = 0;
  double total = 0;
};

inline Activation published_activation(Method method, double b, double s, double h, double n, double c) {
  switch (method) {
    case Method::vanilla:
      return {2 * b * n * s * s, 8 * b * s * h, 2 * b * h * s * s};
    case Method::memory_efficient:
      return {2 * b * s * h + 4 * b * c * h, 8 * b * s * h, 8 * b * s * h};
    case Method::blockwise:
      return {2 * b * s * h, 2 * b * s * h, 2 * b * s * h};
    case Method::ring:
      return {6 * b * c * h, 2 * b * c * h, 6 * b * c * h};
  }
  return {};
}

/// Table 2: the block that hides its own passage, F/B, and the six blocks that a rank then holds.
inline double published_block(double flops, double bytes_per_second) { return flops / bytes_per_second; }
inline double published_sequence(double flops, double bytes_per_second) {
  return 6 * published_block(flops, bytes_per_second);
}

/// Operations of a forward pass over a sequence, and figure 5: what they grow by on the same data in longer sequences.
inline double published_flops(double b, double s, double h, double layers) {
  return (24 * b * s * h * h + 4 * b * s * s * h) * layers;
}
inline double published_cost_ratio(double h, double context, double short_context) {
  return (6 * h + context) / (6 * h + short_context);
}

/// A machine of table 3.
struct PublishedHost {
  double memory_bytes = 0;  ///< of a device, all of it
  int devices = 1;          ///< over which weights and Adam's state are spread
  int score_bytes = 4;      ///< of the type that matrix products are made in
};

/// Bytes on a device that trains on `tokens` of one sequence (the whole, or a rank's block). The papers state no such sum;
/// this one is ours, made to come within a factor of two of table 3:
///   16 bytes a parameter (float weights, gradients, two moments) over all devices, and a layer's gathered float weights;
///   a layer's float input for each layer (full checkpointing); q, k, v, out of the layer at work, six blocks in the ring;
///   vanilla keeps every layer's softmax, memory-efficient attention every layer's feed-forward activations of 8bsh,
///   both in addition logits and their gradient; blockwise and ring compute the loss by blocks.
inline double published_bytes(Method method, const Model& model, const PublishedHost& host, double tokens) {
  const double width = 4 * tokens * static_cast<double>(model.dim);
  const double logits = 8 * tokens * static_cast<double>(model.vocabulary);
  const double weights = 16 * model.parameters() / host.devices + 4 * model.layer_parameters();
  switch (method) {
    case Method::vanilla:
      return weights + (model.layers + 4) * width + logits +
             model.layers * model.heads * tokens * tokens * host.score_bytes;
    case Method::memory_efficient:
      return weights + (4 * model.layers + 4) * width + logits;
    case Method::blockwise:
      return weights + (model.layers + 4) * width;
    case Method::ring:
      return weights + (model.layers + 6) * width;
  }
  return 0;
}

/// Table 3: the longest context of a power of two that fits, on `ranks` ranks where the ring is meant.
inline std::int64_t published_context(Method method, const Model& model, const PublishedHost& host, int ranks) {
  std::int64_t tokens = 1;
  while (published_bytes(method, model, host, 2 * static_cast<double>(tokens)) <= host.memory_bytes) tokens *= 2;
  return method == Method::ring ? tokens * ranks : tokens;
}

}  // namespace rondo::plan
