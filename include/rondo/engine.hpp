/// \file
/// The engine walks a rank's schedule: it starts the exchanges, calls the kernel while they are under way, and adds up
/// gradients where they pass. It allocates nothing.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/engine/gradient.hpp>
#include <rondo/engine/parameters.hpp>
#include <rondo/engine/rank_memory.hpp>
#include <rondo/engine/recorder.hpp>
#include <rondo/engine/seen_rows.hpp>
#include <rondo/engine/statistics.hpp>
#include <rondo/engine/transfer_progress.hpp>
#include <rondo/engine/workspace_bytes.hpp>
#include <rondo/kernel/concept.hpp>
#include <rondo/problem.hpp>
#include <rondo/schedule/needs.hpp>
#include <rondo/schedule/ring.hpp>
#include <rondo/schedule/share.hpp>
#include <rondo/schedule/skipping_ring.hpp>
#include <rondo/sharding/shard_table.hpp>
#include <rondo/source.hpp>
#include <rondo/tensor.hpp>

#include <Kokkos_Core.hpp>
#include <Kokkos_Profiling_ScopedRegion.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

namespace rondo::detail {

/// One rank's part of every call of one RingAttention. Arguments have been checked.
template <Communicator Comm, BlockKernel Kernel>
class Engine {
 public:
  using Memory = RankMemory<Kernel>;
  using T = typename Memory::T;
  using A = typename Memory::A;
  using Space = typename Memory::Space;
  using Exec = typename Kernel::execution_space;

  Engine(Comm& comm, const Kernel& kernel, const Shape& shape, std::shared_ptr<const ShardTable> queries,
         std::shared_ptr<const ShardTable> keys, std::int64_t chunk, int polls = 16, Recorder* recorder = nullptr,
         bool with_backward = true, bool waits = true)
      : comm_(&comm),
        kernel_(kernel),
        shape_(shape),
        queries_(std::move(queries)),
        keys_(std::move(keys)),
        chunk_(piece_tokens(*keys_, chunk)),
        ring_(comm.rank(), comm.size(), keys_->most_pieces(chunk_)),
        memory_(kernel, shape, tokens(), *keys_, chunk_, with_backward),
        part_rows_(std::max<std::int64_t>(1, (tokens() + rows_step * polls - 1) / (rows_step * polls)) * rows_step),
        recorder_(recorder),
        waits_(waits || !Comm::stream_ordered) {}

  Comm& comm() const { return *comm_; }
  const Shape& shape() const { return shape_; }
  const ShardTable& queries() const { return *queries_; }
  const ShardTable& keys() const { return *keys_; }
  std::int64_t tokens() const { return queries_->tokens(comm_->rank()); }
  std::int64_t key_tokens() const { return keys_->tokens(comm_->rank()); }
  std::int64_t chunk() const { return chunk_; }
  const WorkspaceBytes& workspace() const { return memory_.bytes(); }
  const Statistics& statistics() const { return statistics_; }

  template <ProblemType P>
  void forward(const Exec& exec, const P& problem, const Tensor<const T, 4, Space>& q,
               const Tensor<const T, 4, Space>& k, const Tensor<const T, 4, Space>& v, const Tensor<T, 4, Space>& out,
               const Tensor<A, 3, Space>& lse) {
    tensor_source<T, Space> source(k, v);
    forward(exec, problem, q, source, out, lse);
  }

