/// \file
/// One step of the ring in closed form: what is computed, what travels meanwhile, and how large a rank's block has to be
/// for the second to hide behind the first.
///
/// A rank computes on its c queries and a piece of p keys, c·p·(share allowed) pairs, while a piece travels. With blocks
/// passed whole (p = c), equal heads and no mask that hides when c ≥ F/B (Liu, Zaharia & Abbeel, arXiv 2310.01889, 4.1).
#pragma once

#include <rondo/plan/machine.hpp>
#include <rondo/plan/model.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace rondo::plan {

/// A storage type: bytes of an element, and of the sums over such elements.
struct Precision {
  std::string name = "bfloat16";
  int bytes = 2;
  int sum_bytes = 4;
  double peak(const Machine& machine) const { return bytes == 2 ? machine.flops : machine.flops_float; }
};

/// \throws argument_error listing the names there are
inline Precision precision(const std::string& name) {
  static const std::vector<Precision> table = {{"float", 4, 4}, {"bfloat16", 2, 4}, {"float16", 2, 4}};
  return detail::named(table, name, "type");
}

/// How many keys queries see, on average and in the slowest rank.
struct Sight {
  enum class Kind { full, causal, window, document } kind = Kind::causal;
  std::int64_t width = 0;  ///< keys of a causal window, tokens of a (causal) document
  bool even = true;        ///< shared evenly among the ranks (striped, zigzag); otherwise contiguous shards

  /// Mean number of keys of a query in a sequence of `tokens`.
  double keys(double tokens) const {
    const auto w = std::min(static_cast<double>(width), tokens);
    switch (kind) {
      case Kind::full:
        return tokens;
      case Kind::causal:
        return (tokens + 1) / 2;
      case Kind::window:
        return w - w * (w - 1) / (2 * tokens);
      case Kind::document:
        return (w + 1) / 2;
    }
    return tokens;
  }
  /// Share of the pairs in a step that its slowest rank computes. Under a causal mask on contiguous shards there is in every
  /// step but the first a rank that sees all of its visitor.
  double step_share(double tokens) const { return even ? keys(tokens) / tokens : 1; }
};

/// Attention of one layer on one rank.
struct Attention {
  std::int64_t batch = 1;
  int heads = 1;
  int kv_heads = 1;
  std::int64_t head_dim = 1;
  Precision type;
  /// Tensors of the keys' size that a packed piece holds in the backward pass: k and v, and k once more for host_kernel.
  int backward_tensors = 2;

  /// Operations for one query and key over all heads: two products forward, five backward, two operations each.
  double pair_flops(bool backward) const {
    return (backward ? 10.0 : 4.0) * static_cast<double>(batch * heads * head_dim);
  }
  /// Bytes of a token of a packed piece: keys and values.
  double wire_bytes(bool backward) const { return width() * (backward ? backward_tensors : 2) * type.bytes; }
  /// Bytes of the gradients of a token's keys and values, in the sums' type.
  double gradient_bytes() const { return width() * 2 * type.sum_bytes; }
  /// Bytes that travel for one token of a piece.
  double token_bytes(bool backward) const { return wire_bytes(backward) + (backward ? gradient_bytes() : 0); }
  /// Elements of a token's keys.
  double width() const { return static_cast<double>(batch * kv_heads * head_dim); }
};

/// The smallest number of tokens in a rank's block behind whose computation a piece travels unseen.
/// \param flops   that the rank reaches, per second
/// \param share   of the query-key pairs that the mask allows
/// \param chunk   tokens of a piece; 0: blocks travel whole
inline double smallest_block(const Attention& attention, bool backward, double flops, const Link& link, double share,
                             double chunk = 0) {
  const double compute = share * attention.pair_flops(backward) / flops;            // seconds of a query and a key
  const double transfer = attention.token_bytes(backward) / link.bytes_per_second;  // seconds of a token
  const double whole = (transfer + std::sqrt(transfer * transfer + 4 * compute * link.latency)) / (2 * compute);
  if (chunk == 0 || whole <= chunk) return whole;
  return (transfer + link.latency / chunk) / compute;
}

}  // namespace rondo::plan
