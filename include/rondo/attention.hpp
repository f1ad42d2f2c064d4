/// \file
/// RingAttention, the front door: exact attention over a sequence spread over the ranks of a communicator.
#pragma once

#include <rondo/arguments.hpp>
#include <rondo/comm/concept.hpp>
#include <rondo/engine.hpp>
#include <rondo/engine/recorder.hpp>
#include <rondo/engine/statistics.hpp>
#include <rondo/engine/workspace_bytes.hpp>
#include <rondo/kernel/default.hpp>
#include <rondo/problem.hpp>
#include <rondo/sharding/cross.hpp>
#include <rondo/sharding/shard_table.hpp>
#include <rondo/source.hpp>
#include <rondo/tensor.hpp>

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>

namespace rondo {

/// What a RingAttention is made with, besides its shape.
struct Options {
  std::int64_t chunk = 4096;    ///< tokens of a piece: what travels, and is kept of a visitor, at a time
  bool backward = true;         ///< room for the backward pass; false: forward alone, in less memory
  bool check_agreement = true;  ///< compare the ranks' arguments before every call (one small reduction)
  /// Where messages move only when asked (MPI) and the kernel cannot do that between its tiles (ReportsProgress): how
  /// often it is done in a step, between parts of the rank's queries.
  int polls = 16;
  Recorder* recorder = nullptr;  ///< notes what this rank does when
  std::size_t budget = 0;        ///< refuse to allocate a workspace of more bytes; 0: no limit
  /// false: where the communicator is stream-ordered, calls return when their work is queued on the instance, and so may be
  /// queued behind each other without a pause. What goes wrong on a device is then thrown later, at the latest by wait().
  bool waits = true;
};

/// Whether a call would be refused, and why.
struct Support {
  bool ok = true;
  std::string reason;
  explicit operator bool() const { return ok; }
};

/// Exact attention, softmax(scale · q·kᵀ)·v under a mask, and its gradient, where every rank holds a shard of the
/// tokens (Liu, Zaharia & Abbeel, arXiv 2310.01889). Owns its workspace: make one, use it for many calls. Every rank
/// of the communicator makes one with the same arguments and makes the same calls in the same order.
///
/// Tensors are a rank's own tokens, in the order of its runs: q and grad_q [batch, sequence, heads, head_dim]; k and grad_k
/// [batch, sequence, kv_heads, head_dim]; out and grad_out [batch, sequence, heads, value_dim]; v and grad_v [batch,
/// sequence, kv_heads, value_dim]; lse [batch, heads, sequence]. Any strides. value_dim is head_dim unless the shape gives
/// another.
///
/// Every call throws, besides what it says itself: agreement_error when ranks differ in shape, type, sharding, chunk or
/// problem; peer_failed when another rank failed or refused its arguments; timeout_error when one does not answer.
/// After an exception the outputs are unspecified. Calls return when the outputs are complete (but see Options::waits).
template <Communicator Comm, AttentionSharding ShardingT,
          BlockKernel Kernel = default_kernel<float, typename Comm::execution_space>>
class RingAttention {
 public:
  using value_type = typename Kernel::value_type;
  using accumulate_type = typename Kernel::accumulate_type;
  using execution_space = typename Kernel::execution_space;
  using memory_space = typename execution_space::memory_space;
  template <class T>
  using Tensor4 = Tensor<T, 4, memory_space>;
  template <class T>
  using Tensor3 = Tensor<T, 3, memory_space>;

  static_assert(std::is_same_v<memory_space, typename Comm::memory_space>,
                "the kernel's memory space must be the communicator's");

  /// Checks the arguments, makes sure that all ranks gave the same, and allocates the workspace.
  /// \throws shape_error, argument_error, agreement_error
  RingAttention(Comm& comm, const Shape& shape, const ShardingT& sharding, const Kernel& kernel = {},
                const Options& options = {})
      : check_agreement_(options.check_agreement && comm.size() > 1),
        backward_(options.backward),
        engine_(agreed_engine(comm, shape, sharding, kernel, options, check_agreement_)) {}

