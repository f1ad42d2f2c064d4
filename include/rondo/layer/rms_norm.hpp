/// \file
/// Root mean square normalisation (Zhang & Sennrich, arXiv 1910.07467).
#pragma once

#include <rondo/layer/host_buffer.hpp>
#include <rondo/layer/host_tensor.hpp>
#include <rondo/layer/matrix.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace rondo {

/// out = x / sqrt(mean(x²) + epsilon) ∘ weight, the mean over the last axis. The backward pass needs nothing but x.
/// An object owns its workspace and serves one thread.
template <Real T>
class rms_norm {
 public:
  using value_type = T;

  /// \throws argument_error for a dim below 1, or an epsilon that is negative or not finite
  explicit rms_norm(std::int64_t dim, double epsilon = 1e-5)
      : dim_(checked(dim)), epsilon_(epsilon), weight_sums_("rondo::rms_norm::weight_sums", dim) {
    if (!(epsilon >= 0) || !std::isfinite(epsilon)) {
      throw argument_error(detail::message("rms_norm: epsilon is ", epsilon, ", it must be finite and not negative"));
    }
  }

  /// Bytes that the layer owns: dim · sizeof(double), for any number of tokens.
  std::size_t workspace_bytes() const { return weight_sums_.bytes(); }

  /// \param x       [tokens, dim]
  /// \param weight  [dim], unit stride
  /// \param out     [tokens, dim], overwritten; may be x itself, but not share memory with it otherwise
  /// \throws shape_error, argument_error  before anything is written
  void forward(const HostTensor<const T, 2>& x, const HostTensor<const T, 1>& weight, const HostTensor<T, 2>& out) {
    const auto tokens = static_cast<std::int64_t>(x.extent(0));
    detail::check_matrix("rms_norm: x", "[tokens, dim]", x, tokens, dim_);
    detail::check_matrix("rms_norm: out", "[tokens, dim]", out, tokens, dim_);
    check_weight("rms_norm: weight", weight);
    detail::check_same_or_apart("rms_norm: out", out, "x", x);
    const auto w = detail::row(weight.data(), dim_);
    for (std::int64_t token = 0; token < tokens; ++token) {
      const auto x_row = detail::row(detail::row_pointer(x, token), dim_);
      const T scale = inverse_root_mean_square(x_row);
      detail::row(detail::row_pointer(out, token), dim_) = x_row * scale * w;
    }
  }

  /// Gradients of a loss whose gradient with respect to `out` is `grad_out`. With r = 1 / sqrt(mean(x²) + epsilon):
  /// grad_x = r·(grad_out ∘ weight) - x·r³·mean(grad_out ∘ weight ∘ x);
  /// grad_weight += Σ over tokens of r·(grad_out ∘ x).
  /// \param x            [tokens, dim], as given to forward
  /// \param grad_out     [tokens, dim]
  /// \param grad_x       [tokens, dim], overwritten; may be x or grad_out itself, but not share memory otherwise
  /// \param grad_weight  [dim], unit stride; the gradient, summed over the tokens in double, is ADDED to what is there
  /// \throws shape_error, argument_error  before anything is written
  void backward(const HostTensor<const T, 2>& x, const HostTensor<const T, 1>& weight,
                const HostTensor<const T, 2>& grad_out, const HostTensor<T, 2>& grad_x,
                const HostTensor<T, 1>& grad_weight) {
    const auto tokens = static_cast<std::int64_t>(x.extent(0));
    detail::check_matrix("rms_norm: x", "[tokens, dim]", x, tokens, dim_);
    detail::check_matrix("rms_norm: grad_out", "[tokens, dim]", grad_out, tokens, dim_);
    detail::check_matrix("rms_norm: grad_x", "[tokens, dim]", grad_x, tokens, dim_);
    check_weight("rms_norm: weight", weight);
    check_weight("rms_norm: grad_weight", grad_weight);
    detail::check_same_or_apart("rms_norm: grad_x", grad_x, "x", x);
    detail::check_same_or_apart("rms_norm: grad_x", grad_x, "grad_out", grad_out);

    const auto w = detail::row(weight.data(), dim_);
    auto sums = detail::row(weight_sums_.data(), dim_);
    sums.setZero();
    for (std::int64_t token = 0; token < tokens; ++token) {
      const auto x_row = detail::row(detail::row_pointer(x, token), dim_);
      const auto grad_row = detail::row(detail::row_pointer(grad_out, token), dim_);
      const T scale = inverse_root_mean_square(x_row);
      const T along_x = (grad_row * w * x_row).sum() / static_cast<T>(dim_) * scale * scale;
      sums += (grad_row * x_row * scale).template cast<double>();
      detail::row(detail::row_pointer(grad_x, token), dim_) = (grad_row * w - x_row * along_x) * scale;
    }
    detail::row(grad_weight.data(), dim_) += sums.template cast<T>();
  }

 private:
  static std::int64_t checked(std::int64_t dim) {
    detail::check_positive("rms_norm", "dim", dim);
    return dim;
  }

  template <class View>
  void check_weight(const char* name, const View& weight) const {
    detail::check_extents(name, "[dim]", weight, {dim_});
    detail::check_unit_stride(name, weight);
  }

  template <class Row>
  T inverse_root_mean_square(const Row& x) const {
    return static_cast<T>(1 / std::sqrt(static_cast<double>(x.square().mean()) + epsilon_));
  }

  std::int64_t dim_;
  double epsilon_;
  detail::HostBuffer<double> weight_sums_;
};

}  // namespace rondo
