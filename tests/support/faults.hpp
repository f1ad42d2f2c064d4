/// \file
/// Planted faults: wrappers round a kernel or a communicator that make one mistake a ring attention could make. A check
/// is worth something when it fails on them. In host memory; on every rank; from two ranks on.
///
///     RingAttention attention{comm, shape, sharding, faulty_kernel<default_kernel<float>, skipped_hop>{}, options};
///     faulty_communicator<Comm, stale_block> faulty{comm};
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/kernel/concept.hpp>
#include <rondo/precision.hpp>

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <utility>

namespace rondo::test {
namespace faults {

/// Calls f(element) for every element of a View of rank 3 or 4 in host memory.
template <class View, class F>
void for_each(const View& x, const F& f) {
  for (std::size_t a = 0; a < x.extent(0); ++a) {
    for (std::size_t b = 0; b < x.extent(1); ++b) {
      for (std::size_t c = 0; c < x.extent(2); ++c) {
        if constexpr (View::rank() == 3) {
          f(x(a, b, c));
        } else {
          for (std::size_t d = 0; d < x.extent(3); ++d) f(x(a, b, c, d));
        }
      }
    }
  }
}

template <class A>
A rounded_to_bfloat16(A x) {
  return static_cast<A>(static_cast<float>(bfloat16(static_cast<float>(x))));
}

}  // namespace faults

// --- What a kernel can get wrong. Hop 0 is the rank's own piece, hop 1 its neighbour's.

/// No fault: what a fault does not mention stays right.
struct no_fault {
  bool skips(int /*hop*/) const { return false; }
  bool loses_gradient(int /*hop*/) const { return false; }
  Run keys(int /*hop*/, const Run& /*queries*/, const Run& keys) const { return keys; }
  static constexpr bool rounds_state = false;
  static constexpr bool forgets_rescale = false;
};

/// The neighbour's block is left out of the forward pass.
struct skipped_hop : no_fault {
  bool skips(int hop) const { return hop == 1; }
};

/// What this rank's queries give the neighbour's grad_k and grad_v is dropped.
struct lost_gradient : no_fault {
  bool loses_gradient(int hop) const { return hop == 1; }
};

/// Positions of visiting blocks are one too low: under a causal mask a query sees its future neighbour.
struct shifted_positions : no_fault {
  Run keys(int hop, const Run& /*queries*/, const Run& keys) const {
    return hop == 0 ? keys : Run{keys.first - 1, keys.stride, keys.count};
  }
};

/// A visiting block is taken to stand where the rank's own tokens stand: positions are local, not global.
struct local_positions : no_fault {
  Run keys(int hop, const Run& queries, const Run& keys) const {
    return hop == 0 ? keys : Run{queries.first, queries.stride, keys.count};
  }
};

/// The unnormalised output is rounded to bfloat16 after every block, as when it travels or is kept in the storage type.
struct rounded_state : no_fault {
  static constexpr bool rounds_state = true;
};

/// When the running maximum moves, the output accumulated so far is not rescaled.
struct missing_rescale : no_fault {
  static constexpr bool forgets_rescale = true;
};

/// A kernel with a fault. Default constructible where the kernel is; follows the hops by the blocks it is given: a pack
/// starts at hop 0, every change of wire is a hop further.
template <BlockKernel Kernel, class Fault>
class faulty_kernel {
 public:
  using value_type = typename Kernel::value_type;
  using accumulate_type = typename Kernel::accumulate_type;
  using execution_space = typename Kernel::execution_space;
  using memory_space = typename execution_space::memory_space;
  static constexpr auto wire_format = Kernel::wire_format;
  static_assert(Kokkos::SpaceAccessibility<Kokkos::HostSpace, memory_space>::accessible,
                "faults are planted in host memory");
  template <class T>
  using Tensor3 = Tensor<T, 3, memory_space>;
  template <class T>
  using Tensor4 = Tensor<T, 4, memory_space>;

  faulty_kernel() = default;
  explicit faulty_kernel(const Kernel& kernel, const Fault& fault = {}) : kernel_(kernel), fault_(fault) {}

  std::size_t wire_bytes(Pass pass, const Shape& shape, std::int64_t tokens) const {
    return kernel_.wire_bytes(pass, shape, tokens);
  }

  void pack(const execution_space& exec, Pass pass, const Shape& shape, const Tensor4<const value_type>& k,
            const Tensor4<const value_type>& v, const WireView<memory_space>& wire) const {
    kernel_.pack(exec, pass, shape, k, v, wire);
    hop_ = 0;
    wire_ = wire.data();
  }