  const Shape& shape() const { return engine_.shape(); }
  /// Which tokens each rank holds; of cross attention, which queries.
  const ShardTable& shards() const { return engine_.queries(); }
  /// Which keys and values each rank holds.
  const ShardTable& key_shards() const { return engine_.keys(); }
  /// Number of tokens this rank holds: the extent of its tensors' sequence axis.
  std::int64_t tokens() const { return engine_.tokens(); }
  /// The same of k, v and their gradients: another number only in cross attention.
  std::int64_t key_tokens() const { return engine_.key_tokens(); }
  /// Tokens of a piece: the option, or the longest run if that is shorter.
  std::int64_t chunk() const { return engine_.chunk(); }
  /// Bytes of this rank's workspace. Depends on this rank's tokens and the chunk, not on the number of ranks.
  std::size_t workspace_bytes() const { return workspace().total(); }
  /// The same by pass and purpose. rondo::workspace_bytes says it beforehand.
  const WorkspaceBytes& workspace() const { return engine_.workspace(); }
  /// What this rank has sent and how long it has waited, since construction.
  const Statistics& statistics() const { return engine_.statistics(); }

  /// Says, without calling, whether a problem would be refused and why.
  template <ProblemType P>
  Support supported(const P& problem) const {
    try {
      static_cast<void>(checked(problem));
      return {};
    } catch (const error& refusal) {
      return {false, refusal.what()};
    }
  }

  /// out = softmax(scores)·v over all ranks' keys, lse = log Σ e^score (natural). A query that sees no key gets 0 and
  /// -inf. \throws shape_error naming the tensor; argument_error when an output overlaps another tensor
  template <ProblemType P = Problem<>>
  void forward(const execution_space& exec, const Tensor4<const value_type>& q, const Tensor4<const value_type>& k,
               const Tensor4<const value_type>& v, const Tensor4<value_type>& out, const Tensor3<accumulate_type>& lse,
               const P& problem = {}) {
    P resolved = problem;
    agree("forward", problem, [&] {
      arguments().forward(q, k, v, out, lse);
      resolved = checked(problem);
    });
    engine_.forward(exec, resolved, q, k, v, out, lse);
  }

  template <ProblemType P = Problem<>>
  void forward(const Tensor4<const value_type>& q, const Tensor4<const value_type>& k,
               const Tensor4<const value_type>& v, const Tensor4<value_type>& out, const Tensor3<accumulate_type>& lse,
               const P& problem = {}) {
    forward(engine_.comm().execution_instance(), q, k, v, out, lse, problem);
  }

  /// The same with keys and values that come from a source, piece by piece: this rank's are never in memory all at once.
  /// With a cross sharding of few queries over many keys nothing but pieces is.
  template <KeyValueSource<value_type, execution_space> Source, ProblemType P = Problem<>>
  void forward(const execution_space& exec, const Tensor4<const value_type>& q, Source& source,
               const Tensor4<value_type>& out, const Tensor3<accumulate_type>& lse, const P& problem = {}) {
    P resolved = problem;
    agree("forward", problem, [&] {
      arguments().queries("q", q);
      arguments().outputs("out", out);
      arguments().rows("lse", lse);
      detail::check_separate("out", out, {"q", "lse"}, q, lse);
      detail::check_separate("lse", lse, {"q"}, q);
      resolved = checked(problem);
    });
    engine_.forward(exec, resolved, q, source, out, lse);
  }

  /// The gradients of a loss with respect to q, k and v from its gradient with respect to out. `out` and `lse` are what
  /// forward returned for the same q, k, v and problem. The gradients are overwritten; those of k and v contain every
  /// rank's part. \throws shape_error naming the tensor; argument_error when an output overlaps another tensor
  template <ProblemType P = Problem<>>
  void backward(const execution_space& exec, const Tensor4<const value_type>& q, const Tensor4<const value_type>& k,
                const Tensor4<const value_type>& v, const Tensor4<const value_type>& out,
                const Tensor3<const accumulate_type>& lse, const Tensor4<const value_type>& grad_out,
                const Tensor4<value_type>& grad_q, const Tensor4<value_type>& grad_k, const Tensor4<value_type>& grad_v,
                const P& problem = {}) {
    P resolved = problem;
    agree("backward", problem, [&] {
      if (!backward_) throw argument_error("backward: this RingAttention was made with Options::backward = false");
      arguments().backward(q, k, v, out, lse, grad_out, grad_q, grad_k, grad_v);
      resolved = checked(problem);
    });
    engine_.backward(exec, resolved, q, k, v, out, lse, grad_out, grad_q, grad_k, grad_v);
  }

