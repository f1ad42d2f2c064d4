/// \file
/// A communicator that moves nothing and keeps the time of all ranks at once.
#pragma once

#include <rondo/comm/concept.hpp>
#include <rondo/plan/simulator/clocks.hpp>

#include <Kokkos_Core.hpp>

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace rondo::plan {

/// The ranks of a ring do the same steps, each with other pieces. So one engine, that of rank 0, walks the schedule, and
/// whatever it does is done by all. Messages are as long as rank 0's times `width`.
class timed_communicator {
 public:
  using execution_space = Kokkos::DefaultHostExecutionSpace;
  using memory_space = execution_space::memory_space;
  static constexpr bool stream_ordered = false;

  class Transfer {
   public:
    explicit Transfer(std::shared_ptr<Clocks> clocks) : clocks_(std::move(clocks)) {}
    bool test() { return true; }
    void wait() { clocks_->wait(); }
    void order(const execution_space& /*exec*/) { wait(); }

   private:
    std::shared_ptr<Clocks> clocks_;
  };

  /// \param width  elements of a token's keys on all heads: the engine sees one of them
  timed_communicator(std::shared_ptr<Clocks> clocks, double width) : clocks_(std::move(clocks)), width_(width) {}

  int rank() const { return 0; }
  int size() const { return clocks_->ranks(); }
  execution_space execution_instance() const { return {}; }
  Deadline deadline() const { return Deadline{1}; }

  Transfer exchange(const execution_space& /*after*/, std::span<const Segment<memory_space>> segments,
                    Where where = {}) {
    clocks_->backward = std::string_view(where.what) == "backward";
    clocks_->hop = static_cast<int>(where.hop);
    double bytes = 0;
    for (const auto& segment : segments) {
      if (segment.direction == Direction::send) bytes += static_cast<double>(segment.bytes.size());
    }
    clocks_->start(bytes * width_);
    return Transfer(clocks_);
  }
  void all_reduce(std::span<float>, Reduction) {}
  void all_reduce(std::span<double>, Reduction) {}
  void all_reduce(std::span<std::int64_t>, Reduction) {}
  void broadcast(std::span<std::byte>, int) {}
  void barrier() { clocks_->barrier(); }
  timed_communicator split(int /*color*/, int /*key*/) { return *this; }
  bool agree(bool ok) { return ok; }

 private:
  std::shared_ptr<Clocks> clocks_;
  double width_;
};

static_assert(Communicator<timed_communicator>);

}  // namespace rondo::plan
