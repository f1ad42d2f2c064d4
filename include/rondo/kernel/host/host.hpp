/// \file
/// The host BlockKernel: register-tiled products on the processor's vectors.
#pragma once

#include <rondo/kernel/concept.hpp>
#include <rondo/kernel/host/forward.hpp>
#include <rondo/kernel/portable/portable.hpp>

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>

namespace rondo {
namespace host {
inline namespace RONDO_HOST_NAMESPACE {

template <StorageType T, class Exec = Kokkos::DefaultHostExecutionSpace>
class host_kernel {
 public:
  using value_type = T;
  using accumulate_type = accumulate_t<T>;
  using execution_space = Exec;
  using memory_space = typename Exec::memory_space;
  static constexpr std::uint32_t wire_format = 0x100 + vector_bytes;

  std::size_t wire_bytes(Pass pass, const Shape& shape, std::int64_t tokens) const {
    return WireLayout<T, A>(shape, pass, tokens).bytes();
  }

  void pack(const Exec& exec, Pass pass, const Shape& shape, const Tensor<const T, 4, memory_space>& k,
            const Tensor<const T, 4, memory_space>& v, const WireView<memory_space>& wire) const {
    const auto tokens = static_cast<std::int64_t>(k.extent(1));
    const WireLayout<T, A> layout(shape, pass, tokens);
    const std::int64_t items = layout.panels() * shape.batch * shape.kv_heads;
    for_items("rondo::host::pack", exec, items, 64, [&](std::int64_t item, Scratch) {
      const std::int64_t index = item % layout.panels();
      const int kv_head = static_cast<int>(item / layout.panels() % shape.kv_heads);
      const int b = static_cast<int>(item / layout.panels() / shape.kv_heads);
      const std::int64_t first = index * panel<A>;
      const int count = static_cast<int>(std::min<std::int64_t>(panel<A>, tokens - first));
      const auto rows_of = [&](const auto& x) {
        const T* data = &x(b, first, kv_head, 0);
        return [data, token = x.stride(1), d = x.stride(3)](int i, int j) { return data[i * token + j * d]; };
      };
      const auto in_panel = [&](T* base) { return base + first * shape.head_dim; };
      const auto in_columns = [&, base = layout.columns(wire.data(), b, kv_head)](int d) {
        return base + layout.column_tile(d) + first * layout.column_stride(d);
      };
      const auto stride = [&](int d) { return layout.column_stride(d); };
      std::uint8_t flags = 0;
      if (!pack_panel<A>(in_panel(layout.key_panels(wire.data(), b, kv_head)), count, shape.head_dim, rows_of(k))) {
        flags |= key_not_finite;
      }
      if (pass == Pass::forward) {
        if (!pack_columns<A, T>(count, shape.head_dim, rows_of(v), in_columns, stride)) flags |= value_not_finite;
      } else {
        if (!pack_panel<A>(in_panel(layout.value_panels(wire.data(), b, kv_head)), count, shape.head_dim, rows_of(v))) {
          flags |= value_not_finite;
        }
        pack_columns<A, T>(count, shape.head_dim, rows_of(k), in_columns, stride);
      }
      layout.flags(wire.data(), b, kv_head)[index] = flags;
    });
  }

  template <ProblemType P>
  void fold(const Exec& exec, const P& problem, const Shape& shape, const Tensor<const T, 4, memory_space>& q,
            const Run& queries, const WireView<memory_space>& wire, const Run& keys,
            const SoftmaxState<accumulate_type, memory_space>& state, Phase phase) const {
    using Block = ForwardBlock<T, A, P, memory_space>;
    const WireLayout<T, A> layout(shape, Pass::forward, keys.count);
    const std::int64_t blocks = (queries.count + query_block - 1) / query_block;
    // Under a causal mask the last queries have most to do: they go first, so that threads end together.
    for_items("rondo::host::fold", exec, blocks * shape.batch * shape.heads, Block::scratch_bytes(shape),
              [&](std::int64_t item, Scratch scratch) {
                const std::int64_t heads = std::int64_t{shape.batch} * shape.heads;
                const std::int64_t row = (blocks - 1 - item / heads) * query_block;
                const int head = static_cast<int>(item % heads % shape.heads);
                const int b = static_cast<int>(item % heads / shape.heads);
                const Run mine = queries.part(row, std::min<std::int64_t>(query_block, queries.count - row));
                Block block(problem, shape, b, head, mine, keys, layout, wire.data(), scratch);
                block.fold(q, state, row, phase.first);
              });
  }

 private:
  using A = accumulate_type;
};

}  // namespace RONDO_HOST_NAMESPACE
}  // namespace host

using host::host_kernel;

}  // namespace rondo