  template <ProblemType P = Problem<>>
  void backward(const Tensor4<const value_type>& q, const Tensor4<const value_type>& k,
                const Tensor4<const value_type>& v, const Tensor4<const value_type>& out,
                const Tensor3<const accumulate_type>& lse, const Tensor4<const value_type>& grad_out,
                const Tensor4<value_type>& grad_q, const Tensor4<value_type>& grad_k, const Tensor4<value_type>& grad_v,
                const P& problem = {}) {
    backward(engine_.comm().execution_instance(), q, k, v, out, lse, grad_out, grad_q, grad_k, grad_v, problem);
  }

  /// Returns when the calls made on an instance are done, of which there is something left where Options::waits is false.
  void wait(const execution_space& exec) { engine_.wait(exec, "rondo::wait"); }
  void wait() { wait(engine_.comm().execution_instance()); }

 private:
  using Engine = detail::Engine<Comm, Kernel>;

  detail::Arguments arguments() const { return {shape(), tokens(), key_tokens()}; }
  template <ProblemType P>
  P checked(const P& problem) const {
    return detail::checked(problem, shape(), shards(), key_shards());
  }

  static Engine agreed_engine(Comm& comm, const Shape& shape, const ShardingT& sharding, const Kernel& kernel,
                              const Options& options, bool check_agreement) {
    Shape checked;
    auto queries = std::make_shared<const ShardTable>();
    auto keys = queries;
    const std::exception_ptr refusal = detail::refusal_of([&] {
      checked = shape.checked();
      if (options.chunk < 1) {
        throw argument_error(detail::message("options: chunk is ", options.chunk, ", it must be at least 1"));
      }
      if (options.polls < 1) {
        throw argument_error(detail::message("options: polls is ", options.polls, ", it must be at least 1"));
      }
      queries = std::make_shared<const ShardTable>(detail::query_table(sharding, comm.size()));
      keys = queries;
      if (detail::is_cross<ShardingT>)
        keys = std::make_shared<const ShardTable>(detail::key_table(sharding, comm.size()));
      const std::int64_t piece = detail::piece_tokens(*keys, options.chunk);
      detail::check_budget(
          detail::rank_layout(kernel, checked, queries->tokens(comm.rank()), *keys, piece, options.backward).bytes,
          options.budget, comm.rank());
    });
    const auto fields = [&] {
      return std::array{
          detail::Field{"batch", shape.batch},
          detail::Field{"heads", shape.heads},
          detail::Field{"kv_heads", checked.kv_heads},
          detail::Field{"head_dim", shape.head_dim},
          detail::Field{"value_dim", checked.value_dim},
          detail::Field{"storage type (bits, 17 for float16)", precision_traits<value_type>::code},
          detail::Field{"kernel wire format", Kernel::wire_format},
          detail::Field{"kind of sharding", ShardingT::code},
          detail::Field{"total tokens", queries->total_tokens()},
          detail::Field{"total keys", keys->total_tokens()},
          detail::Field{"shards (a number over all runs)", detail::mixed(queries->fingerprint(), keys->fingerprint())},
          detail::Field{"chunk", options.chunk}};
    };
    detail::agree(comm, check_agreement, fields, refusal);
    return Engine(comm, kernel, checked, std::move(queries), std::move(keys), options.chunk, options.polls,
                  options.recorder, options.backward, options.waits);
  }

  template <ProblemType P, class Check>
  void agree(const char* operation, const P& problem, const Check& check) {
    const std::exception_ptr refusal = detail::refusal_of(check);
    const auto fields = [&] { return detail::call_fields(operation[0] == 'f' ? 1 : 2, problem, wants_sinks(problem)); };
    detail::agree(engine_.comm(), check_agreement_, fields, refusal);
  }

  template <ProblemType P>
  static bool wants_sinks(const P& problem) {
    if constexpr (P::has_sink) {
      static_assert(std::is_same_v<decltype(problem.sink.grad_logits), accumulate_type*>,
                    "the sink's logits must be of the kernel's accumulate type");
      return problem.sink.grad_logits != nullptr;
    } else {
      return false;
    }
  }

  bool check_agreement_;
  bool backward_;
  Engine engine_;
};

}  // namespace rondo