  template <ProblemType P>
  void fold(const execution_space& exec, const P& problem, const Shape& shape, const Tensor4<const value_type>& q,
            const Run& queries, const WireView<memory_space>& wire, const Run& keys,
            const SoftmaxState<accumulate_type, memory_space>& state, Phase phase) const {
    const int hop = hop_of(wire);
    if (fault_.skips(hop)) return;
    const Run positions = fault_.keys(hop, queries, keys);
    if constexpr (Fault::forgets_rescale) {
      fold_without_rescale(exec, problem, shape, q, queries, wire, positions, state, phase);
    } else {
      kernel_.fold(exec, problem, shape, q, queries, wire, positions, state, phase);
    }
    if constexpr (Fault::rounds_state) {
      exec.fence("rondo::test: before planting a fault");
      faults::for_each(state.acc, [](auto& x) { x = faults::rounded_to_bfloat16(x); });
    }
  }

  template <ProblemType P>
  void finish(const execution_space& exec, const P& problem, const SoftmaxState<accumulate_type, memory_space>& state,
              const Tensor4<value_type>& out, const Tensor3<accumulate_type>& lse) const {
    kernel_.finish(exec, problem, state, out, lse);
  }

  void delta(const execution_space& exec, const Tensor4<const value_type>& out,
             const Tensor4<const value_type>& grad_out, const Tensor3<accumulate_type>& delta) const {
    kernel_.delta(exec, out, grad_out, delta);
  }

  template <ProblemType P>
  void fold_gradient(const execution_space& exec, const P& problem, const Shape& shape,
                     const Tensor4<const value_type>& q, const Tensor4<const value_type>& grad_out,
                     const Tensor3<const accumulate_type>& lse, const Tensor3<const accumulate_type>& delta,
                     const Run& queries, const WireView<memory_space>& wire, const Run& keys,
                     const Tensor4<accumulate_type>& grad_q, const Tensor4<accumulate_type>& grad_k,
                     const Tensor4<accumulate_type>& grad_v, double* parameter_sums = nullptr) const {
    const int hop = hop_of(wire);
    kernel_.fold_gradient(exec, problem, shape, q, grad_out, lse, delta, queries, wire, fault_.keys(hop, queries, keys),
                          grad_q, grad_k, grad_v, parameter_sums);
    if (!fault_.loses_gradient(hop)) return;
    exec.fence("rondo::test: before planting a fault");
    for (const auto& gradient : {grad_k, grad_v}) faults::for_each(gradient, [](auto& x) { x = 0; });
  }

 private:
  int hop_of(const WireView<memory_space>& wire) const {
    if (wire.data() != wire_) {
      wire_ = wire.data();
      ++hop_;
    }
    return hop_;
  }

  /// Folds, then puts back what the rescaling took from acc: acc · (1 - 2^(m - m')).
  template <ProblemType P>
  void fold_without_rescale(const execution_space& exec, const P& problem, const Shape& shape,
                            const Tensor4<const value_type>& q, const Run& queries, const WireView<memory_space>& wire,
                            const Run& keys, const SoftmaxState<accumulate_type, memory_space>& state,
                            Phase phase) const {
    if (phase.first) {
      kernel_.fold(exec, problem, shape, q, queries, wire, keys, state, phase);
      return;
    }
    exec.fence("rondo::test: before planting a fault");
    Kokkos::View<accumulate_type****, memory_space> acc("acc", state.acc.extent(0), state.acc.extent(1),
                                                        state.acc.extent(2), state.acc.extent(3));
    Kokkos::View<accumulate_type***, memory_space> m("m", state.m.extent(0), state.m.extent(1), state.m.extent(2));
    Kokkos::deep_copy(exec, acc, state.acc);
    Kokkos::deep_copy(exec, m, state.m);
    kernel_.fold(exec, problem, shape, q, queries, wire, keys, state, phase);
    exec.fence("rondo::test: before planting a fault");
    for (std::size_t b = 0; b < acc.extent(0); ++b) {
      for (std::size_t i = 0; i < acc.extent(1); ++i) {
        for (std::size_t h = 0; h < acc.extent(2); ++h) {
          const accumulate_type before = m(b, h, i);
          if (!(std::isfinite(before) && state.m(b, h, i) > before)) continue;
          const accumulate_type kept = std::exp2(before - state.m(b, h, i));
          for (std::size_t d = 0; d < acc.extent(3); ++d) state.acc(b, i, h, d) += acc(b, i, h, d) * (1 - kept);
        }
      }
    }
  }

