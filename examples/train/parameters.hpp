/// \file
/// The weights of the model: one flat buffer with named tensors in it, so that the optimiser, the reduction over the
/// ranks and a checkpoint each are one loop.
#pragma once

#include "data.hpp"

#include <rondo/layers.hpp>

#include <Kokkos_Core.hpp>

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>
#include <vector>

namespace train {

/// The sizes of the model. Its vocabulary is the 256 bytes.
struct ModelShape {
  static constexpr std::int64_t vocabulary = 256;
  int layers = 2;
  int heads = 4;
  int kv_heads = 4;  ///< heads of the keys and values, each shared by heads / kv_heads query heads
  std::int64_t dim = 128;
  std::int64_t hidden = 384;  ///< width of the feed-forward's hidden activation
  bool tied = false;          ///< the head is the embedding

  std::int64_t head_dim() const { return dim / heads; }
  std::int64_t kv_dim() const { return kv_heads * head_dim(); }
};

/// One tensor in the buffer. A vector has one row.
struct TensorPlace {
  std::string name;
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t offset;
  double spread;  ///< standard deviation at the start; 0: starts at 1, a norm's weight, and is not decayed
};

/// Where each tensor lies. Every one starts at a multiple of 64 bytes.
class ParameterLayout {
 public:
  explicit ParameterLayout(const ModelShape& shape) : shape_(shape) {
    const auto fan = [](std::int64_t width) { return 1 / std::sqrt(static_cast<double>(width)); };
    // Each block adds to the residual stream twice: starting small keeps the stream's size independent of the depth.
    const double residual = 1 / std::sqrt(2.0 * shape.layers);
    add("embedding", ModelShape::vocabulary, shape.dim, shape.tied ? 0.02 : 0.1);
    for (int layer = 0; layer < shape.layers; ++layer) {
      const std::string block = "block" + std::to_string(layer) + ".";
      add(block + "attention_norm", 1, shape.dim, 0);
      add(block + "query", shape.dim, shape.dim, fan(shape.dim));
      add(block + "key", shape.dim, shape.kv_dim(), fan(shape.dim));
      add(block + "value", shape.dim, shape.kv_dim(), fan(shape.dim));
      add(block + "output", shape.dim, shape.dim, residual * fan(shape.dim));
      add(block + "feed_forward_norm", 1, shape.dim, 0);
      add(block + "up", shape.dim, shape.hidden, fan(shape.dim));
      add(block + "gate", shape.dim, shape.hidden, fan(shape.dim));
      add(block + "down", shape.hidden, shape.dim, residual * fan(shape.hidden));
    }
    add("final_norm", 1, shape.dim, 0);
    if (!shape.tied) add("head", ModelShape::vocabulary, shape.dim, 0.02);
  }

  const ModelShape& shape() const { return shape_; }
  const std::vector<TensorPlace>& tensors() const { return tensors_; }
  /// Elements of the buffer.
  std::int64_t size() const { return size_; }

 private:
  void add(std::string name, std::int64_t rows, std::int64_t columns, double spread) {
    tensors_.push_back({std::move(name), rows, columns, size_, spread});
    size_ += (rows * columns + 15) / 16 * 16;
  }

  ModelShape shape_;
  std::vector<TensorPlace> tensors_;
  std::int64_t size_ = 0;
};

/// A flat buffer: the weights, their gradient, or a moment of the optimiser.
template <class T>
using Flat = Kokkos::View<T*, Kokkos::HostSpace>;

/// A buffer of zeros.
template <class T>
Flat<T> make_flat(const std::string& label, std::int64_t size) {
  Flat<T> buffer(Kokkos::view_alloc(Kokkos::WithoutInitializing, label), static_cast<std::size_t>(size));
  std::fill_n(buffer.data(), buffer.size(), T{0});
  return buffer;
}

/// The tensors of one block, by name.
template <class T>
struct BlockParameters {
  rondo::HostTensor<T, 1> attention_norm;
  rondo::HostTensor<T, 2> query, key, value, output;
  rondo::HostTensor<T, 1> feed_forward_norm;
  rondo::FeedForwardWeights<T> feed_forward;
};

/// The tensors of the model, by name.
template <class T>
struct ModelParameters {
  rondo::HostTensor<T, 2> embedding;
  std::vector<BlockParameters<T>> blocks;
  rondo::HostTensor<T, 1> final_norm;
  rondo::HostTensor<T, 2> head;
};

/// Names the tensors in a buffer.
template <class T>
ModelParameters<T> bind(const ParameterLayout& layout, T* buffer) {
  auto next = layout.tensors().begin();
  const auto matrix = [&] {
    const TensorPlace& place = *next++;
    return rondo::tensor<Kokkos::HostSpace>(buffer + place.offset, {place.rows, place.columns});
  };
  const auto vector = [&] {
    const TensorPlace& place = *next++;
    return rondo::tensor<Kokkos::HostSpace>(buffer + place.offset, {place.columns});
  };
  ModelParameters<T> parameters;
  parameters.embedding = matrix();
  for (int layer = 0; layer < layout.shape().layers; ++layer) {
    BlockParameters<T> block;  // in the order in which the layout adds them
    block.attention_norm = vector();
    block.query = matrix();
    block.key = matrix();
    block.value = matrix();
    block.output = matrix();
    block.feed_forward_norm = vector();
    block.feed_forward.up = matrix();
    block.feed_forward.gate = matrix();
    block.feed_forward.down = matrix();
    parameters.blocks.push_back(block);
  }
  parameters.final_norm = vector();
  parameters.head = layout.shape().tied ? parameters.embedding : matrix();
  return parameters;
}

/// The weights at the start: normal numbers that depend on the seed, the tensor and the element alone.
template <class T>
void initialise(const ParameterLayout& layout, std::uint64_t seed, T* buffer) {
  for (std::size_t index = 0; index < layout.tensors().size(); ++index) {
    const TensorPlace& place = layout.tensors()[index];
    for (std::int64_t i = 0; i < place.rows * place.columns; ++i) {
      const auto element = static_cast<std::uint64_t>(2 * i);
      const double radius = std::sqrt(-2 * std::log(random_unit(seed, index, element)));
      const double normal = radius * std::cos(2 * std::numbers::pi * random_unit(seed, index, element + 1));
      buffer[place.offset + i] = static_cast<T>(place.spread == 0 ? 1.0 : place.spread * normal);
    }
  }
}

}  // namespace train
