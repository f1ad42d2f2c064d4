/// \file
/// What the arguments of a call must be, on this rank and compared with the others.
#pragma once

#include <rondo/agreement.hpp>
#include <rondo/fingerprint.hpp>
#include <rondo/overlap.hpp>
#include <rondo/problem.hpp>
#include <rondo/sharding/shard_table.hpp>
#include <rondo/tensor.hpp>

#include <array>
#include <bit>
#include <cstdint>

namespace rondo::detail {

/// The arguments of a rank with so many tokens. \throws shape_error naming the tensor; argument_error when an output
/// overlaps another tensor
struct Arguments {
  const Shape& shape;
  std::int64_t tokens;
  std::int64_t key_tokens;

  void queries(const char* name, const auto& x) const {
    check_extents(name, "[batch, sequence, heads, head_dim]", x, {shape.batch, tokens, shape.heads, shape.head_dim});
  }
  void keys(const char* name, const auto& x) const {
    check_extents(name, "[batch, sequence, kv_heads, head_dim]", x,
                  {shape.batch, key_tokens, shape.kv_heads, shape.head_dim});
  }
  void outputs(const char* name, const auto& x) const {
    check_extents(name, "[batch, sequence, heads, value_dim]", x, {shape.batch, tokens, shape.heads, shape.value_dim});
  }
  void values(const char* name, const auto& x) const {
    check_extents(name, "[batch, sequence, kv_heads, value_dim]", x,
                  {shape.batch, key_tokens, shape.kv_heads, shape.value_dim});
  }
  void rows(const char* name, const auto& x) const {
    check_extents(name, "[batch, heads, sequence]", x, {shape.batch, shape.heads, tokens});
  }

  void forward(const auto& q, const auto& k, const auto& v, const auto& out, const auto& lse) const {
    queries("q", q);
    keys("k", k);
    values("v", v);
    outputs("out", out);
    rows("lse", lse);
    check_separate("out", out, {"q", "k", "v", "lse"}, q, k, v, lse);
    check_separate("lse", lse, {"q", "k", "v"}, q, k, v);
  }

  void backward(const auto& q, const auto& k, const auto& v, const auto& out, const auto& lse, const auto& grad_out,
                const auto& grad_q, const auto& grad_k, const auto& grad_v) const {
    queries("q", q);
    keys("k", k);
    values("v", v);
    outputs("out", out);
    rows("lse", lse);
    outputs("grad_out", grad_out);
    queries("grad_q", grad_q);
    keys("grad_k", grad_k);
    values("grad_v", grad_v);
    const auto inputs = {"q", "k", "v", "out", "lse", "grad_out"};
    check_separate("grad_q", grad_q, inputs, q, k, v, out, lse, grad_out);
    check_separate("grad_k", grad_k, inputs, q, k, v, out, lse, grad_out);
    check_separate("grad_v", grad_v, inputs, q, k, v, out, lse, grad_out);
    check_separate("grad_q", grad_q, {"grad_k", "grad_v"}, grad_k, grad_v);
    check_separate("grad_k", grad_k, {"grad_v"}, grad_v);
  }
};

/// The problem with its scale filled in, after its mask has seen what it is used with.
template <ProblemType P>
P checked(const P& problem, const Shape& shape, const ShardTable& queries, const ShardTable& keys) {
  check_policy(problem.mask, shape.batch, queries.total_tokens(), keys.total_tokens());
  return problem.resolved(shape);
}

/// What ranks compare before a call.
/// \param operation    another number for every operation
/// \param wants_sinks  whether the sink's gradient is asked for
template <ProblemType P>
auto call_fields(int operation, const P& problem, bool wants_sinks) {
  return std::array{Field{"operation", operation},
                    Field{"kind of mask", P::mask_type::code},
                    Field{"parameters of the mask", fingerprint(problem.mask)},
                    Field{"kind of score function", P::score_type::code},
                    Field{"parameters of the score function", fingerprint(problem.score)},
                    Field{"kind of sink", P::sink_type::code},
                    Field{"gradient of the sink", wants_sinks},
                    Field{"kind of dropout", P::dropout_type::code},
                    Field{"parameters of the dropout", fingerprint(problem.dropout)},
                    Field{"scale (as bits)", std::bit_cast<std::int64_t>(problem.scale) >> 1}};
}

}  // namespace rondo::detail
