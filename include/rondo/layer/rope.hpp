/// \file
/// Rotary position embedding (Su et al., RoFormer, arXiv 2104.09864), with positions from the Sharding.
#pragma once

#include <rondo/layer/host_buffer.hpp>
#include <rondo/layer/host_tensor.hpp>
#include <rondo/sharding/shard_table.hpp>

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>

namespace rondo {

/// Which two elements of a head form the i-th pair: `first(i, pairs)` and `second(i, pairs)`, for 0 <= i < pairs.
template <class P>
concept RotaryPairs = requires(std::int64_t i) {
  { P::first(i, i) } -> std::same_as<std::int64_t>;
  { P::second(i, i) } -> std::same_as<std::int64_t>;
};

/// Elements 2i and 2i + 1: the pairs of the paper, equation 15.
struct interleaved_pairs {
  static constexpr std::int64_t first(std::int64_t i, std::int64_t /*pairs*/) { return 2 * i; }
  static constexpr std::int64_t second(std::int64_t i, std::int64_t /*pairs*/) { return 2 * i + 1; }
};

/// Elements i and i + head_dim / 2 ("rotate half"): what GPT-NeoX and most published checkpoints use.
struct half_pairs {
  static constexpr std::int64_t first(std::int64_t i, std::int64_t /*pairs*/) { return i; }
  static constexpr std::int64_t second(std::int64_t i, std::int64_t pairs) { return i + pairs; }
};

static_assert(RotaryPairs<interleaved_pairs> && RotaryPairs<half_pairs>);

/// Rotates the i-th pair of every head by the angle position · base^(-2i / head_dim), in place, so that the product of
/// a rotated query and a rotated key depends on the difference of their positions only.
///
/// Angles are computed in double from the integer position in the whole sequence: the same token gets the same bits
/// under every sharding, and at position 10^8 an angle is off by less than 3e-8. The table of cosines and sines covers
/// the tokens of one rank's shard. An object serves one thread.
template <Real T, RotaryPairs Pairs = interleaved_pairs>
class rope {
 public:
  using value_type = T;

  /// \param table     which rank holds which tokens
  /// \param rank      whose shard this object rotates
  /// \param head_dim  elements of a head, an even number
  /// \param base      the slowest pair turns about 1 / base as fast as the first
  /// \throws argument_error for a rank out of the table, an odd head_dim, or a base that is not positive and finite
  rope(const ShardTable& table, int rank, std::int64_t head_dim, double base = 10000)
      : tokens_(checked_tokens(table, rank)),
        pairs_(checked_pairs(head_dim)),
        turns_("rondo::rope::turns", tokens_ * pairs_ * 2) {
    if (!(base > 0) || !std::isfinite(base)) {
      throw argument_error(detail::message("rope: base is ", base, ", it must be positive and finite"));
    }
    fill(table, rank, base);
  }

  /// Bytes that the layer owns: tokens of the shard · head_dim · sizeof(T).
  std::size_t workspace_bytes() const { return turns_.bytes(); }

  /// \param x  [batch, sequence, heads, head_dim], the rank's shard of the queries or of the keys; rotated in place.
  ///           Any strides but 1 in the last axis; any batch and number of heads.
  /// \throws shape_error  before anything is written
  void forward(const HostTensor<T, 4>& x) const { rotate(x, T{1}, "rope: x"); }

  /// \param grad  [batch, sequence, heads, head_dim], the gradient with respect to forward's result; becomes, in place,
  ///              the gradient with respect to what forward was given: the rotation by the negative angle.
  /// \throws shape_error  before anything is written
  void backward(const HostTensor<T, 4>& grad) const { rotate(grad, T{-1}, "rope: grad"); }

 private:
  static std::int64_t checked_tokens(const ShardTable& table, int rank) {
    if (rank < 0 || rank >= table.ranks()) {
      throw argument_error(detail::message("rope: rank is ", rank, ", the sharding has ", table.ranks(), " ranks"));
    }
    return table.tokens(rank);
  }

  static std::int64_t checked_pairs(std::int64_t head_dim) {
    if (head_dim < 2 || head_dim % 2 != 0) {
      throw argument_error(detail::message("rope: head_dim is ", head_dim, ", it must be even and at least 2"));
    }
    return head_dim / 2;
  }

  T* cosines(std::int64_t token) const { return turns_.data() + 2 * token * pairs_; }
  T* sines(std::int64_t token) const { return cosines(token) + pairs_; }

  void fill(const ShardTable& table, int rank, double base) {
    for (std::int64_t i = 0; i < pairs_; ++i) {
      const double frequency = std::pow(base, -static_cast<double>(i) / static_cast<double>(pairs_));
      table.for_each_token(rank, [&](std::int64_t position, std::int64_t token) {
        const double angle = static_cast<double>(position) * frequency;
        cosines(token)[i] = static_cast<T>(std::cos(angle));
        sines(token)[i] = static_cast<T>(std::sin(angle));
      });
    }
  }

  void rotate(const HostTensor<T, 4>& x, T direction, const char* name) const {
    const auto extents = detail::extents_of(x);
    detail::check_extents(name, "[batch, sequence, heads, head_dim]", x, {extents[0], tokens_, extents[2], 2 * pairs_});
    detail::check_unit_stride(name, x);
    for (std::int64_t batch = 0; batch < extents[0]; ++batch) {
      for (std::int64_t token = 0; token < tokens_; ++token) {
        for (std::int64_t head = 0; head < extents[2]; ++head) {
          rotate_head(&x(batch, token, head, 0), cosines(token), sines(token), direction);
        }
      }
    }
  }

  void rotate_head(T* head, const T* cosine, const T* sine, T direction) const {
    for (std::int64_t i = 0; i < pairs_; ++i) {
      T& first = head[Pairs::first(i, pairs_)];
      T& second = head[Pairs::second(i, pairs_)];
      const T a = first;
      const T b = second;
      const T s = direction * sine[i];
      first = a * cosine[i] - b * s;
      second = a * s + b * cosine[i];
    }
  }

  std::int64_t tokens_;
  std::int64_t pairs_;
  detail::HostBuffer<T> turns_;
};

}  // namespace rondo
