/// \file
/// Attention whose bits do not depend on the number of ranks.
#pragma once

#include <rondo/arguments.hpp>
#include <rondo/comm/concept.hpp>
#include <rondo/engine/gradient.hpp>
#include <rondo/engine/granules.hpp>
#include <rondo/engine/statistics.hpp>
#include <rondo/kernel/default.hpp>
#include <rondo/problem.hpp>
#include <rondo/sharding/cross.hpp>
#include <rondo/tensor.hpp>
#include <rondo/workspace.hpp>

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace rondo {

/// What RingAttention computes, with the same bits on any number of ranks, one included, for one kernel and build. The
/// sequence is cut into granules of fixed length that belong to one rank each, and every sum runs over whole granules in the
/// order of the sequence, whoever holds them: keys for out, lse and grad_q; then, in a second pass, queries for grad_k and
/// grad_v.
///
/// It costs what that order costs. A granule goes from its owner to all ranks that need it at the same time: as many bytes in
/// all as round the ring, but not evenly spread. Backward computes its products in both passes, about twice the work. Tensors,
/// exceptions and the agreement of the ranks are as in RingAttention.
template <Communicator Comm, AttentionSharding ShardingT,
          BlockKernel Kernel = default_kernel<float, typename Comm::execution_space>>
class ReproducibleAttention {
 public:
  using value_type = typename Kernel::value_type;
  using accumulate_type = typename Kernel::accumulate_type;
  using execution_space = typename Kernel::execution_space;
  using memory_space = typename execution_space::memory_space;
  template <class T>
  using Tensor4 = Tensor<T, 4, memory_space>;
  template <class T>
  using Tensor3 = Tensor<T, 3, memory_space>;

  /// \param granule  tokens; the sharding's runs must consist of whole ones, as those of striped_blocks{tokens, granule} do
  /// \throws shape_error, argument_error, agreement_error
  ReproducibleAttention(Comm& comm, const Shape& shape, const ShardingT& sharding, const Kernel& kernel = {},
                        std::int64_t granule = 512)
      : comm_(&comm), kernel_(kernel), granule_(granule) {
    agree(
        {{"operation", 3},
         {"granule", granule},
         {"batch", shape.batch},
         {"heads", shape.heads},
         {"kv_heads", shape.kv_heads},
         {"head_dim", shape.head_dim},
         {"value_dim", shape.value_dim},
         {"storage type (bits, 17 for float16)", precision_traits<value_type>::code},
         {"kernel wire format", Kernel::wire_format},
         {"kind of sharding", ShardingT::code}},
        [&] {
          shape_ = shape.checked();
          if (granule < 1) {
            throw argument_error(detail::message("reproducible: the granule is ", granule, ", it must be at least 1"));
          }
          queries_ = detail::query_table(sharding, comm.size());
          keys_ = detail::key_table(sharding, comm.size());
          query_granules_ = detail::granules_of(queries_, granule);
          key_granules_ = detail::granules_of(keys_, granule);
        });
    agree({{"total tokens", queries_.total_tokens()},
           {"total keys", keys_.total_tokens()},
           {"shards (a number over all runs)", detail::mixed(queries_.fingerprint(), keys_.fingerprint())}},
          [] {});
    lay_out();
  }

  const ShardTable& shards() const { return queries_; }
  const ShardTable& key_shards() const { return keys_; }
  std::int64_t tokens() const { return queries_.tokens(comm_->rank()); }
  std::int64_t key_tokens() const { return keys_.tokens(comm_->rank()); }
  std::size_t workspace_bytes() const { return workspace_bytes_; }
  const Statistics& statistics() const { return statistics_; }

  /// As RingAttention::forward.
  template <ProblemType P = Problem<>>
  void forward(const Tensor4<const value_type>& q, const Tensor4<const value_type>& k,
               const Tensor4<const value_type>& v, const Tensor4<value_type>& out, const Tensor3<accumulate_type>& lse,
               const P& problem = {}) {
    P resolved = problem;
    agree_on(1, problem, [&] {
      arguments().forward(q, k, v, out, lse);
      resolved = checked(problem);
    });
    const detail::Stopwatch watch(statistics_.seconds);
    ++statistics_.calls;
    const auto exec = comm_->execution_instance();
    const SoftmaxState<accumulate_type, memory_space> state = state_of(out, lse);
    make_empty(exec, state);
    const auto compute = [&](const detail::Granule& keys, int slot) {
      for_own(query_granules_, [&](const Part& mine) {
        kernel_.fold(exec, resolved, shape_, detail::token_rows(q, mine.row, mine.tokens.count), mine.tokens,
                     wire(Pass::forward, slot, keys.part), keys.part.tokens, state.rows(mine.row, mine.tokens.count),
                     Phase{});
      });
    };
    circulate_keys(exec, "forward", Pass::forward, resolved, k, v, compute);
    kernel_.finish(exec, resolved, state, out, lse);
    fence(*comm_, exec, "rondo::forward");
  }

  /// As RingAttention::backward.
  template <ProblemType P = Problem<>>
  void backward(const Tensor4<const value_type>& q, const Tensor4<const value_type>& k,
                const Tensor4<const value_type>& v, const Tensor4<const value_type>& out,
                const Tensor3<const accumulate_type>& lse, const Tensor4<const value_type>& grad_out,
                const Tensor4<value_type>& grad_q, const Tensor4<value_type>& grad_k, const Tensor4<value_type>& grad_v,
                const P& problem = {}) {
    P resolved = problem;
    agree_on(2, problem, [&] {
      arguments().backward(q, k, v, out, lse, grad_out, grad_q, grad_k, grad_v);
      resolved = checked(problem);
      refuse_learned(problem);
    });
    const detail::Stopwatch watch(statistics_.seconds);
    ++statistics_.calls;
    const auto exec = comm_->execution_instance();
    kernel_.delta(exec, out, grad_out, delta());
    gradient_of_queries(exec, resolved, q, k, v, lse, grad_out, grad_q);
    gradient_of_keys(exec, resolved, q, k, v, lse, grad_out, grad_k, grad_v);
    fence(*comm_, exec, "rondo::backward");
  }

 private:
  using T = value_type;
  using A = accumulate_type;
  using Bytes = typename Segment<memory_space>::Bytes;
  static constexpr bool narrow = !std::is_same_v<T, A>;

  /// grad_q: keys pass, in their order. What the kernel adds to the gradients of keys meanwhile is not used.
  template <ProblemType P>
  void gradient_of_queries(const execution_space& exec, const P& problem, const Tensor4<const T>& q,
                           const Tensor4<const T>& k, const Tensor4<const T>& v, const Tensor3<const A>& lse,
                           const Tensor4<const T>& grad_out, const Tensor4<T>& grad_q) {
    const Tensor4<A> sums = sums_of(grad_q, query_sums_);
    Kokkos::deep_copy(exec, sums, A{0});
    circulate_keys(exec, "backward", Pass::backward, problem, k, v, [&](const detail::Granule& keys, int slot) {
      const std::int64_t count = keys.part.tokens.count;
      for_own(query_granules_, [&](const Part& mine) {
        fold_gradient(exec, problem, mine, q, grad_out, lse, Tensor3<const A>(delta()), mine.row,
                      wire(Pass::backward, slot, keys.part), keys.part.tokens,
                      detail::token_rows(sums, mine.row, mine.tokens.count),
                      unused(0, count, shape_.kv_heads, shape_.head_dim),
                      unused(1, count, shape_.kv_heads, shape_.value_dim));
      });
    });
    if constexpr (narrow) detail::round_to(exec, sums, grad_q);
  }

  /// grad_k and grad_v: queries pass, in their order, with what belongs to them.
  template <ProblemType P>
  void gradient_of_keys(const execution_space& exec, const P& problem, const Tensor4<const T>& q,
                        const Tensor4<const T>& k, const Tensor4<const T>& v, const Tensor3<const A>& lse,
                        const Tensor4<const T>& grad_out, const Tensor4<T>& grad_k, const Tensor4<T>& grad_v) {
    const Tensor4<A> k_sums = sums_of(grad_k, key_sums_), v_sums = sums_of(grad_v, value_sums_);
    Kokkos::deep_copy(exec, k_sums, A{0});
    Kokkos::deep_copy(exec, v_sums, A{0});
    const auto pack = [&](const detail::Granule& granule, int slot) {
      const std::int64_t row = granule.part.row, count = granule.part.tokens.count;
      const Visitor to = visitor(slot, count);
      Kokkos::deep_copy(exec, to.q, detail::token_rows(q, row, count));
      Kokkos::deep_copy(exec, to.grad_out, detail::token_rows(grad_out, row, count));
      Kokkos::deep_copy(exec, to.lse, detail::token_columns(lse, row, count));
      Kokkos::deep_copy(exec, to.delta, detail::token_columns(delta(), row, count));
    };
    const auto message = [&](const detail::Granule&, int slot) {
      return workspace_.bytes(visitor_slot_[at(slot)], visitor_bytes_);
    };
    const auto needed = [&](int rank, const detail::Granule& granule) {
      return std::ranges::any_of(keys_.runs(rank), [&](const Run& keys) {
        return sees_some(problem.mask, shape_.batch, shape_.heads, granule.part.tokens, keys);
      });
    };
    circulate(exec, "backward", query_granules_, needed, message, pack, [&](const detail::Granule& queries, int slot) {
      const Visitor from = visitor(slot, queries.part.tokens.count);
      for_own(key_granules_, [&](const Part& mine) {
        const std::int64_t count = mine.tokens.count;
        const WireView<memory_space> packed = wire(Pass::backward, 0, mine);
        kernel_.pack(exec, Pass::backward, shape_, detail::token_rows(k, mine.row, count),
                     detail::token_rows(v, mine.row, count), packed);
        fold_gradient(exec, problem, Part{queries.part.tokens, 0}, Tensor4<const T>(from.q),
                      Tensor4<const T>(from.grad_out), Tensor3<const A>(from.lse), Tensor3<const A>(from.delta), 0,
                      packed, mine.tokens, unused(2, queries.part.tokens.count, shape_.heads, shape_.head_dim),
                      detail::token_rows(k_sums, mine.row, count), detail::token_rows(v_sums, mine.row, count));
      });
    });
    if constexpr (narrow) {
      detail::round_to(exec, k_sums, grad_k);
      detail::round_to(exec, v_sums, grad_v);
    }
  }

  template <ProblemType P, class Rows>
  void fold_gradient(const execution_space& exec, const P& problem, const Part& queries, const Tensor4<const T>& q,
                     const Tensor4<const T>& grad_out, const Rows& lse, const Rows& delta, std::int64_t row,
                     const WireView<memory_space>& wire, const Run& keys, const Tensor4<A>& grad_q,
                     const Tensor4<A>& grad_k, const Tensor4<A>& grad_v) {
    const std::int64_t count = queries.tokens.count;
    kernel_.fold_gradient(exec, problem, shape_, detail::token_rows(q, row, count),
                          detail::token_rows(grad_out, row, count), detail::token_columns(lse, row, count),
                          detail::token_columns(delta, row, count), queries.tokens, wire, keys, grad_q, grad_k, grad_v);
  }

  /// Keys and values, packed, in the order of the sequence, to all ranks whose queries see some of them.
  template <ProblemType P, class Compute>
  void circulate_keys(const execution_space& exec, const char* what, Pass pass, const P& problem,
                      const Tensor4<const T>& k, const Tensor4<const T>& v, const Compute& compute) {
    const auto needed = [&](int rank, const detail::Granule& granule) {
      return std::ranges::any_of(queries_.runs(rank), [&](const Run& queries) {
        return sees_some(problem.mask, shape_.batch, shape_.heads, queries, granule.part.tokens);
      });
    };
    const auto message = [&](const detail::Granule& granule, int slot) {
      return workspace_.bytes(slots(pass)[at(slot)], kernel_.wire_bytes(pass, shape_, granule.part.tokens.count));
    };
    const auto pack = [&](const detail::Granule& granule, int slot) {
      const std::int64_t row = granule.part.row, count = granule.part.tokens.count;
      kernel_.pack(exec, pass, shape_, detail::token_rows(k, row, count), detail::token_rows(v, row, count),
                   wire(pass, slot, granule.part));
    };
    circulate(exec, what, key_granules_, needed, message, pack, compute);
  }

  /// Granule after granule: while one is computed with, the next comes from its owner.
  template <class Needed, class Message, class Pack, class Compute>
  void circulate(const execution_space& exec, const char* what, const std::vector<detail::Granule>& granules,
                 const Needed& needed, const Message& message, const Pack& pack, const Compute& compute) {
    const auto count = static_cast<std::int64_t>(granules.size());
    for (std::int64_t step = -1; step < count; ++step) {
      segments_.clear();
      if (step + 1 < count)
        prepare(granules[static_cast<std::size_t>(step + 1)], static_cast<int>((step + 1) % 2), needed, message, pack);
      auto transfer = comm_->exchange(exec, segments_, {what, step + 1});
      if (step >= 0) {
        const detail::Granule& held = granules[static_cast<std::size_t>(step)];
        if (needed(comm_->rank(), held)) compute(held, static_cast<int>(step % 2));
      }
      if constexpr (!Comm::stream_ordered) exec.fence("rondo::wait");
      const detail::Stopwatch watch(statistics_.wait_seconds);
      transfer.order(exec);
    }
  }

  template <class Needed, class Message, class Pack>
  void prepare(const detail::Granule& next, int slot, const Needed& needed, const Message& message, const Pack& pack) {
    const Bytes bytes = message(next, slot);
    if (next.owner != comm_->rank()) {
      if (needed(comm_->rank(), next)) segments_.push_back({Direction::receive, next.owner, bytes});
      return;
    }
    pack(next, slot);
    for (int rank = 0; rank < comm_->size(); ++rank) {
      if (rank == comm_->rank() || !needed(rank, next)) continue;
      segments_.push_back({Direction::send, rank, bytes});
      ++statistics_.messages_sent;
      statistics_.bytes_sent += static_cast<std::int64_t>(bytes.size());
    }
  }

  template <class F>
  void for_own(const std::vector<detail::Granule>& granules, const F& f) const {
    for (const detail::Granule& granule : granules) {
      if (granule.owner == comm_->rank()) f(granule.part);
    }
  }

  // --- Memory: two wires, two visiting granules of queries, and what the kernel's own outputs cannot hold.

  struct Visitor {
    Tensor4<T> q, grad_out;
    Tensor3<A> lse, delta;
  };

  void lay_out() {
    const auto elements = [&](std::int64_t tokens, int heads, int width) {
      return static_cast<std::size_t>(tokens) * static_cast<std::size_t>(shape_.batch) *
             static_cast<std::size_t>(heads) * static_cast<std::size_t>(width);
    };
    const int dim = shape_.head_dim, value_dim = shape_.value_dim;
    WorkspaceLayout layout;
    for (auto& slot : forward_slot_) slot = layout.add(kernel_.wire_bytes(Pass::forward, shape_, granule_));
    for (auto& slot : backward_slot_) slot = layout.add(kernel_.wire_bytes(Pass::backward, shape_, granule_));
    visitor_bytes_ = elements(granule_, shape_.heads, dim + value_dim) * sizeof(T) +
                     2 * elements(granule_, shape_.heads, 1) * sizeof(A);
    for (auto& slot : visitor_slot_) slot = layout.add(visitor_bytes_);
    for (auto& place : unused_)
      place = layout.add(elements(granule_, shape_.heads, std::max(dim, value_dim)) * sizeof(A));
    l_ = layout.add(elements(tokens(), shape_.heads, 1) * sizeof(A));
    delta_ = layout.add(elements(tokens(), shape_.heads, 1) * sizeof(A));
    query_sums_ = layout.add(narrow ? elements(tokens(), shape_.heads, std::max(dim, value_dim)) * sizeof(A) : 0);
    key_sums_ = layout.add(narrow ? elements(key_tokens(), shape_.kv_heads, dim) * sizeof(A) : 0);
    value_sums_ = layout.add(narrow ? elements(key_tokens(), shape_.kv_heads, value_dim) * sizeof(A) : 0);
    workspace_bytes_ = layout.bytes();
    workspace_ = Workspace<memory_space>(workspace_bytes_);
    segments_.reserve(static_cast<std::size_t>(comm_->size()));
    const Tensor<std::byte, 1, memory_space> all =
        tensor<memory_space>(workspace_.template at<std::byte>(0), {workspace_bytes_});
    Kokkos::deep_copy(all, std::byte{0});  // what is not used is added to all the same
  }

  static std::size_t at(int slot) { return static_cast<std::size_t>(slot); }
  const std::array<std::size_t, 2>& slots(Pass pass) const {
    return pass == Pass::forward ? forward_slot_ : backward_slot_;
  }
  WireView<memory_space> wire(Pass pass, int slot, const Part& part) const {
    return WireView<memory_space>(workspace_.template at<std::byte>(slots(pass)[at(slot)]),
                                  kernel_.wire_bytes(pass, shape_, part.tokens.count));
  }
  Tensor3<A> rows_at(std::size_t place) const {
    const std::int64_t extents[] = {shape_.batch, shape_.heads, tokens()};
    return tensor<memory_space>(workspace_.template at<A>(place), extents);
  }
  Tensor3<A> delta() const { return rows_at(delta_); }
  SoftmaxState<A, memory_space> state_of(const Tensor4<T>& out, const Tensor3<A>& lse) const {
    return {lse, rows_at(l_), sums_of(out, query_sums_)};
  }
  /// Where a result is summed up: itself where it is wide enough.
  Tensor4<A> sums_of(const Tensor4<T>& result, std::size_t place) const {
    if constexpr (narrow) {
      const auto e = detail::extents_of(result);
      const std::int64_t extents[] = {e[0], e[1], e[2], e[3]};
      return tensor<memory_space>(workspace_.template at<A>(place), extents);
    } else {
      return result;
    }
  }
  Tensor4<A> unused(int place, std::int64_t count, int heads, int width) const {
    const std::int64_t extents[] = {shape_.batch, count, heads, width};
    return tensor<memory_space>(workspace_.template at<A>(unused_[at(place)]), extents);
  }
  Visitor visitor(int slot, std::int64_t count) const {
    const std::int64_t wide[] = {shape_.batch, count, shape_.heads, shape_.head_dim};
    const std::int64_t value_wide[] = {shape_.batch, count, shape_.heads, shape_.value_dim};
    const std::int64_t rows[] = {shape_.batch, shape_.heads, count};
    const std::int64_t most = granule_ * shape_.batch * shape_.heads;
    A* const numbers = workspace_.template at<A>(visitor_slot_[at(slot)]);
    T* const elements = reinterpret_cast<T*>(numbers + 2 * most);
    return {tensor<memory_space>(elements, wide), tensor<memory_space>(elements + most * shape_.head_dim, value_wide),
            tensor<memory_space>(numbers, rows), tensor<memory_space>(numbers + most, rows)};
  }

  // --- Checks

  detail::Arguments arguments() const { return {shape_, tokens(), key_tokens()}; }
  template <ProblemType P>
  P checked(const P& problem) const {
    return detail::checked(problem, shape_, queries_, keys_);
  }
  /// Their gradients are sums over ranks.
  template <ProblemType P>
  static void refuse_learned(const P& problem) {
    bool wanted = false;
    if constexpr (LearnedScore<typename P::score_type>) wanted = wanted || problem.score.gradient() != nullptr;
    if constexpr (P::has_sink) wanted = wanted || problem.sink.grad_logits != nullptr;
    if (wanted) {
      throw argument_error(
          "reproducible: gradients of sinks and of a score function's parameters are sums over ranks, whose bits "
          "depend on their number; leave their pointers null");
    }
  }
  template <ProblemType P, class Check>
  void agree_on(int operation, const P& problem, const Check& check) {
    const std::exception_ptr refusal = detail::refusal_of(check);
    const auto fields = [&] { return detail::call_fields(operation, problem, false); };
    detail::agree(*comm_, comm_->size() > 1, fields, refusal);
  }
  template <std::size_t Count, class Check>
  void agree(const detail::Field (&fields)[Count], const Check& check) {
    const std::exception_ptr refusal = detail::refusal_of(check);
    detail::agree(
        *comm_, comm_->size() > 1, [&] { return std::to_array(fields); }, refusal);
  }

  Comm* comm_;
  Kernel kernel_;
  std::int64_t granule_;
  Shape shape_;
  ShardTable queries_, keys_;
  std::vector<detail::Granule> query_granules_, key_granules_;
  std::array<std::size_t, 2> forward_slot_{}, backward_slot_{}, visitor_slot_{};
  std::array<std::size_t, 3> unused_{};
  std::size_t visitor_bytes_ = 0;
  std::size_t l_ = 0, delta_ = 0, query_sums_ = 0, key_sums_ = 0, value_sums_ = 0;
  std::size_t workspace_bytes_ = 0;
  Workspace<memory_space> workspace_;
  std::vector<Segment<memory_space>> segments_;
  Statistics statistics_;
};

}  // namespace rondo