  /// Keys and values come from a source.
  template <ProblemType P, KeyValueSource<T, Exec> Source>
  void forward(const Exec& exec, const P& problem, const Tensor<const T, 4, Space>& q, Source& source,
               const Tensor<T, 4, Space>& out, const Tensor<A, 3, Space>& lse) {
    const Stopwatch watch(statistics_.seconds);
    const Kokkos::Profiling::ScopedRegion region("rondo::forward");
    ++statistics_.calls;
    const SoftmaxState<A, Space> state = memory_.state(out, lse);
    const bool skips = update_schedule(problem);
    const std::int64_t steps = skips ? skipping_.forward_steps() : ring_.forward_steps();
    if (skips || steps == 0) make_empty(exec, state);  // not every row is computed with in the first step
    bool finished = false;
    for (std::int64_t index = 0; index < steps; ++index) {
      const schedule::Step step = skips ? skipping_.forward(index) : ring_.forward(index);
      const Piece piece = piece_of(step.owner, step.piece);
      const bool unpacked = can_stay_unpacked(exec, piece, source);
      if (!unpacked) pack_own(exec, Pass::forward, index, step, piece, source);
      Messages messages;
      add_blocks(messages, Pass::forward, index, step, piece);
      StepMarks marks(recorder_, "forward", step.hop);
      auto transfer = start(exec, messages, {"forward", step.hop}, marks);
      const std::size_t parts = piece.parts().size();
      for_own_parts(step, messages, transfer, marks, [&](const Run& queries, std::int64_t row) {
        for (std::size_t number = 0; number < parts; ++number) {
          const Part& part = piece.parts()[number];
          const Phase phase{index == 0 && number == 0 && !skips, index + 1 == steps && number + 1 == parts};
          const bool finishes = FinishesRows<Kernel> && phase.last && !skips;
          const auto fold = [&](const Run& seeing, std::int64_t first) {
            const auto rows = token_rows(q, first, seeing.count);
            const auto state_of = state.rows(first, seeing.count);
            const auto wire = memory_.wire(Pass::forward, index, piece, number);
            if constexpr (FinishesRows<Kernel>) {
              const auto out_of = token_rows(out, first, seeing.count);
              const auto lse_of = token_columns(lse, first, seeing.count);
              if constexpr (FoldsUnpacked<Kernel>) {
                if (unpacked) {
                  const KeyValues<T, Space> own = source.part(exec, part);
                  return kernel_.fold_unpacked(exec, problem, shape_, rows, seeing, own.k, own.v, part.tokens, state_of,
                                               Phase{phase.first, finishes}, out_of, lse_of);
                }
              }
              if (finishes) {
                return kernel_.fold_last(exec, problem, shape_, rows, seeing, wire, part.tokens, state_of, phase,
                                         out_of, lse_of);
              }
            }
            kernel_.fold(exec, problem, shape_, rows, seeing, wire, part.tokens, state_of, phase);
          };
          if (phase.first || finishes) {
            fold(queries, row);  // which readies the state of all, or makes outputs of it
          } else {
            for_seen_rows(problem.mask, shape_.batch, shape_.heads, queries, row, part.tokens, fold);
          }
          finished = finishes;
        }
      });
      finish(exec, transfer, marks);
    }
    if (!finished) kernel_.finish(exec, problem, state, out, lse);
    if (waits_) wait(exec, "rondo::forward");
  }

  template <ProblemType P>
  void backward(const Exec& exec, const P& problem, const Tensor<const T, 4, Space>& q,
                const Tensor<const T, 4, Space>& k, const Tensor<const T, 4, Space>& v,
                const Tensor<const T, 4, Space>& out, const Tensor<const A, 3, Space>& lse,
                const Tensor<const T, 4, Space>& grad_out, const Tensor<T, 4, Space>& grad_q,
                const Tensor<T, 4, Space>& grad_k, const Tensor<T, 4, Space>& grad_v) {
    using schedule::GradientArrival;
    const Stopwatch watch(statistics_.seconds);
    const Kokkos::Profiling::ScopedRegion region("rondo::backward");
    ++statistics_.calls;
    tensor_source<T, Space> source(k, v);
    kernel_.delta(exec, out, grad_out, memory_.delta());
    const Tensor<const A, 3, Space> delta = memory_.delta();
    const Tensor<A, 4, Space> query_sums = memory_.query_sums(grad_q);
    Kokkos::deep_copy(exec, query_sums, A{0});
    double* const parameter_sums = parameters_.of_score(exec, problem, shape_);

    // Gradients of the own piece, of the piece computed with, of the one that leaves, of the one that arrives.
    auto [own, partial, leaving, arriving] = memory_.gradient_places();
    Piece own_piece;
    Piece leaving_piece;
    const bool skips = update_schedule(problem);
    const std::int64_t steps = skips ? skipping_.backward_steps() : ring_.backward_steps();
    for (std::int64_t index = 0; index < steps; ++index) {
      const schedule::Step step = skips ? skipping_.backward(index) : ring_.backward(index);
      const Piece piece = piece_of(step.owner, step.piece);
      const Piece arriving_piece = step.arrival == GradientArrival::home ? own_piece : piece;
      pack_own(exec, Pass::backward, index, step, piece, source);
      Messages messages;
      add_blocks(messages, Pass::backward, index, step, piece);
      if (step.gradient_to >= 0) messages.send(step.gradient_to, memory_.gradient_message(leaving, leaving_piece));
      if (step.arrival != GradientArrival::none) {
        messages.receive(step.gradient_from, memory_.gradient_message(arriving, arriving_piece));
      }
      StepMarks marks(recorder_, "backward", step.hop);
      auto transfer = start(exec, messages, {"backward", step.hop}, marks);

      // The second half of the queries adds to the own piece's gradient; every other step starts a new one.
      const bool resumed = step.queries == schedule::QueryShare::second_half;
      const auto sums = memory_.gradient(resumed ? own : partial, piece);
      if (!resumed && step.computes) zero(exec, sums);
      for_own_parts(step, messages, transfer, marks, [&](const Run& queries, std::int64_t row) {
        std::int64_t key_row = 0;  // in the piece
        for (std::size_t number = 0; number < piece.parts().size(); ++number) {
          const Run& keys = piece.parts()[number].tokens;
          const auto part_sums = part_of(sums, std::exchange(key_row, key_row + keys.count), keys.count);
          const auto fold = [&](const Run& seeing, std::int64_t first) {
            const std::int64_t count = seeing.count;
            kernel_.fold_gradient(exec, problem, shape_, token_rows(q, first, count),
                                  token_rows(grad_out, first, count), token_columns(lse, first, count),
                                  token_columns(delta, first, count), seeing,
                                  memory_.wire(Pass::backward, index, piece, number), keys,
                                  token_rows(query_sums, first, count), part_sums.k, part_sums.v, parameter_sums);
          };
          for_seen_rows(problem.mask, shape_.batch, shape_.heads, queries, row, keys, fold);
        }
      });
      finish(exec, transfer, marks);

      if (step.arrival == GradientArrival::home) {
        add(exec, memory_.gradient(own, own_piece), memory_.gradient(arriving, own_piece));
      }
      if (step.completes) store(exec, memory_.gradient(own, own_piece), own_piece, grad_k, grad_v);
      if (step.hop == 0) {
        if (!resumed) std::swap(own, partial);
        own_piece = piece;
        if (comm_->size() == 1) store(exec, memory_.gradient(own, own_piece), own_piece, grad_k, grad_v);
        continue;
      }
      if (step.arrival == GradientArrival::visitor) {
        add(exec, memory_.gradient(arriving, piece), memory_.gradient(partial, piece));
        std::swap(arriving, leaving);
      } else {
        std::swap(partial, leaving);
      }
      leaving_piece = piece;
    }
    if constexpr (Memory::narrow) round_to(exec, query_sums, grad_q);
    parameters_.finish_score(exec, *comm_, problem, shape_);
    parameters_.sinks(exec, *comm_, problem, shape_, lse, delta);
    if (waits_) wait(exec, "rondo::backward");
  }

