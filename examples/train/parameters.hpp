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

/// How a tensor starts.
enum class Start {
  normal,     ///< normal numbers with the standard deviation `size`
  constant,   ///< all are `size`
  look_back,  ///< of queries to keys of `size`: head h of the first half prefers the byte h + 1 places before
};

/// One tensor in the buffer. A vector has one row.
struct TensorPlace {
  std::string name;
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t offset;
  Start start;
  double size;

  /// Weight decay is for matrices.
  bool decays() const { return rows > 1; }
};

/// Where each tensor lies. Every one starts at a multiple of 64 bytes.
class ParameterLayout {
 public:
  explicit ParameterLayout(const ModelShape& shape) : shape_(shape) {
    const auto fan = [](std::int64_t width) { return 1 / std::sqrt(static_cast<double>(width)); };
    // Each block adds to the residual stream twice: starting small keeps the stream's size independent of the depth.
    const double residual = 1 / std::sqrt(2.0 * shape.layers);
    // At first the heads that look back follow that preference, and what they read matters less.
    const double preference = 3;
    const double content = 0.5;
    const auto normal = Start::normal;
    add("embedding", ModelShape::vocabulary, shape.dim, normal, shape.tied ? 0.02 : 0.1);
    for (int layer = 0; layer < shape.layers; ++layer) {
      const std::string block = "block" + std::to_string(layer) + ".";
      add(block + "attention_norm", 1, shape.dim, Start::constant, 1);
      add(block + "query", shape.dim, shape.dim, normal, content * fan(shape.dim));
      add(block + "query_bias", 1, shape.dim, Start::look_back, preference);
      add(block + "key", shape.dim, shape.kv_dim(), normal, content * fan(shape.dim));
      add(block + "key_bias", 1, shape.kv_dim(), Start::constant, preference);
      add(block + "value", shape.dim, shape.kv_dim(), normal, fan(shape.dim));
      add(block + "output", shape.dim, shape.dim, normal, residual * fan(shape.dim));
      add(block + "feed_forward_norm", 1, shape.dim, Start::constant, 1);
      add(block + "up", shape.dim, shape.hidden, normal, fan(shape.dim));
      add(block + "gate", shape.dim, shape.hidden, normal, fan(shape.dim));
      add(block + "down", shape.hidden, shape.dim, normal, residual * fan(shape.hidden));
    }
    add("final_norm", 1, shape.dim, Start::constant, 1);
    if (!shape.tied) add("head", ModelShape::vocabulary, shape.dim, normal, 0.02);
  }

  const ModelShape& shape() const { return shape_; }
  const std::vector<TensorPlace>& tensors() const { return tensors_; }
  /// Elements of the buffer.
  std::int64_t size() const { return size_; }

 private:
  void add(std::string name, std::int64_t rows, std::int64_t columns, Start start, double size) {
    tensors_.push_back({std::move(name), rows, columns, size_, start, size});
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
  rondo::HostTensor<T, 1> query_bias, key_bias;
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
    block.query_bias = vector();
    block.key = matrix();
    block.key_bias = vector();
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

/// An element of the queries' bias with which head h scores highest on keys of equal elements that lie h + 1 places
/// before: rope turns the pairs of query and key by the angle of their distance, this turns them back by that of h + 1
/// places. That the last bytes say most about the next one a training finds out by itself, but it takes long to. The
/// second half of the heads starts without a preference.
inline double look_back(const ModelShape& shape, std::int64_t element, double size) {
  const std::int64_t head = element / shape.head_dim();
  const std::int64_t pair = element % shape.head_dim() / 2;
  if (head >= shape.heads / 2) return 0;
  const double frequency = std::pow(10000.0, -2.0 * static_cast<double>(pair) / static_cast<double>(shape.head_dim()));
  const double angle = std::numbers::pi / 4 - static_cast<double>(head + 1) * frequency;  // elements are equal at π / 4
  return size * std::numbers::sqrt2 * (element % 2 == 0 ? std::cos(angle) : std::sin(angle));
}

/// The weights at the start: they depend on the seed, the tensor and the element alone.
template <class T>
void initialise(const ParameterLayout& layout, std::uint64_t seed, T* buffer) {
  for (std::size_t index = 0; index < layout.tensors().size(); ++index) {
    const TensorPlace& place = layout.tensors()[index];
    for (std::int64_t i = 0; i < place.rows * place.columns; ++i) {
      double value = place.size;
      if (place.start == Start::normal) {
        const auto element = static_cast<std::uint64_t>(2 * i);
        const double radius = std::sqrt(-2 * std::log(random_unit(seed, index, element)));
        value *= radius * std::cos(2 * std::numbers::pi * random_unit(seed, index, element + 1));
      } else if (place.start == Start::look_back) {
        value = look_back(layout.shape(), i, place.size);
      }
      buffer[place.offset + i] = static_cast<T>(value);
    }
  }
}

}  // namespace train
