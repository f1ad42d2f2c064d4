/// \file
/// What a transformer is to a plan: its widths, and what follows from them.
#pragma once

#include <rondo/error.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace rondo::detail {

/// The entry of a table with that name. \throws argument_error listing the names there are
template <class Table>
const auto& named(const Table& table, const std::string& name, const char* what) {
  std::string names;
  for (const auto& entry : table) {
    if (entry.name == name) return entry;
    names += (names.empty() ? "" : ", ") + entry.name;
  }
  throw argument_error(detail::message("there is no ", what, " ", name, "; there are ", names));
}

}  // namespace rondo::detail

namespace rondo::plan {

/// A decoder: blocks of attention and feed-forward between an embedding and a head.
struct Model {
  std::string name{};
  std::int64_t dim = 0;
  int heads = 1;
  int kv_heads = 0;  ///< 0: as many as heads
  int layers = 1;
  std::int64_t ffn = 0;  ///< width of the feed-forward; 0: 4 dim
  bool gated = false;    ///< whether the feed-forward has a gate (three matrices instead of two)
  std::int64_t vocabulary = 32'000;

  /// The same model with what was left out filled in. \throws argument_error naming what does not fit
  Model checked() const {
    Model model = *this;
    if (model.kv_heads == 0) model.kv_heads = heads;
    if (model.ffn == 0) model.ffn = 4 * dim;
    const auto at_least_one = [](const char* what, std::int64_t value) {
      if (value < 1) throw argument_error(detail::message("model: ", what, " is ", value, ", it must be at least 1"));
    };
    at_least_one("dim", dim);
    at_least_one("heads", heads);
    at_least_one("kv_heads", model.kv_heads);
    at_least_one("layers", layers);
    at_least_one("ffn", model.ffn);
    at_least_one("vocabulary", vocabulary);
    const auto multiple = [](const char* of, std::int64_t value, const char* what, std::int64_t part) {
      if (value % part == 0) return;
      throw argument_error(
          detail::message("model: ", of, " is ", value, ", it must be a multiple of ", what, ", which is ", part));
    };
    multiple("dim", dim, "heads", heads);
    multiple("heads", heads, "kv_heads", model.kv_heads);
    return model;
  }

  std::int64_t head_dim() const { return dim / heads; }
  /// Width of the keys, and of the values, of a token.
  std::int64_t kv_dim() const { return kv_heads * head_dim(); }
  /// Query heads per kv head.
  int group() const { return heads / kv_heads; }

  /// Weights in matrices that every token is multiplied with, in one layer: q, k, v, out; up, down and a gate.
  double layer_matrices() const {
    const auto d = static_cast<double>(dim);
    return 2 * d * d + 2 * d * static_cast<double>(kv_dim()) + (gated ? 3 : 2) * d * static_cast<double>(ffn);
  }
  double layer_parameters() const { return layer_matrices() + 2 * static_cast<double>(dim); }
  double parameters() const {
    return layers * layer_parameters() + (2 * static_cast<double>(vocabulary) + 1) * static_cast<double>(dim);
  }

  /// Floating-point operations of a forward pass per token, attention itself left out: two a weight.
  double dense_flops() const {
    return 2 * (layers * layer_matrices() + static_cast<double>(vocabulary) * static_cast<double>(dim));
  }
  /// Of a query and a key in the forward pass of one layer: two products of two operations.
  double pair_flops() const { return 4 * static_cast<double>(dim); }
};

/// Models by name: LLaMA's sizes (arXiv 2302.13971; 3B: OpenLLaMA), GPT-3 (arXiv 2005.14165), Llama 3 (arXiv 2407.21783).
inline const std::vector<Model>& models() {
  static const std::vector<Model> table = {
      {.name = "3B", .dim = 3200, .heads = 32, .layers = 26, .ffn = 8640, .gated = true},
      {.name = "7B", .dim = 4096, .heads = 32, .layers = 32, .ffn = 11008, .gated = true},
      {.name = "13B", .dim = 5120, .heads = 40, .layers = 40, .ffn = 13824, .gated = true},
      {.name = "30B", .dim = 6656, .heads = 52, .layers = 60, .ffn = 17920, .gated = true},
      {.name = "65B", .dim = 8192, .heads = 64, .layers = 80, .ffn = 22016, .gated = true},
      {.name = "175B", .dim = 12288, .heads = 96, .layers = 96, .vocabulary = 50'257},
      {.name = "llama3-8b",
       .dim = 4096,
       .heads = 32,
       .kv_heads = 8,
       .layers = 32,
       .ffn = 14336,
       .gated = true,
       .vocabulary = 128'256},
      {.name = "llama3-70b",
       .dim = 8192,
       .heads = 64,
       .kv_heads = 8,
       .layers = 80,
       .ffn = 28672,
       .gated = true,
       .vocabulary = 128'256},
      {.name = "llama3-405b",
       .dim = 16384,
       .heads = 128,
       .kv_heads = 8,
       .layers = 126,
       .ffn = 53248,
       .gated = true,
       .vocabulary = 128'256}};
  return table;
}

/// \throws argument_error listing the names there are
inline Model model(const std::string& name) { return detail::named(models(), name, "model").checked(); }

}  // namespace rondo::plan
