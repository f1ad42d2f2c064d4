/// \file
/// What is computed: the shape of the tensors, and the mask, score function and scale of one call.
#pragma once

#include <rondo/error.hpp>
#include <rondo/mask/causal.hpp>
#include <rondo/mask/full.hpp>
#include <rondo/score/concept.hpp>

#include <Kokkos_Core.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace rondo {

/// The extents that all ranks share. Tensors are [batch, sequence, heads, head_dim], a rank's own tokens along the
/// sequence axis; keys and values have kv_heads heads, each serving heads / kv_heads query heads (grouped queries).
struct Shape {
  int batch = 1;
  int heads = 1;
  int kv_heads = 0;  ///< 0: as many as heads
  int head_dim = 0;

  /// The same shape with kv_heads filled in. \throws shape_error naming what does not fit.
  Shape checked() const {
    Shape shape = *this;
    if (shape.kv_heads == 0) shape.kv_heads = heads;
    const auto refuse = [](const char* what, int value, const char* need) {
      throw shape_error(detail::message("shape: ", what, " is ", value, ", ", need));
    };
    if (batch < 1) refuse("batch", batch, "it must be at least 1");
    if (heads < 1) refuse("heads", heads, "it must be at least 1");
    if (head_dim < 1) refuse("head_dim", head_dim, "it must be at least 1");
    if (shape.kv_heads < 1) refuse("kv_heads", kv_heads, "it must be at least 1");
    if (heads % shape.kv_heads != 0) {
      throw shape_error(detail::message("shape: heads is ", heads, ", kv_heads is ", shape.kv_heads,
                                        ": heads must be a multiple of kv_heads"));
    }
    return shape;
  }
};

/// One attention problem, passed whole to the kernels. May change from call to call; must be equal on all ranks.
template <Mask MaskT = full, ScoreMod ScoreT = unmodified>
struct Problem {
  using mask_type = MaskT;
  using score_type = ScoreT;

  MaskT mask{};
  ScoreT score{};
  /// Scores are scale · q·k. NaN stands for 1 / sqrt(head_dim).
  double scale = std::numeric_limits<double>::quiet_NaN();

  /// The same problem with its scale filled in. \throws argument_error for an infinite scale.
  Problem resolved(const Shape& shape) const {
    Problem problem = *this;
    if (std::isnan(scale)) problem.scale = 1 / std::sqrt(static_cast<double>(shape.head_dim));
    if (!std::isfinite(problem.scale)) throw argument_error("problem: the scale is infinite, it must be finite");
    return problem;
  }
};

template <class MaskT>
Problem(MaskT) -> Problem<MaskT>;
template <class MaskT, class ScoreT>
Problem(MaskT, ScoreT) -> Problem<MaskT, ScoreT>;
template <class MaskT, class ScoreT>
Problem(MaskT, ScoreT, double) -> Problem<MaskT, ScoreT>;

namespace detail {

template <class P>
inline constexpr bool is_problem = false;
template <class M, class S>
inline constexpr bool is_problem<Problem<M, S>> = true;

}  // namespace detail

/// Any Problem<Mask, ScoreMod>.
template <class P>
concept ProblemType = detail::is_problem<std::remove_cvref_t<P>> && std::is_trivially_copyable_v<std::remove_cvref_t<P>>;

}  // namespace rondo
