/// \file
/// A transformer block on one rank's tokens, forward and backward, made of Rondo's attention and layers:
/// x + attention(norm(x))·output, then that + feed_forward(norm(that)); queries and keys carry RoPE.
#pragma once

#include <support/tensors.hpp>

#include <rondo/layers.hpp>
#include <rondo/rondo.hpp>

#include <cmath>
#include <cstdint>

namespace bench {

struct BlockShape {
  int heads, head_dim;
  std::int64_t hidden;

  std::int64_t dim() const { return std::int64_t{heads} * head_dim; }
  /// Numbers in the weight matrices: query, key, value and output, and the three of the gated feed-forward.
  double weights() const {
    return static_cast<double>(dim()) * (4.0 * static_cast<double>(dim()) + 3.0 * static_cast<double>(hidden));
  }
};

template <rondo::Communicator Comm>
class Block {
 public:
  Block(Comm& comm, const BlockShape& shape, std::int64_t total_tokens)
      : shape_(shape),
        attention_(comm, rondo::Shape{.heads = shape.heads, .head_dim = shape.head_dim}, rondo::striped{total_tokens}),
        tokens_(attention_.tokens()),
        norm_(shape.dim()),
        rope_(attention_.shards(), comm.rank(), shape.head_dim),
        feed_forward_(shape.dim(), shape.hidden),
        norm_weight_("norm_weight", static_cast<std::size_t>(shape.dim())),
        grad_norm_weight_("grad_norm_weight", static_cast<std::size_t>(shape.dim())),
        lse_("lse", 1, static_cast<std::size_t>(shape.heads), static_cast<std::size_t>(tokens_)),
        x(random_matrix<float>(tokens_, shape.dim(), static_cast<std::uint32_t>(comm.rank()))),
        grad_out(random_matrix<float>(tokens_, shape.dim(), static_cast<std::uint32_t>(1000 + comm.rank()))) {
    Kokkos::deep_copy(norm_weight_, 1.0f);
  }

  void forward() {
    attend();
    norm_.forward(middle_, norm_weight_, normed_);
    feed_forward_.forward(normed_, {up_.weight, gate_.weight, down_.weight}, out);
    map(out) += map(middle_);
  }

  /// After forward(). What the norms gave is computed again.
  void backward() {
    norm_.forward(middle_, norm_weight_, normed_);
    feed_forward_.backward(normed_, {up_.weight, gate_.weight, down_.weight}, grad_out, grad_normed_,
                           {up_.grad, gate_.grad, down_.grad});
    norm_.backward(middle_, norm_weight_, grad_normed_, grad_middle_, grad_norm_weight_);
    map(grad_middle_) += map(grad_out);

    map(output_.grad).noalias() += map(attended_).transpose() * map(grad_middle_);
    map(grad_attended_).noalias() = map(grad_middle_) * map(output_.weight).transpose();
    attention_.backward(heads(query_), heads(key_), heads(value_), heads(attended_), lse_, heads(grad_attended_),
                        heads(grad_query_), heads(grad_key_), heads(grad_value_), rondo::Problem{rondo::causal{}});
    rope_.backward(heads(grad_query_));
    rope_.backward(heads(grad_key_));

    norm_.forward(x, norm_weight_, normed_);
    map(grad_normed_).setZero();
    for (const auto& [projection, grad] :
         {std::pair{&to_query_, grad_query_}, std::pair{&to_key_, grad_key_}, std::pair{&to_value_, grad_value_}}) {
      map(projection->grad).noalias() += map(normed_).transpose() * map(grad);
      map(grad_normed_).noalias() += map(grad) * map(projection->weight).transpose();
    }
    norm_.backward(x, norm_weight_, grad_normed_, grad_x, grad_norm_weight_);
    map(grad_x) += map(grad_middle_);
  }

  const rondo::Statistics& statistics() const { return attention_.statistics(); }

 private:
  /// A weight matrix whose products keep the size of what goes in, and its gradient.
  struct Linear {
    Linear(std::int64_t rows, std::int64_t columns, std::uint32_t seed)
        : weight(random_matrix<float>(rows, columns, seed, 1 / std::sqrt(static_cast<float>(rows)))),
          grad("grad", static_cast<std::size_t>(rows), static_cast<std::size_t>(columns)) {}
    Matrix<float> weight, grad;
  };

  static auto map(const Matrix<float>& x) { return rondo::detail::matrix(x); }
  auto heads(const Matrix<float>& x) const {
    return Tensor4<float>(x.data(), 1, x.extent(0), static_cast<std::size_t>(shape_.heads),
                          static_cast<std::size_t>(shape_.head_dim));
  }
  Matrix<float> activation() const {
    return Matrix<float>("activation", static_cast<std::size_t>(tokens_), static_cast<std::size_t>(shape_.dim()));
  }

  void attend() {
    norm_.forward(x, norm_weight_, normed_);
    map(query_).noalias() = map(normed_) * map(to_query_.weight);
    map(key_).noalias() = map(normed_) * map(to_key_.weight);
    map(value_).noalias() = map(normed_) * map(to_value_.weight);
    rope_.forward(heads(query_));
    rope_.forward(heads(key_));
    attention_.forward(heads(query_), heads(key_), heads(value_), heads(attended_), lse_,
                       rondo::Problem{rondo::causal{}});
    map(middle_) = map(x);
    map(middle_).noalias() += map(attended_) * map(output_.weight);
  }

  BlockShape shape_;
  rondo::RingAttention<Comm, rondo::striped> attention_;
  std::int64_t tokens_;
  rondo::rms_norm<float> norm_;
  rondo::rope<float> rope_;
  rondo::feed_forward<float> feed_forward_;
  Kokkos::View<float*, Kokkos::LayoutRight, Kokkos::HostSpace> norm_weight_, grad_norm_weight_;
  Tensor3<float> lse_;
  Linear to_query_{shape_.dim(), shape_.dim(), 1}, to_key_{shape_.dim(), shape_.dim(), 2},
      to_value_{shape_.dim(), shape_.dim(), 3}, output_{shape_.dim(), shape_.dim(), 4};
  Linear up_{shape_.dim(), shape_.hidden, 5}, gate_{shape_.dim(), shape_.hidden, 6},
      down_{shape_.hidden, shape_.dim(), 7};
  Matrix<float> normed_ = activation(), query_ = activation(), key_ = activation(), value_ = activation(),
                attended_ = activation(), middle_ = activation();
  Matrix<float> grad_normed_ = activation(), grad_middle_ = activation(), grad_attended_ = activation(),
                grad_query_ = activation(), grad_key_ = activation(), grad_value_ = activation();

 public:
  Matrix<float> x, out = activation();            ///< [tokens, dim]
  Matrix<float> grad_out, grad_x = activation();  ///< [tokens, dim]
};

}  // namespace bench
