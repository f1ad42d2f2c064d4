/// \file
/// How many bytes each rank of this process holds in Kokkos Views: counted, not estimated. Ranks are threads, so a
/// counter for each thread does it.
#pragma once

#include <Kokkos_Core.hpp>

#include <algorithm>
#include <cstdint>

namespace train {

/// While one lives, Kokkos tells it of every allocation. Tools that listen already go on hearing of them.
class MemoryCount {
 public:
  MemoryCount() {
    namespace tools = Kokkos::Tools::Experimental;
    before() = tools::get_callbacks();
    tools::set_allocate_data_callback(&MemoryCount::allocated);
    tools::set_deallocate_data_callback(&MemoryCount::freed);
  }
  MemoryCount(const MemoryCount&) = delete;
  MemoryCount& operator=(const MemoryCount&) = delete;
  ~MemoryCount() { Kokkos::Tools::Experimental::set_callbacks(before()); }

  /// Bytes that the calling thread holds, and the most it has held.
  static std::int64_t bytes() { return counter().bytes; }
  static std::int64_t peak() { return counter().peak; }

 private:
  struct Counter {
    std::int64_t bytes = 0;
    std::int64_t peak = 0;
  };
  static Counter& counter() {
    thread_local Counter counter;
    return counter;
  }
  static Kokkos::Tools::Experimental::EventSet& before() {
    static Kokkos::Tools::Experimental::EventSet callbacks;
    return callbacks;
  }

  static void allocated(Kokkos_Profiling_SpaceHandle space, const char* label, const void* data, std::uint64_t size) {
    Counter& mine = counter();
    mine.bytes += static_cast<std::int64_t>(size);
    mine.peak = std::max(mine.peak, mine.bytes);
    if (before().allocate_data) before().allocate_data(space, label, data, size);
  }
  static void freed(Kokkos_Profiling_SpaceHandle space, const char* label, const void* data, std::uint64_t size) {
    counter().bytes -= static_cast<std::int64_t>(size);
    if (before().deallocate_data) before().deallocate_data(space, label, data, size);
  }
};

}  // namespace train
