/// \file
/// A communicator that counts what passes through it.
#pragma once

#include <rondo/comm/concept.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

namespace rondo {

/// What one rank has moved through a counting communicator.
struct Traffic {
  std::int64_t exchanges = 0;
  std::int64_t messages_sent = 0;
  std::int64_t messages_received = 0;
  std::int64_t bytes_sent = 0;
  std::int64_t bytes_received = 0;
  std::int64_t reductions = 0;     ///< all_reduce and agree
  std::int64_t reduced_bytes = 0;  ///< of this rank's values
  std::int64_t broadcasts = 0;
  std::int64_t barriers = 0;
};

/// Any communicator, with its traffic. What is split off counts into the same Traffic.
template <Communicator Comm>
class counting {
 public:
  using execution_space = typename Comm::execution_space;
  using memory_space = typename Comm::memory_space;
  static constexpr bool stream_ordered = Comm::stream_ordered;
  static constexpr bool moves_when_asked = rondo::moves_when_asked<Comm>;

  explicit counting(Comm comm) : counting(std::move(comm), std::make_shared<Traffic>()) {}

  const Traffic& traffic() const { return *traffic_; }
  void reset() { *traffic_ = {}; }

  int rank() const { return comm_.rank(); }
  int size() const { return comm_.size(); }
  decltype(auto) execution_instance() const { return comm_.execution_instance(); }
  Deadline deadline() const { return comm_.deadline(); }

  Transfer<execution_space> auto exchange(const execution_space& after, std::span<const Segment<memory_space>> segments,
                                          Where where = {}) {
    auto transfer = comm_.exchange(after, segments, where);
    ++traffic_->exchanges;
    for (const auto& segment : segments) {
      const bool sends = segment.direction == Direction::send;
      ++(sends ? traffic_->messages_sent : traffic_->messages_received);
      (sends ? traffic_->bytes_sent : traffic_->bytes_received) += static_cast<std::int64_t>(segment.bytes.size());
    }
    return transfer;
  }
  void fence(const execution_space& exec, const char* name)
    requires stream_ordered
  {
    comm_.fence(exec, name);
  }
  void all_reduce(std::span<float> values, Reduction reduction) { reduce(values, reduction); }
  void all_reduce(std::span<double> values, Reduction reduction) { reduce(values, reduction); }
  void all_reduce(std::span<std::int64_t> values, Reduction reduction) { reduce(values, reduction); }
  void broadcast(std::span<std::byte> bytes, int root) {
    comm_.broadcast(bytes, root);
    ++traffic_->broadcasts;
  }
  void barrier() {
    comm_.barrier();
    ++traffic_->barriers;
  }
  counting split(int color, int key) { return {comm_.split(color, key), traffic_}; }
  bool agree(bool ok) {
    ++traffic_->reductions;
    return comm_.agree(ok);
  }

 private:
  counting(Comm comm, std::shared_ptr<Traffic> traffic) : comm_(std::move(comm)), traffic_(std::move(traffic)) {}

  template <class T>
  void reduce(std::span<T> values, Reduction reduction) {
    comm_.all_reduce(values, reduction);
    ++traffic_->reductions;
    traffic_->reduced_bytes += static_cast<std::int64_t>(values.size_bytes());
  }

  Comm comm_;
  std::shared_ptr<Traffic> traffic_;
};

}  // namespace rondo