  /// Returns when the work queued on an instance is done.
  void wait(const Exec& exec, const char* name) { fence(*comm_, exec, name); }

 private:
  /// Parts of the queries are multiples of what kernels take at a time.
  static constexpr std::int64_t rows_step = 96;

  /// The segments of one step. A message without bytes is no message: both sides know its length.
  class Messages {
   public:
    void send(int peer, const typename Memory::Bytes& bytes) { add(Direction::send, peer, bytes); }
    void receive(int peer, const typename Memory::Bytes& bytes) { add(Direction::receive, peer, bytes); }
    std::span<const Segment<Space>> segments() const { return {segments_.data(), count_}; }

   private:
    void add(Direction direction, int peer, const typename Memory::Bytes& bytes) {
      if (bytes.size() > 0) segments_[count_++] = {direction, peer, bytes};
    }
    std::array<Segment<Space>, 4> segments_;
    std::size_t count_ = 0;
  };

  /// Works out what a mask leaves out. \return whether the ring that skips it is used
  template <ProblemType P>
  bool update_schedule(const P& problem) {
    if (sends_all<typename P::mask_type>) return false;
    skipping_.update(comm_->rank(), *queries_, *keys_, problem.mask, shape_.batch, shape_.heads, chunk_);
    return !skipping_.needs().all();
  }

  Piece piece_of(int owner, std::int64_t index) const { return keys_->piece(owner, index, chunk_); }

  /// Whether the kernel can take a piece from where it lies: one that goes nowhere.
  template <class Source>
  bool can_stay_unpacked([[maybe_unused]] const Exec& exec, [[maybe_unused]] const Piece& piece,
                         [[maybe_unused]] Source& source) const {
    if constexpr (FoldsUnpacked<Kernel> && std::is_same_v<Source, tensor_source<T, Space>>) {
      return comm_->size() == 1 && std::ranges::all_of(piece.parts(), [&](const Part& part) {
               const KeyValues<T, Space> own = source.part(exec, part);
               return kernel_.folds_unpacked(exec, shape_, own.k, own.v);
             });
    }
    return false;
  }

