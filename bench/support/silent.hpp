/// \file
/// A communicator whose exchanges can be switched off: the same schedule without communication, as the other half of a
/// paired measurement. While they are off, ranks compute with what an earlier exchange has brought.
#pragma once

#include <rondo/comm/concept.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

namespace bench {

template <rondo::Communicator Comm>
class silent {
 public:
  using execution_space = typename Comm::execution_space;
  using memory_space = typename Comm::memory_space;
  using Segment = rondo::Segment<memory_space>;
  static constexpr bool stream_ordered = Comm::stream_ordered;
  static constexpr bool moves_when_asked = rondo::moves_when_asked<Comm>;
  using Inner = decltype(std::declval<Comm&>().exchange(std::declval<const execution_space&>(),
                                                        std::span<const Segment>{}, rondo::Where{}));

  class Started {
   public:
    explicit Started(std::optional<Inner> inner) : inner_(std::move(inner)) {}
    bool test() { return !inner_ || inner_->test(); }
    void wait() {
      if (inner_) inner_->wait();
    }
    void order(const execution_space& exec) {
      if (inner_) inner_->order(exec);
    }

   private:
    std::optional<Inner> inner_;
  };

  explicit silent(Comm comm) : comm_(std::move(comm)) {}

  /// Whether exchanges move anything. To be switched on all ranks.
  void set_moving(bool moving) { moving_ = moving; }
  Comm& inner() { return comm_; }

  int rank() const { return comm_.rank(); }
  int size() const { return comm_.size(); }
  decltype(auto) execution_instance() const { return comm_.execution_instance(); }
  rondo::Deadline deadline() const { return comm_.deadline(); }
  Started exchange(const execution_space& after, std::span<const Segment> segments, rondo::Where where = {}) {
    if (moving_) return Started(comm_.exchange(after, segments, where));
    if constexpr (!stream_ordered) rondo::fence_queue(after, "rondo::send");
    return Started(std::nullopt);
  }
  void fence(const execution_space& exec, const char* name)
    requires stream_ordered
  {
    comm_.fence(exec, name);
  }
  void all_reduce(std::span<float> values, rondo::Reduction reduction) { comm_.all_reduce(values, reduction); }
  void all_reduce(std::span<double> values, rondo::Reduction reduction) { comm_.all_reduce(values, reduction); }
  void all_reduce(std::span<std::int64_t> values, rondo::Reduction reduction) { comm_.all_reduce(values, reduction); }
  void broadcast(std::span<std::byte> bytes, int root) { comm_.broadcast(bytes, root); }
  void barrier() { comm_.barrier(); }
  silent split(int color, int key) { return silent(comm_.split(color, key)); }
  bool agree(bool ok) { return comm_.agree(ok); }

 private:
  Comm comm_;
  bool moving_ = true;
};

}  // namespace bench
