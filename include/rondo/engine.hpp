/// \file
/// The engine walks a rank's schedule: it starts the exchanges, calls the kernel while they are under way, and adds up
/// gradients where they pass. It allocates nothing.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/kernel/concept.hpp>
#include <rondo/precision.hpp>
#include <rondo/problem.hpp>
#include <rondo/schedule/ring.hpp>
#include <rondo/sharding/shard_table.hpp>
#include <rondo/tensor.hpp>
#include <rondo/workspace.hpp>

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace rondo {

/// What a RingAttention has done since it was made.
struct Statistics {
  std::int64_t calls = 0;
  std::int64_t bytes_sent = 0;      ///< by this rank
  std::int64_t messages_sent = 0;   ///< by this rank
  double seconds = 0;               ///< inside forward and backward
  double wait_seconds = 0;          ///< of them, with nothing to do but wait for blocks
};

namespace detail {

/// Adds the seconds of its own life to a counter.
class Stopwatch {
 public:
  explicit Stopwatch(double& total) : total_(total), start_(std::chrono::steady_clock::now()) {}
  ~Stopwatch() { total_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double& total_;
  std::chrono::steady_clock::time_point start_;
};

/// What stays the same over all calls of one RingAttention, on one rank.
template <Communicator Comm, BlockKernel Kernel>
class Engine {
 public:
  using T = typename Kernel::value_type;
  using A = typename Kernel::accumulate_type;
  using Exec = typename Kernel::execution_space;
  using Space = typename Exec::memory_space;
  static constexpr bool narrow = !std::is_same_v<T, A>;
  static constexpr int slots = 2;  ///< places for packed pieces: one computed with, one arriving

  Engine(Comm& comm, const Kernel& kernel, const Shape& shape, ShardTable table, std::int64_t chunk)
      : comm_(&comm),
        kernel_(kernel),
        shape_(shape),
        table_(std::move(table)),
        chunk_(std::max<std::int64_t>(1, std::min(chunk, table_.longest_run()))),
        tokens_(table_.tokens(comm.rank())),
        ring_(comm.rank(), comm.size(), table_.most_pieces(chunk_)) {
    WorkspaceLayout forward;
    for (auto& slot : forward_.slot) slot = forward.add(kernel_.wire_bytes(Pass::forward, shape_, chunk_));
    forward_.l = forward.add(row_bytes());
    if (narrow) forward_.acc = forward.add(query_bytes());
    WorkspaceLayout backward;
    for (auto& slot : backward_.slot) slot = backward.add(kernel_.wire_bytes(Pass::backward, shape_, chunk_));
    backward_.delta = backward.add(row_bytes());
    if (narrow) backward_.grad_q = backward.add(query_bytes());
    for (auto& gradient : backward_.gradient) gradient = backward.add(gradient_bytes(chunk_));
    bytes_ = std::max(forward.bytes(), backward.bytes());
    workspace_ = Workspace<Space>(bytes_);
  }

  Comm& comm() const { return *comm_; }
  const Shape& shape() const { return shape_; }
  const ShardTable& table() const { return table_; }
  std::int64_t tokens() const { return tokens_; }
  std::int64_t chunk() const { return chunk_; }
  std::size_t workspace_bytes() const { return bytes_; }
  const Statistics& statistics() const { return statistics_; }

  template <ProblemType P>
  void forward(const Exec& exec, const P& problem, const Tensor<const T, 4, Space>& q,
               const Tensor<const T, 4, Space>& k, const Tensor<const T, 4, Space>& v, const Tensor<T, 4, Space>& out,
               const Tensor<A, 3, Space>& lse) {
    const Stopwatch watch(statistics_.seconds);
    ++statistics_.calls;
    // Where out is as wide as the accumulator it serves as one; lse holds m until the end.
    SoftmaxState<A, Space> state{lse, rows_at(forward_.l), {}};
    if constexpr (narrow) {
      state.acc = queries_at(forward_.acc);
    } else {
      state.acc = out;
    }
    for (std::int64_t index = 0; index < ring_.forward_steps(); ++index) {
      const schedule::Step step = ring_.forward(index);
      const Piece piece = table_.piece(step.owner, step.piece, chunk_);
      const auto slot = [&](std::int64_t at) { return forward_.slot[static_cast<std::size_t>(at % slots)]; };
      pack_own(exec, Pass::forward, step, piece, k, v, slot(index));

      Messages messages;
      if (step.pass_on) pass_on(messages, Pass::forward, step, piece, slot(index), slot(index + 1));
      auto transfer = start(exec, messages, {"forward", step.hop});
      for_own_runs(schedule::QueryShare::all, [&](const Run& queries, std::int64_t row) {
        kernel_.fold(exec, problem, shape_, token_rows(q, row, queries.count), queries,
                     wire(Pass::forward, slot(index), piece), piece.tokens, state.rows(row, queries.count),
                     Phase{index == 0, index + 1 == ring_.forward_steps()});
      });
      finish_transfer(exec, transfer);
    }
    kernel_.finish(exec, state, out, lse);
    exec.fence("rondo::forward");
  }

  template <ProblemType P>
  void backward(const Exec& exec, const P& problem, const Tensor<const T, 4, Space>& q,
                const Tensor<const T, 4, Space>& k, const Tensor<const T, 4, Space>& v,
                const Tensor<const T, 4, Space>& out, const Tensor<const A, 3, Space>& lse,
                const Tensor<const T, 4, Space>& grad_out, const Tensor<T, 4, Space>& grad_q,
                const Tensor<T, 4, Space>& grad_k, const Tensor<T, 4, Space>& grad_v) {
    const Stopwatch watch(statistics_.seconds);
    ++statistics_.calls;
    const Tensor<A, 3, Space> delta = rows_at(backward_.delta);
    kernel_.delta(exec, out, grad_out, delta);
    Tensor<A, 4, Space> query_sums;
    if constexpr (narrow) {
      query_sums = queries_at(backward_.grad_q);
    } else {
      query_sums = grad_q;
    }
    Kokkos::deep_copy(exec, query_sums, A{0});

    // Four places for gradients of pieces: of the own piece, of the piece computed with, leaving, arriving.
    auto [own, partial, leaving, arriving] = backward_.gradient;
    Piece leaving_piece;
    Piece own_piece;
    for (std::int64_t index = 0; index < ring_.backward_steps(); ++index) {
      const schedule::Step step = ring_.backward(index);
      const bool trailing = step.queries == schedule::QueryShare::second_half;
      const Piece piece = table_.piece(step.owner, step.piece, chunk_);
      const auto slot = [&](std::int64_t at) { return backward_.slot[static_cast<std::size_t>(at % slots)]; };
      pack_own(exec, Pass::backward, step, piece, k, v, slot(index));

      Messages messages;
      if (step.pass_on) pass_on(messages, Pass::backward, step, piece, slot(index), slot(index + 1));
      if (step.send_gradient) messages.send(ring_.next(), gradient_message(leaving, leaving_piece));
      const Piece arriving_piece = step.arrival == schedule::GradientArrival::home ? own_piece : piece;
      if (step.arrival != schedule::GradientArrival::none) {
        messages.receive(ring_.previous(), gradient_message(arriving, arriving_piece));
      }
      auto transfer = start(exec, messages, {"backward", step.hop});

      // The trailing step adds to the own piece's gradient; every other one starts a new partial one.
      const Gradient target = gradient_at(trailing ? own : partial, piece);
      if (!trailing) zero(exec, target);
      for_own_runs(step.queries, [&](const Run& queries, std::int64_t row) {
        kernel_.fold_gradient(exec, problem, shape_, token_rows(q, row, queries.count),
                              token_rows(grad_out, row, queries.count), token_columns(lse, row, queries.count),
                              token_columns(Tensor<const A, 3, Space>(delta), row, queries.count), queries,
                              wire(Pass::backward, slot(index), piece), piece.tokens,
                              token_rows(query_sums, row, queries.count), target.k, target.v);
      });
      finish_transfer(exec, transfer);

      if (step.arrival == schedule::GradientArrival::home) {
        add(exec, gradient_at(own, own_piece), gradient_at(arriving, own_piece));
        store(exec, gradient_at(own, own_piece), own_piece, grad_k, grad_v);
      }
      if (step.hop == 0) {
        if (!trailing) std::swap(own, partial);
        own_piece = piece;
        if (comm_->size() == 1) store(exec, gradient_at(own, own_piece), own_piece, grad_k, grad_v);
        continue;
      }
      if (step.arrival == schedule::GradientArrival::visitor) {
        add(exec, gradient_at(arriving, piece), gradient_at(partial, piece));
        std::swap(arriving, leaving);
      } else {
        std::swap(partial, leaving);
      }
      leaving_piece = piece;
    }
    if constexpr (narrow) round(exec, query_sums, grad_q);
    exec.fence("rondo::backward");
  }

 private:
  using Bytes = typename Segment<Space>::Bytes;

  struct Gradient {
    Tensor<A, 4, Space> k, v;
  };

  /// The segments of one step; messages without bytes are not sent.
  class Messages {
   public:
    void send(int peer, const Bytes& bytes) { add(Direction::send, peer, bytes); }
    void receive(int peer, const Bytes& bytes) { add(Direction::receive, peer, bytes); }
    std::span<const Segment<Space>> segments() const { return {segments_.data(), count_}; }

   private:
    void add(Direction direction, int peer, const Bytes& bytes) {
      if (bytes.size() > 0) segments_[count_++] = {direction, peer, bytes};
    }
    std::array<Segment<Space>, 4> segments_;
    std::size_t count_ = 0;
  };

  std::size_t row_bytes() const { return sizeof(A) * elements(shape_.heads) / static_cast<std::size_t>(shape_.head_dim); }
  std::size_t query_bytes() const { return sizeof(A) * elements(shape_.heads); }
  std::size_t elements(int heads) const {
    return static_cast<std::size_t>(tokens_) * static_cast<std::size_t>(shape_.batch) *
           static_cast<std::size_t>(heads) * static_cast<std::size_t>(shape_.head_dim);
  }
  /// Bytes of grad_k and grad_v of a piece, in accumulate type: what travels.
  std::size_t gradient_bytes(std::int64_t tokens) const {
    return 2 * sizeof(A) * static_cast<std::size_t>(tokens) * static_cast<std::size_t>(shape_.batch) *
           static_cast<std::size_t>(shape_.kv_heads) * static_cast<std::size_t>(shape_.head_dim);
  }

  Tensor<A, 3, Space> rows_at(std::size_t offset) const {
    return tensor<Space>(workspace_.template at<A>(offset),
                         {std::int64_t{shape_.batch}, std::int64_t{shape_.heads}, tokens_});
  }
  Tensor<A, 4, Space> queries_at(std::size_t offset) const {
    return tensor<Space>(workspace_.template at<A>(offset), {std::int64_t{shape_.batch}, tokens_,
                                                             std::int64_t{shape_.heads}, std::int64_t{shape_.head_dim}});
  }
  Gradient gradient_at(std::size_t offset, const Piece& piece) const {
    const std::int64_t extents[] = {shape_.batch, piece.tokens.count, shape_.kv_heads, shape_.head_dim};
    A* data = workspace_.template at<A>(offset);
    const auto half = gradient_bytes(piece.tokens.count) / sizeof(A) / 2;
    return {tensor<Space>(data, extents), tensor<Space>(data + half, extents)};
  }
  WireView<Space> wire(Pass pass, std::size_t offset, const Piece& piece) const {
    return WireView<Space>(workspace_.template at<std::byte>(offset), wire_bytes(pass, piece));
  }
  std::size_t wire_bytes(Pass pass, const Piece& piece) const {
    return piece.tokens.count == 0 ? 0 : kernel_.wire_bytes(pass, shape_, piece.tokens.count);
  }
  Bytes gradient_message(std::size_t offset, const Piece& piece) const {
    return workspace_.bytes(offset, gradient_bytes(piece.tokens.count));
  }

  void pack_own(const Exec& exec, Pass pass, const schedule::Step& step, const Piece& piece,
                const Tensor<const T, 4, Space>& k, const Tensor<const T, 4, Space>& v, std::size_t slot) const {
    if (!step.pack || piece.tokens.count == 0) return;
    kernel_.pack(exec, pass, shape_, token_rows(k, piece.row, piece.tokens.count),
                 token_rows(v, piece.row, piece.tokens.count), wire(pass, slot, piece));
  }

  /// The piece held goes to the next rank; what the previous rank holds arrives.
  void pass_on(Messages& messages, Pass pass, const schedule::Step& step, const Piece& piece, std::size_t held,
               std::size_t free) const {
    const int incoming_owner = (step.owner + comm_->size() - 1) % comm_->size();
    const Piece incoming = table_.piece(incoming_owner, step.piece, chunk_);
    messages.send(ring_.next(), workspace_.bytes(held, wire_bytes(pass, piece)));
    messages.receive(ring_.previous(), workspace_.bytes(free, wire_bytes(pass, incoming)));
  }

  auto start(const Exec& exec, const Messages& messages, Where where) {
    for (const auto& segment : messages.segments()) {
      if (segment.direction != Direction::send) continue;
      statistics_.bytes_sent += static_cast<std::int64_t>(segment.bytes.size());
      ++statistics_.messages_sent;
    }
    return comm_->exchange(exec, messages.segments(), where);
  }

  template <Transfer Started>
  void finish_transfer(const Exec& exec, Started& transfer) {
    if constexpr (Comm::stream_ordered) {
      transfer.order(exec);
    } else {
      exec.fence("rondo: before waiting for blocks");
      const Stopwatch watch(statistics_.wait_seconds);
      transfer.order(exec);
    }
  }

  /// Calls f(run, row) for each of this rank's runs, cut to the share of its rows.
  template <class F>
  void for_own_runs(schedule::QueryShare share, const F& f) const {
    const std::int64_t half = (tokens_ + 1) / 2;
    const std::int64_t begin = share == schedule::QueryShare::second_half ? half : 0;
    const std::int64_t end = share == schedule::QueryShare::first_half ? half : tokens_;
    std::int64_t row = 0;
    for (const Run& run : table_.runs(comm_->rank())) {
      const std::int64_t from = std::max(begin, row);
      const std::int64_t to = std::min(end, row + run.count);
      if (from < to && share != schedule::QueryShare::none) f(run.part(from - row, to - from), from);
      row += run.count;
    }
  }

  static void zero(const Exec& exec, const Gradient& gradient) {
    Kokkos::deep_copy(exec, gradient.k, A{0});
    Kokkos::deep_copy(exec, gradient.v, A{0});
  }

  /// Calls f(element) for every element of a gradient's two contiguous halves.
  static void add(const Exec& exec, const Gradient& sum, const Gradient& term) {
    A* to = sum.k.data();
    const A* from = term.k.data();
    Kokkos::parallel_for(
        "rondo::add_gradient",
        Kokkos::RangePolicy<Exec, Kokkos::IndexType<std::int64_t>>(exec, 0, 2 * static_cast<std::int64_t>(sum.k.size())),
        KOKKOS_LAMBDA(std::int64_t i) { to[i] += from[i]; });
  }

  void store(const Exec& exec, const Gradient& sum, const Piece& piece, const Tensor<T, 4, Space>& grad_k,
             const Tensor<T, 4, Space>& grad_v) const {
    round(exec, sum.k, token_rows(grad_k, piece.row, piece.tokens.count));
    round(exec, sum.v, token_rows(grad_v, piece.row, piece.tokens.count));
  }

  /// target = values, rounded once.
  template <class Target>
  static void round(const Exec& exec, const Tensor<A, 4, Space>& values, const Target& target) {
    const auto tokens = static_cast<std::int64_t>(values.extent(1));
    const auto heads = static_cast<std::int64_t>(values.extent(2));
    const int dim = static_cast<int>(values.extent(3));
    Kokkos::parallel_for(
        "rondo::round",
        Kokkos::RangePolicy<Exec, Kokkos::IndexType<std::int64_t>>(
            exec, 0, static_cast<std::int64_t>(values.extent(0)) * tokens * heads),
        KOKKOS_LAMBDA(std::int64_t row) {
          const std::int64_t head = row % heads;
          const std::int64_t token = row / heads % tokens;
          const std::int64_t b = row / heads / tokens;
          for (int d = 0; d < dim; ++d) target(b, token, head, d) = static_cast<T>(values(b, token, head, d));
        });
  }

  struct ForwardParts {
    std::array<std::size_t, slots> slot{};
    std::size_t l = 0, acc = 0;
  };
  struct BackwardParts {
    std::array<std::size_t, slots> slot{};
    std::size_t delta = 0, grad_q = 0;
    std::array<std::size_t, 4> gradient{};
  };

  Comm* comm_;
  Kernel kernel_;
  Shape shape_;
  ShardTable table_;
  std::int64_t chunk_;
  std::int64_t tokens_;
  schedule::Ring ring_;
  ForwardParts forward_;
  BackwardParts backward_;
  std::size_t bytes_ = 0;
  Workspace<Space> workspace_;
  Statistics statistics_;
};

}  // namespace detail
}  // namespace rondo