  template <class Source>
  void pack_own(const Exec& exec, Pass pass, std::int64_t index, const schedule::Step& step, const Piece& piece,
                Source& source) const {
    if (!step.pack || piece.tokens() == 0) return;
    for (std::size_t number = 0; number < piece.parts().size(); ++number) {
      const KeyValues<T, Space> own = source.part(exec, piece.parts()[number]);
      kernel_.pack(exec, pass, shape_, own.k, own.v, memory_.wire(pass, index, piece, number));
      if (number + 1 < piece.parts().size()) source.expect(piece.parts()[number + 1]);
    }
    const std::int64_t next = step.piece + (pass == Pass::forward ? 1 : -1);
    if (next >= 0 && piece_of(comm_->rank(), next).tokens() > 0) {
      source.expect(piece_of(comm_->rank(), next).parts()[0]);
    }
  }

  /// The piece held goes to a neighbour; what the other one holds arrives in the other slot.
  void add_blocks(Messages& messages, Pass pass, std::int64_t index, const schedule::Step& step,
                  const Piece& piece) const {
    if (step.send_to >= 0) messages.send(step.send_to, memory_.wire_message(pass, index, piece));
    if (step.receive_from < 0) return;
    const Piece incoming = piece_of(step.incoming_owner, step.piece);
    messages.receive(step.receive_from, memory_.wire_message(pass, index + 1, incoming));
  }

  Transfer<Exec> auto start(const Exec& exec, const Messages& messages, Where where, StepMarks& marks) {
    for (const auto& segment : messages.segments()) {
      const auto bytes = static_cast<std::int64_t>(segment.bytes.size());
      if (segment.direction == Direction::receive) {
        marks.receives(bytes);
      } else {
        marks.sends(bytes);
        ++statistics_.messages_sent;
        statistics_.bytes_sent += bytes;
      }
    }
    return comm_->exchange(exec, messages.segments(), where);
  }

  /// Later work runs after arrival. Where the host has to wait for that, its waiting is timed from the moment when the
  /// step's own work is done.
  template <Transfer<Exec> Started>
  void finish(const Exec& exec, Started& transfer, StepMarks& marks) {
    if constexpr (Comm::stream_ordered) {
      marks.computed();
      transfer.order(exec);
    } else {
      exec.fence("rondo::wait");
      marks.computed();
      const Stopwatch watch(statistics_.wait_seconds);
      transfer.order(exec);
    }
    marks.ended();
  }

  /// for_own_runs, asking the transfer now and then where it would not move otherwise: between the kernel's tiles if it
  /// lets us, else between parts of part_rows_ rows.
  template <Transfer<Exec> Started, class F>
  void for_own_parts(const schedule::Step& step, const Messages& messages, Started& transfer, StepMarks& marks,
                     const F& f) {
    if (!step.computes) return;
    if (!moves_when_asked<Comm> || messages.segments().empty()) {
      for_own_runs(step.queries, f);
    } else if constexpr (ReportsProgress<Kernel>) {
      TransferProgress progress(transfer, marks);
      const ProgressScope scope(kernel_, progress);
      for_own_runs(step.queries, f);
      progress.rethrow();
    } else {
      for_own_runs(step.queries, [&](const Run& queries, std::int64_t row) {
        for (std::int64_t at = 0; at < queries.count; at += part_rows_) {
          f(queries.part(at, std::min<std::int64_t>(part_rows_, queries.count - at)), row + at);
          if (transfer.test()) marks.moved();
        }
      });
    }
  }

  /// Calls f(run, first row) for each of this rank's runs, cut to a share of its rows.
  template <class F>
  void for_own_runs(schedule::QueryShare share, const F& f) const {
    schedule::for_share(*queries_, comm_->rank(), share, f);
  }

  void store(const Exec& exec, const PieceGradient<A, Space>& sum, const Piece& piece,
             const Tensor<T, 4, Space>& grad_k, const Tensor<T, 4, Space>& grad_v) const {
    std::int64_t first = 0;
    for (const Part& part : piece.parts()) {
      const std::int64_t count = part.tokens.count;
      const auto own = part_of(sum, std::exchange(first, first + count), count);
      round_to(exec, own.k, token_rows(grad_k, part.row, count));
      round_to(exec, own.v, token_rows(grad_v, part.row, count));
    }
  }

  Comm* comm_;
  Kernel kernel_;
  Shape shape_;
  std::shared_ptr<const ShardTable> queries_;
  std::shared_ptr<const ShardTable> keys_;  ///< the same table, unless it is cross attention
  std::int64_t chunk_;
  schedule::Ring ring_;
  schedule::SkippingRing skipping_;
  Memory memory_;
  ParameterSums<Exec> parameters_;
  std::int64_t part_rows_;
  Recorder* recorder_;
  bool waits_;
  Statistics statistics_;
};

}  // namespace rondo::detail
