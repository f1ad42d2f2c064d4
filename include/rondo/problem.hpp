/// \file
/// What is computed: the shape of the tensors, and the mask, score function, scale, sink and dropout of one call.
#pragma once

#include <rondo/error.hpp>
#include <rondo/mask/causal.hpp>
#include <rondo/mask/full.hpp>
#include <rondo/score/concept.hpp>
#include <rondo/score/dropout.hpp>
#include <rondo/score/sink.hpp>
#include <rondo/score/then.hpp>

#include <Kokkos_Core.hpp>

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace rondo {

/// The extents that all ranks share. Tensors are [batch, sequence, heads, head_dim], a rank's own tokens along the
/// sequence axis; keys and values have kv_heads heads, each serving heads / kv_heads query heads (grouped queries). Values,
/// outputs and their gradients have value_dim elements in the place of head_dim.
struct Shape {
  int batch = 1;
  int heads = 1;
  int kv_heads = 0;  ///< 0: as many as heads
  int head_dim = 0;
  int value_dim = 0;  ///< 0: as head_dim

  /// The same shape with kv_heads and value_dim filled in. \throws shape_error naming what does not fit.
  Shape checked() const {
    Shape shape = *this;
    if (shape.kv_heads == 0) shape.kv_heads = heads;
    if (shape.value_dim == 0) shape.value_dim = head_dim;
    const auto refuse = [](const char* what, int value, const char* need) {
      throw shape_error(detail::message("shape: ", what, " is ", value, ", ", need));
    };
    if (batch < 1) refuse("batch", batch, "it must be at least 1");
    if (heads < 1) refuse("heads", heads, "it must be at least 1");
    if (head_dim < 1) refuse("head_dim", head_dim, "it must be at least 1");
    if (shape.value_dim < 1) refuse("value_dim", value_dim, "it must be at least 1");
    if (shape.kv_heads < 1) refuse("kv_heads", kv_heads, "it must be at least 1");
    if (heads % shape.kv_heads != 0) {
      throw shape_error(detail::message("shape: heads is ", heads, ", kv_heads is ", shape.kv_heads,
                                        ": heads must be a multiple of kv_heads"));
    }
    return shape;
  }
};

/// One attention problem, passed whole to the kernels. May change from call to call; must be equal on all ranks.
template <Mask MaskT = full, ScoreMod ScoreT = unmodified, Sink SinkT = no_sink, Dropout DropoutT = no_dropout>
struct Problem {
  using mask_type = MaskT;
  using score_type = ScoreT;
  using sink_type = SinkT;
  using dropout_type = DropoutT;
  static constexpr bool has_sink = !std::is_same_v<SinkT, no_sink>;
  static constexpr bool has_dropout = !std::is_same_v<DropoutT, no_dropout>;

  MaskT mask{};
  ScoreT score{};
  /// Scores are scale · q·k. NaN stands for 1 / sqrt(head_dim).
  double scale = std::numeric_limits<double>::quiet_NaN();
  SinkT sink{};
  DropoutT dropout{};

  /// The same problem with its scale filled in. \throws argument_error for an infinite scale, and for a score function, sink
  /// or dropout that does not fit.
  Problem resolved(const Shape& shape) const {
    Problem problem = *this;
    if (std::isnan(scale)) problem.scale = 1 / std::sqrt(static_cast<double>(shape.head_dim));
    if (!std::isfinite(problem.scale)) throw argument_error("problem: the scale is infinite, it must be finite");
    detail::check_heads(score, shape.heads);
    if constexpr (has_sink) {
      if (sink.logits == nullptr) throw argument_error("sink: there are no logits");
    }
    if constexpr (has_dropout) dropout.check();
    return problem;
  }
};

template <class MaskT>
Problem(MaskT) -> Problem<MaskT>;
template <class MaskT, class ScoreT>
Problem(MaskT, ScoreT) -> Problem<MaskT, ScoreT>;
template <class MaskT, class ScoreT>
Problem(MaskT, ScoreT, double) -> Problem<MaskT, ScoreT>;
template <class MaskT, class ScoreT, class SinkT>
Problem(MaskT, ScoreT, double, SinkT) -> Problem<MaskT, ScoreT, SinkT>;
template <class MaskT, class ScoreT, class SinkT, class DropoutT>
Problem(MaskT, ScoreT, double, SinkT, DropoutT) -> Problem<MaskT, ScoreT, SinkT, DropoutT>;

namespace detail {

template <class P>
inline constexpr bool is_problem = false;
template <class... Policies>
inline constexpr bool is_problem<Problem<Policies...>> = true;

}  // namespace detail

/// Any Problem<Mask, ScoreMod, Sink, Dropout>.
template <class P>
concept ProblemType =
    detail::is_problem<std::remove_cvref_t<P>> && std::is_trivially_copyable_v<std::remove_cvref_t<P>>;

}  // namespace rondo