  Kernel kernel_{};
  Fault fault_{};
  mutable int hop_ = 0;
  mutable const std::byte* wire_ = nullptr;
};

// --- What a communicator can get wrong. Every rank must hold tokens, so that no message is empty.

/// A block that should arrive during the exchange of one hop does not: the slot keeps what it held two blocks ago. Hop 1
/// brings the second visitor; with two ranks there is hop 0 only, and the slot holds an earlier call's block.
struct stale_block {
  template <class Comm>
  class Exchange {
   public:
    using Segments = std::span<const Segment<typename Comm::memory_space>>;
    auto operator()(Comm& comm, const typename Comm::execution_space& after, Segments segments, Where where) {
      if (segments.size() > altered_.size() || where.hop != (comm.size() > 2 ? 1 : 0) || where.what[0] != 'f') {
        return comm.exchange(after, segments, where);
      }
      std::copy(segments.begin(), segments.end(), altered_.begin());
      for (auto& segment : std::span{altered_}.first(segments.size())) {
        if (segment.direction == Direction::receive) {
          segment.bytes = typename Segment<typename Comm::memory_space>::Bytes("lost", segment.bytes.size());
        }
      }
      return comm.exchange(after, std::span{altered_}.first(segments.size()), where);
    }

   private:
    std::array<Segment<typename Comm::memory_space>, 8> altered_;
  };
};

/// Gradients of keys and values are rounded to bfloat16 before each hop, as when they travel in the storage type. For
/// accumulators in float.
struct rounded_gradients {
  template <class Comm>
  class Exchange {
   public:
    using Segments = std::span<const Segment<typename Comm::memory_space>>;
    auto operator()(Comm& comm, const typename Comm::execution_space& after, Segments segments, Where where) {
      steps_ = where.what[0] == 'b' ? steps_ + 1 : 0;
      // Nothing is complete in the first two steps, and a visitor's first rank has none to send on.
      if (steps_ > 2 && where.hop != 1) {
        after.fence("rondo::test: before planting a fault");
        const Segment<typename Comm::memory_space>* gradient = nullptr;  // a block goes out before it
        for (const auto& segment : segments) {
          if (segment.direction == Direction::send) gradient = &segment;
        }
        if (gradient != nullptr) {
          auto* values = reinterpret_cast<float*>(gradient->bytes.data());
          const std::size_t count = gradient->bytes.size() / sizeof(float);
          for (std::size_t i = 0; i < count; ++i) values[i] = faults::rounded_to_bfloat16(values[i]);
        }
      }
      return comm.exchange(after, segments, where);
    }

   private:
    std::int64_t steps_ = 0;  // of this backward pass
  };
};

/// A communicator whose exchanges have a fault; the one it wraps must outlive it.
template <Communicator Comm, class Fault>
class faulty_communicator {
 public:
  using execution_space = typename Comm::execution_space;
  using memory_space = typename Comm::memory_space;
  static constexpr bool stream_ordered = Comm::stream_ordered;

  explicit faulty_communicator(Comm& comm) : comm_(std::shared_ptr<void>{}, &comm) {}

  int rank() const { return comm_->rank(); }
  int size() const { return comm_->size(); }
  decltype(auto) execution_instance() const { return std::as_const(*comm_).execution_instance(); }
  Deadline deadline() const { return comm_->deadline(); }
  auto exchange(const execution_space& after, std::span<const Segment<memory_space>> segments, Where where = {}) {
    return exchange_(*comm_, after, segments, where);
  }
  void fence(const execution_space& exec, const char* name)
    requires stream_ordered
  {
    comm_->fence(exec, name);
  }
  template <class T>
  void all_reduce(std::span<T> values, Reduction reduction) {
    comm_->all_reduce(values, reduction);
  }
  void broadcast(std::span<std::byte> bytes, int root) { comm_->broadcast(bytes, root); }
  void barrier() { comm_->barrier(); }
  faulty_communicator split(int color, int key) {
    return faulty_communicator(std::make_shared<Comm>(comm_->split(color, key)));
  }
  bool agree(bool ok) { return comm_->agree(ok); }

 private:
  explicit faulty_communicator(std::shared_ptr<Comm> comm) : comm_(std::move(comm)) {}

  std::shared_ptr<Comm> comm_;
  typename Fault::template Exchange<Comm> exchange_;
};

}  // namespace rondo::test
