/// \file
/// An execution space that queues, as a device's does: an instance is a stream, whose thread does the work. Kokkos' loops over
/// ranges and its copies run on it; loops over teams do not.
#pragma once

#include "streams.hpp"

#include <Kokkos_Core.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <utility>

namespace stand_in {

class QueuedExec {
 public:
  using execution_space = QueuedExec;
  using memory_space = Kokkos::HostSpace;
  using device_type = Kokkos::Device<QueuedExec, Kokkos::HostSpace>;
  using array_layout = Kokkos::LayoutRight;
  using size_type = memory_space::size_type;
  using index_type = std::int64_t;
  using scratch_memory_space = Kokkos::ScratchMemorySpace<QueuedExec>;

  QueuedExec() : stream_(std::make_shared<CUstream_st>()) {}

  Stream stream() const { return stream_.get(); }
  void queue(std::function<void()> work) const { stream_->push(std::move(work)); }
  /// Returns when all is done that was queued before.
  void fence(const std::string& /*name*/ = {}) const {
    EventState done;
    const std::int64_t number = done.record();
    queue([&] { done.reach(number); });
    done.wait(number);
  }

  // What Kokkos asks of a space.
  static const char* name() { return "Queued"; }
  int concurrency() const { return 1; }
  std::uint32_t impl_instance_id() const { return 1; }
  void print_configuration(std::ostream& stream, bool = false) const { stream << name(); }
  friend bool operator==(const QueuedExec& a, const QueuedExec& b) { return a.stream() == b.stream(); }

 private:
  std::shared_ptr<CUstream_st> stream_;
};

struct QueuedStreams : StreamsBase {
  using execution_space = QueuedExec;
  static constexpr bool queues = true;
  static void select(const QueuedExec&) {}
  static stream stream_of(const QueuedExec& exec) { return exec.stream(); }
};

}  // namespace stand_in

// As on a device, a loop is queued with what its functor holds, and whoever queues it keeps the memory.

template <>
struct Kokkos::Tools::Experimental::DeviceTypeTraits<stand_in::QueuedExec> {
  static constexpr DeviceType id = DeviceType::Unknown;
  static int device_id(const stand_in::QueuedExec&) { return 0; }
};

template <class Functor, class... Traits>
class Kokkos::Impl::ParallelFor<Functor, Kokkos::RangePolicy<Traits...>, stand_in::QueuedExec> {
  using Policy = Kokkos::RangePolicy<Traits...>;

 public:
  ParallelFor(const Functor& functor, const Policy& policy) : functor_(functor), policy_(policy) {}
  void execute() const {
    policy_.space().queue([functor = functor_, begin = policy_.begin(), end = policy_.end()] {
      for (auto i = begin; i < end; ++i) functor(i);
    });
  }

 private:
  Functor functor_;
  Policy policy_;
};

template <class Functor, class... Traits>
class Kokkos::Impl::ParallelFor<Functor, Kokkos::MDRangePolicy<Traits...>, stand_in::QueuedExec> {
  using Policy = Kokkos::MDRangePolicy<Traits...>;
  using Tiles = Kokkos::Impl::HostIterateTile<Policy, Functor, typename Policy::work_tag, void>;

 public:
  ParallelFor(const Functor& functor, const Policy& policy) : functor_(functor), policy_(policy) {}
  void execute() const {
    policy_.space().queue([functor = functor_, policy = policy_] {
      const Tiles tiles(policy, functor);
      for (decltype(policy.m_num_tiles) i = 0; i < policy.m_num_tiles; ++i) tiles(i);
    });
  }

 private:
  Functor functor_;
  Policy policy_;
};

template <>
struct Kokkos::Impl::ZeroMemset<stand_in::QueuedExec> {
  ZeroMemset(const stand_in::QueuedExec& exec, void* target, std::size_t bytes) {
    exec.queue([=] { std::memset(target, 0, bytes); });
  }
};

template <>
struct Kokkos::Impl::DeepCopy<Kokkos::HostSpace, Kokkos::HostSpace, stand_in::QueuedExec> {
  DeepCopy(const stand_in::QueuedExec& exec, void* target, const void* source, std::size_t bytes) {
    exec.queue([=] { std::memcpy(target, source, bytes); });
  }
};
