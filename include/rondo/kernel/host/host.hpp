/// \file
/// The host BlockKernel: register-tiled products on the processor's vectors.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/host/amx_gradient.hpp>
#include <rondo/kernel/host/forward.hpp>
#include <rondo/kernel/host/gradient.hpp>

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>

namespace rondo {
namespace host {
inline namespace RONDO_HOST_NAMESPACE {

/// Blockwise attention for processors, for any head_dim (multiples of two vectors are fastest), grouped queries and every
/// mask. Operands circulate packed; scores stay in cache; tiles that a mask covers are left out, fully visible ones are
/// not tested; work is shared among the instance's threads, with the same bits for any number of them.
/// The vector width is the one that the compiler's flags name, see RONDO_HOST_ARCH in docs/dependencies.md. All ranks
/// must use the same one: it is part of the wire format.
/// \tparam T     storage type: float, double, bfloat16 or float16; sums are held in accumulate_t<T>
/// \tparam Exec  an execution space of the host
template <StorageType T, class Exec = Kokkos::DefaultHostExecutionSpace>
class host_kernel {
  static_assert(std::is_same_v<typename Exec::memory_space, Kokkos::HostSpace>, "host_kernel computes on the host");

 public:
  using value_type = T;
  using accumulate_type = accumulate_t<T>;
  using execution_space = Exec;
  using memory_space = typename Exec::memory_space;
  static constexpr std::uint32_t wire_format = (in_tiles<T> ? 0x10000 : 0) + 0x100 * depth_step<T> + vector_bytes;

  /// To be called between blocks of queries while fold and fold_gradient compute.
  void set_progress(ProgressCallback progress) { progress_ = progress; }

  /// Bytes of scratch that each thread takes: forward and backward.
  static std::size_t scratch_bytes(Pass pass, const Shape& shape) {
    using P = Problem<>;
    return pass == Pass::forward ? ForwardBlock<T, accumulate_type, P, memory_space>::scratch_bytes(shape)
                                 : Gradient<P>::scratch_bytes(shape);
  }

  /// Bytes of a packed piece: tokens filled up to panels of two vectors, head_dim to whole vectors (to 32 elements for AMX
  /// tiles), and for a backward pass the keys in two forms.
  std::size_t wire_bytes(Pass pass, const Shape& shape, std::int64_t tokens) const {
    return WireLayout<T, A>(shape, pass, tokens).bytes();
  }

  /// \param k  [batch, tokens, kv_heads, head_dim]
  /// \param v  [batch, tokens, kv_heads, value_dim]
  void pack(const Exec& exec, Pass pass, const Shape& shape, const Tensor<const T, 4, memory_space>& k,
            const Tensor<const T, 4, memory_space>& v, const WireView<memory_space>& wire) const {
    const auto tokens = static_cast<std::int64_t>(k.extent(1));
    using Layout = WireLayout<T, A>;
    const Layout layout(shape, pass, tokens);
    const std::int64_t items = layout.panels() * shape.batch * shape.kv_heads;
    for_items("rondo::pack", exec, items, 0, Progress({}), [&](std::int64_t item, Scratch) {
      const std::int64_t index = item % layout.panels();
      const int kv_head = static_cast<int>(item / layout.panels() % shape.kv_heads);
      const int b = static_cast<int>(item / layout.panels() / shape.kv_heads);
      const std::int64_t first = index * panel<A>;
      const int count = static_cast<int>(std::min<std::int64_t>(panel<A>, tokens - first));
      const auto rows_of = [&](const auto& x) {
        return SourceRows<T>{&x(b, first, kv_head, 0), static_cast<std::int64_t>(x.stride(1)),
                             static_cast<std::int64_t>(x.stride(3)), count, static_cast<int>(x.extent(3))};
      };
      std::uint8_t flags = 0;
      const auto into_panel = [&](T* panel_here, const SourceRows<T>& rows, std::uint8_t flag) {
        if (!pack_panel<A>(panel_here, rows)) flags |= flag;
      };
      const auto into_columns = [&](auto step, const SourceRows<T>& rows, std::uint8_t flag) {
        for (int d = 0; d < column_dim<T, A>(rows.width); d += panel<A>) {
          const int columns = layout.column_stride(d);
          T* target = layout.columns(wire.data(), b, kv_head) + layout.column_tile(d) + first * columns;
          if (!pack_rows<A, step>(target, rows, d, columns)) flags |= flag;
        }
      };
      into_panel(layout.key_panels(wire.data(), b, kv_head) + layout.panel_at(first), rows_of(k), key_not_finite);
      if (pass == Pass::forward) {
        into_columns(std::integral_constant<int, Layout::column_step(Pass::forward)>{}, rows_of(v), value_not_finite);
      } else {
        into_panel(layout.value_panels(wire.data(), b, kv_head) + layout.value_panel_at(first), rows_of(v),
                   value_not_finite);
        into_columns(std::integral_constant<int, Layout::column_step(Pass::backward)>{}, rows_of(k), 0);
      }
      layout.flags(wire.data(), b, kv_head)[index] = flags;
    });
  }

  /// Folds a piece into the state of the query rows `queries`.
  /// \param q  [batch, queries.count, heads, head_dim]; `state` has the same rows
  template <ProblemType P>
  void fold(const Exec& exec, const P& problem, const Shape& shape, const Tensor<const T, 4, memory_space>& q,
            const Run& queries, const WireView<memory_space>& wire, const Run& keys,
            const SoftmaxState<accumulate_type, memory_space>& state, Phase phase) const {
    fold_rows(exec, problem, shape, q, queries, wire, keys, state, phase, nullptr);
  }

  /// The same for the last piece, with finish for these rows, whose state is not written.
  /// \param out  [batch, queries.count, heads, value_dim]; `lse` has the same rows
  template <ProblemType P>
  void fold_last(const Exec& exec, const P& problem, const Shape& shape, const Tensor<const T, 4, memory_space>& q,
                 const Run& queries, const WireView<memory_space>& wire, const Run& keys,
                 const SoftmaxState<accumulate_type, memory_space>& state, Phase phase,
                 const Tensor<T, 4, memory_space>& out, const Tensor<accumulate_type, 3, memory_space>& lse) const {
    const Outputs<T, A, memory_space> outputs{out, lse, base2_of<A>(problem)};
    fold_rows(exec, problem, shape, q, queries, wire, keys, state, phase, &outputs);
  }

  /// out = acc / l, rounded once; lse = m + ln l in natural units, both with the sink. Rows that saw no key and have none: 0
  /// and -inf.
  template <ProblemType P>
  void finish(const Exec& exec, const P& problem, const SoftmaxState<accumulate_type, memory_space>& state,
              const Tensor<T, 4, memory_space>& out, const Tensor<accumulate_type, 3, memory_space>& lse) const {
    const Outputs<T, A, memory_space> outputs{out, lse, base2_of<A>(problem)};
    const Tensor<const A, 4, memory_space> acc(state.acc);
    for_rows("rondo::finish", exec, out, [&](int b, std::int64_t i, int head) {
      outputs.write(problem, b, i, head, state.m(b, head, i), state.l(b, head, i), row_of(acc, b, i, head));
    });
  }

  /// delta[b, h, i] = Σ over d of out · grad_out.
  void delta(const Exec& exec, const Tensor<const T, 4, memory_space>& out,
             const Tensor<const T, 4, memory_space>& grad_out,
             const Tensor<accumulate_type, 3, memory_space>& delta) const {
    for_rows("rondo::delta", exec, out, [&](int b, std::int64_t i, int head) {
      const auto a = row_of(out, b, i, head), c = row_of(grad_out, b, i, head);
      if constexpr (std::is_same_v<T, A>) {
        delta(b, head, i) = precise_product<A>(a, c);
      } else {
        delta(b, head, i) = row_product<A>(a, c);
      }
    });
  }

  /// Adds what this pair of (queries, piece) contributes to the three gradients.
  /// \param grad_q          [batch, queries.count, heads, head_dim]
  /// \param grad_k          [batch, keys.count, kv_heads, head_dim]
  /// \param grad_v          [batch, keys.count, kv_heads, value_dim]
  /// \param parameter_sums  [heads, parameters_per_head] of a score function with parameters, or null
  template <ProblemType P>
  void fold_gradient(const Exec& exec, const P& problem, const Shape& shape, const Tensor<const T, 4, memory_space>& q,
                     const Tensor<const T, 4, memory_space>& grad_out,
                     const Tensor<const accumulate_type, 3, memory_space>& lse,
                     const Tensor<const accumulate_type, 3, memory_space>& delta, const Run& queries,
                     const WireView<memory_space>& wire, const Run& keys,
                     const Tensor<accumulate_type, 4, memory_space>& grad_q,
                     const Tensor<accumulate_type, 4, memory_space>& grad_k,
                     const Tensor<accumulate_type, 4, memory_space>& grad_v, double* parameter_sums = nullptr) const {
    using Block = Gradient<P>;
    const GradientInput<T, A, P, memory_space> input{
        problem, shape, q, grad_out, lse, delta, queries, keys, base2_of<A>(problem)};
    const WireLayout<T, A> layout(shape, Pass::backward, keys.count);
    const GradientSize size = Block::size(shape);
    const KeyBlocks key_blocks(keys.count, size.keys);
    const std::int64_t query_blocks = (queries.count + size.queries - 1) / size.queries;
    const std::int64_t kv_heads = std::int64_t{shape.batch} * shape.kv_heads;
    const int group = shape.heads / shape.kv_heads;
    const ItemOrder items(key_blocks.count(), kv_heads, exec.concurrency());
    ItemSums<P> item_sums(problem, parameter_sums, items.count(), group);
    const Progress progress(progress_);
    const OrderedRows order(exec.concurrency() > 1 ? kv_heads * group * query_blocks : 0);
    for_items("rondo::gradient", exec, items.count(), Block::scratch_bytes(shape), progress,
              [&](std::int64_t item, Scratch scratch) {
                const auto [key_block, of_head] = items.at(item);
                const int kv_head = static_cast<int>(of_head % shape.kv_heads);
                const int b = static_cast<int>(of_head / shape.kv_heads);
                const KeyBlocks::Range here = key_blocks.at(key_block);
                Block block(input, b, kv_head, here, layout, wire.data(), scratch);
                block.add_parameters_to(item_sums.of(key_block * kv_heads + of_head));
                for (int member = 0; member < group; ++member) {
                  const int head = kv_head * group + member;
                  // From the last queries on: under a causal mask these see every block of keys, so that the blocks
                  // follow each other closely.
                  for (std::int64_t at = query_blocks - 1; at >= 0; --at) {
                    const std::int64_t row = at * size.queries;
                    const Run rows = queries.part(row, std::min<std::int64_t>(size.queries, queries.count - row));
                    const auto seen = [&](const KeyBlocks::Range& range) { return input.sees(b, head, rows, range); };
                    if (!seen(here)) continue;
                    const std::int64_t turn = (of_head * group + member) * query_blocks + at;
                    order.wait(turn, [&] { return key_blocks.last_before(key_block, seen); });
                    block.fold(head, row, grad_q);
                    order.done(turn, key_block);
                    progress();
                  }
                }
                block.store(grad_k, grad_v);
              });
    for (std::int64_t at = 0; at < items.count(); ++at) {
      item_sums.add(at, static_cast<int>(at % kv_heads % shape.kv_heads) * group);
    }
  }

 private:
  using A = accumulate_type;
  template <class P>
  using Gradient =
      std::conditional_t<in_tiles<T>, AmxGradientBlock<T, A, P, memory_space>, GradientBlock<T, A, P, memory_space>>;

  /// \param outputs  where rows are finished, or null
  template <ProblemType P>
  void fold_rows(const Exec& exec, const P& problem, const Shape& shape, const Tensor<const T, 4, memory_space>& q,
                 const Run& queries, const WireView<memory_space>& wire, const Run& keys,
                 const SoftmaxState<accumulate_type, memory_space>& state, Phase phase,
                 const Outputs<T, accumulate_type, memory_space>* outputs) const {
    using Block = ForwardBlock<T, A, P, memory_space>;
    const WireLayout<T, A> layout(shape, Pass::forward, keys.count);
    const int block_rows = query_block<T, A>(shape);
    const std::int64_t blocks = (queries.count + block_rows - 1) / block_rows;
    const Progress progress(progress_);
    const std::int64_t heads = std::int64_t{shape.batch} * shape.heads;
    const std::int64_t items = blocks * heads;
    const std::int64_t workers = std::min<std::int64_t>(items, exec.concurrency());
    // Under a causal mask the last queries have most to do: they go first, so that threads end together.
    const auto rows_of = [&](std::int64_t item) {
      if (item >= items) return QueryRows{};
      const std::int64_t row = (blocks - 1 - item / heads) * block_rows;
      return QueryRows{static_cast<int>(item % heads / shape.heads), static_cast<int>(item % heads % shape.heads), row,
                       static_cast<int>(std::min<std::int64_t>(block_rows, queries.count - row))};
    };
    for_items("rondo::fold", exec, items, Block::scratch_bytes(shape), progress,
              [&](std::int64_t item, Scratch scratch) {
                Block block(problem, shape, rows_of(item), queries, keys, layout, wire.data(), scratch);
                block.fold(q, state, phase.first, rows_of(item + workers), outputs);
              });
  }

  /// Calls f(b, token, head) for all rows of a tensor [batch, sequence, heads, head_dim].
  template <class F>
  static void for_rows(const char* name, const Exec& exec, const auto& x, const F& f) {
    constexpr std::int64_t at_a_time = 64;
    const auto tokens = static_cast<std::int64_t>(x.extent(1));
    const std::int64_t blocks = (tokens + at_a_time - 1) / at_a_time;
    const std::int64_t items = blocks * static_cast<std::int64_t>(x.extent(0));
    for_items(name, exec, items, 0, Progress({}), [&](std::int64_t item, Scratch) {
      const std::int64_t first = item % blocks * at_a_time;
      for (std::int64_t i = first; i < std::min(first + at_a_time, tokens); ++i) {
        for (int head = 0; head < static_cast<int>(x.extent(2)); ++head) f(static_cast<int>(item / blocks), i, head);
      }
    });
  }

  ProgressCallback progress_;
};

static_assert(BlockKernel<host_kernel<float>> && BlockKernel<host_kernel<double>> &&
              BlockKernel<host_kernel<bfloat16>> && BlockKernel<host_kernel<float16>>);

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace host

using host::host_kernel;

}  // namespace rondo
