/// \file
/// One attention problem through the calls of a BlockKernel alone: no ring, no engine, no communicator.
#pragma once

#include <kernel/held.hpp>
#include <support/ring_case.hpp>
#include <support/whole.hpp>

#include <rondo/comm/in_process/instance.hpp>
#include <rondo/kernel/concept.hpp>

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace rondo::test {

/// How a sequence is laid before a kernel: in runs of a stride, cut into query blocks and pieces.
struct Cut {
  int query_stride = 1;            ///< queries come in the runs r, r + stride, ...
  int key_stride = 1;              ///< keys likewise
  std::int64_t queries = 1 << 20;  ///< most queries of one call
  std::int64_t keys = 1 << 20;     ///< most keys of a piece
  int threads = 1;                 ///< of the execution-space instance
  /// The first fold is told so and finds NaN in the state, and the last one finishes the rows if the kernel can; else the
  /// first one finds an empty state.
  bool says_first = true;
  bool in_place = false;  ///< acc is out and m is lse, where the types allow it
  Order order = Order::rows;
  std::int64_t room = 3;  ///< between the rows of tensors; with 8 they are aligned to 16 bytes
};

inline std::string text(const Cut& cut) {
  return "strides " + std::to_string(cut.query_stride) + " and " + std::to_string(cut.key_stride) + ", blocks of " +
         std::to_string(cut.queries) + " queries and " + std::to_string(cut.keys) + " keys, " +
         std::to_string(cut.threads) + " threads" + (cut.says_first ? "" : ", an empty state") +
         (cut.in_place ? ", in place" : "") + (cut.order == Order::columns ? ", columns" : "") +
         (cut.room % 8 == 0 ? ", aligned" : "");
}

/// How many folds took keys and values as they were: a test that wants that looks whether it has come to it.
inline int folded_unpacked = 0;

/// Part of a run, and the row at which it begins where all runs stand one after the other.
struct Block {
  Run tokens;
  std::int64_t row = 0;
};

inline std::vector<Block> blocks_of(std::int64_t tokens, int stride, std::int64_t most) {
  std::vector<Block> blocks;
  std::int64_t row = 0;
  for (int first = 0; first < stride; ++first) {
    const std::int64_t count = (tokens - first + stride - 1) / stride;
    for (std::int64_t begin = 0; begin < count; begin += most) {
      const std::int64_t length = std::min(most, count - begin);
      blocks.push_back({Run{first + begin * stride, stride, static_cast<std::int32_t>(length)}, row});
      row += length;
    }
  }
  return blocks;
}

/// Forward and backward by a kernel's own calls.
template <BlockKernel Kernel, ProblemType P>
class KernelCase {
 public:
  using T = typename Kernel::value_type;
  using A = typename Kernel::accumulate_type;
  using Exec = typename Kernel::execution_space;
  using Space = typename Exec::memory_space;
  static constexpr bool narrow = !std::is_same_v<T, A>;

  KernelCase(const Inputs<T>& in, const Cut& cut, const P& problem, const Kernel& kernel)
      : extents_(in.extents),
        shape_(shape_of(in.extents).checked()),
        problem_(problem.resolved(shape_)),
        kernel_(kernel),
        cut_(cut),
        exec_(in_process::make_instance<Exec>(cut.threads)),
        query_blocks_(blocks_of(extents_.tokens, cut.query_stride, cut.queries)),
        key_blocks_(blocks_of(extents_.tokens, cut.key_stride, cut.keys)),
        q_(rows(extents_.heads, shape_.head_dim), cut.order, T(nan), cut.room),
        k_(rows(extents_.kv_heads, shape_.head_dim), cut.order, T(nan), cut.room),
        v_(rows(extents_.kv_heads, shape_.value_dim), cut.order, T(nan), cut.room),
        grad_out_(rows(extents_.heads, shape_.value_dim), cut.order, T(nan), cut.room),
        out_(rows(extents_.heads, shape_.value_dim), cut.order, T(nan)),
        acc_(rows(extents_.heads, shape_.value_dim), cut.order, cut.says_first ? nan : A{0}),
        lse_(columns(), cut.order, cut.says_first || !cut.in_place ? nan : -infinity),
        m_(columns(), cut.order, cut.says_first ? nan : -infinity),
        l_(columns(), cut.order, cut.says_first ? nan : A{0}),
        delta_(columns(), cut.order, nan),
        grad_q_(rows(extents_.heads, shape_.head_dim), cut.order, A{0}),
        grad_k_(rows(extents_.kv_heads, shape_.head_dim), cut.order, A{0}),
        grad_v_(rows(extents_.kv_heads, shape_.value_dim), cut.order, A{0}) {
    take(in.q, q_, query_blocks_);
    take(in.k, k_, key_blocks_);
    take(in.v, v_, key_blocks_);
    take(in.grad_out, grad_out_, query_blocks_);
    if constexpr (!narrow) {
      if (cut.in_place && !cut.says_first) {
        out_.for_each([](T& x, const auto&) { x = T{0}; });
        out_.upload();
      }
    }
  }

  Results<double> run() {
    forward();
    backward();
    Results<double> results = empty_results<double>(extents_);
    put(out_, results.out, query_blocks_);
    put(grad_q_, results.grad_q, query_blocks_);
    put(grad_k_, results.grad_k, key_blocks_);
    put(grad_v_, results.grad_v, key_blocks_);
    lse_.download();
    for_each_token(query_blocks_, [&](std::int64_t position, std::int64_t row) {
      for (int b = 0; b < extents_.batch; ++b) {
        for (int h = 0; h < extents_.heads; ++h) results.lse(b, position, h, 0) = lse_.at({b, h, row});
      }
    });
    if (!lse_.is_room_untouched()) throw std::runtime_error("something was written between the rows of lse");
    return results;
  }

 private:
  static constexpr A nan = std::numeric_limits<A>::quiet_NaN();
  static constexpr A infinity = std::numeric_limits<A>::infinity();
  using Wire = Kokkos::View<std::byte*, Space>;

  std::array<std::int64_t, 4> rows(int heads, int width) const {
    return {extents_.batch, extents_.tokens, heads, width};
  }
  std::array<std::int64_t, 3> columns() const { return {extents_.batch, extents_.heads, extents_.tokens}; }

  template <class F>
  static void for_each_token(const std::vector<Block>& blocks, const F& f) {
    for (const Block& block : blocks) {
      for (std::int32_t i = 0; i < block.tokens.count; ++i) f(block.tokens.at(i), block.row + i);
    }
  }

  void take(const Whole<T>& whole, const Held<T, 4, Space>& held, const std::vector<Block>& blocks) const {
    for_each_token(blocks, [&](std::int64_t position, std::int64_t row) {
      for (int b = 0; b < extents_.batch; ++b) {
        for (int h = 0; h < whole.heads(); ++h) {
          for (int d = 0; d < whole.width(); ++d) held.at({b, row, h, d}) = whole(b, position, h, d);
        }
      }
    });
    held.upload();
  }

  /// Rounded to T, as the engine rounds.
  template <class X>
  void put(const Held<X, 4, Space>& held, Whole<double>& whole, const std::vector<Block>& blocks) const {
    held.download();
    for_each_token(blocks, [&](std::int64_t position, std::int64_t row) {
      for (int b = 0; b < extents_.batch; ++b) {
        for (int h = 0; h < whole.heads(); ++h) {
          for (int d = 0; d < whole.width(); ++d) {
            whole(b, position, h, d) = static_cast<double>(static_cast<A>(static_cast<T>(held.at({b, row, h, d}))));
          }
        }
      }
    });
    if (!held.is_room_untouched()) throw std::runtime_error("something was written between the rows of a tensor");
  }

  /// The piece in the kernel's format, in memory that held NaN before.
  Wire packed(Pass pass, const Block& block) const {
    const Wire wire(Kokkos::view_alloc(Kokkos::WithoutInitializing, "wire"),
                    kernel_.wire_bytes(pass, shape_, block.tokens.count));
    fill(wire, std::byte{0xff});
    kernel_.pack(exec_, pass, shape_, rows_of(k_, block), rows_of(v_, block), wire);
    return wire;
  }

  SoftmaxState<A, Space> state() const {
    if constexpr (!narrow) {
      if (cut_.in_place) return {lse_.tensor(), l_.tensor(), out_.tensor()};
    }
    return {cut_.in_place ? lse_.tensor() : m_.tensor(), l_.tensor(), acc_.tensor()};
  }

  void forward() {
    const Tensor<const T, 4, Space> q = q_.tensor();
    for (std::size_t piece = 0; piece < key_blocks_.size(); ++piece) {
      const Block& keys = key_blocks_[piece];
      const Phase phase{cut_.says_first && piece == 0, cut_.says_first && piece + 1 == key_blocks_.size()};
      Wire wire;
      if (!stays_unpacked(keys)) wire = packed(Pass::forward, keys);
      for (const Block& queries : query_blocks_) {
        fold(detail::token_rows(q, queries.row, queries.tokens.count), queries, wire, keys, phase);
      }
      exec_.fence();
    }
    if (!FinishesRows<Kernel> || !cut_.says_first) {
      kernel_.finish(exec_, problem_, state(), out_.tensor(), lse_.tensor());
    }
    exec_.fence();
  }

  /// Aligned rows are folded from where they lie if the kernel can.
  bool stays_unpacked([[maybe_unused]] const Block& keys) const {
    if constexpr (FoldsUnpacked<Kernel>) {
      return cut_.room % 8 == 0 && kernel_.folds_unpacked(exec_, shape_, rows_of(k_, keys), rows_of(v_, keys));
    } else {
      return false;
    }
  }
  static Tensor<const T, 4, Space> rows_of(const Held<T, 4, Space>& held, const Block& block) {
    return detail::token_rows(Tensor<const T, 4, Space>(held.tensor()), block.row, block.tokens.count);
  }

  void fold(const Tensor<const T, 4, Space>& q, const Block& queries, const Wire& wire, const Block& keys,
            Phase phase) {
    const auto state_of = state().rows(queries.row, queries.tokens.count);
    if constexpr (FinishesRows<Kernel>) {
      const auto out = detail::token_rows(out_.tensor(), queries.row, queries.tokens.count);
      const auto lse = detail::token_columns(lse_.tensor(), queries.row, queries.tokens.count);
      if constexpr (FoldsUnpacked<Kernel>) {
        if (stays_unpacked(keys)) {
          ++folded_unpacked;
          return kernel_.fold_unpacked(exec_, problem_, shape_, q, queries.tokens, rows_of(k_, keys), rows_of(v_, keys),
                                       keys.tokens, state_of, phase, out, lse);
        }
      }
      if (phase.last) {
        return kernel_.fold_last(exec_, problem_, shape_, q, queries.tokens, wire, keys.tokens, state_of, phase, out,
                                 lse);
      }
    }
    kernel_.fold(exec_, problem_, shape_, q, queries.tokens, wire, keys.tokens, state_of, phase);
  }

  void backward() {
    const Tensor<const T, 4, Space> q = q_.tensor();
    const Tensor<const T, 4, Space> grad_out = grad_out_.tensor();
    const Tensor<const A, 3, Space> lse = lse_.tensor();
    const Tensor<const A, 3, Space> delta = delta_.tensor();
    kernel_.delta(exec_, out_.tensor(), grad_out, delta_.tensor());
    for (const Block& keys : key_blocks_) {
      const Wire wire = packed(Pass::backward, keys);
      for (const Block& queries : query_blocks_) {
        const std::int64_t row = queries.row;
        const std::int64_t count = queries.tokens.count;
        kernel_.fold_gradient(exec_, problem_, shape_, detail::token_rows(q, row, count),
                              detail::token_rows(grad_out, row, count), detail::token_columns(lse, row, count),
                              detail::token_columns(delta, row, count), queries.tokens, wire, keys.tokens,
                              detail::token_rows(grad_q_.tensor(), row, count),
                              detail::token_rows(grad_k_.tensor(), keys.row, keys.tokens.count),
                              detail::token_rows(grad_v_.tensor(), keys.row, keys.tokens.count));
      }
      exec_.fence();
    }
  }

  Extents extents_;
  Shape shape_;
  P problem_;
  Kernel kernel_;
  Cut cut_;
  Exec exec_;
  std::vector<Block> query_blocks_, key_blocks_;
  Held<T, 4, Space> q_, k_, v_, grad_out_, out_;
  Held<A, 4, Space> acc_;
  Held<A, 3, Space> lse_, m_, l_, delta_;
  Held<A, 4, Space> grad_q_, grad_k_, grad_v_;
};

template <BlockKernel Kernel, ProblemType P = Problem<>>
Results<double> kernel_attention(const Inputs<typename Kernel::value_type>& in, const Cut& cut, const P& problem = {},
                                 const Kernel& kernel = {}) {
  return KernelCase<Kernel, P>(in, cut, problem, kernel).run();
}

}  // namespace rondo::test
