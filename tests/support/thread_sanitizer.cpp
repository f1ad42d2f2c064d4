/// \file
/// Shows the thread sanitizer how OpenMP orders the threads of a parallel region: what was written before it is seen in
/// it, what was written in it is seen after it. GNU's runtime synchronizes by system calls that the sanitizer does not
/// follow, so every region of two threads would look like a race. The runtime's entries are wrapped here; elsewhere this
/// file is empty.
#ifdef __SANITIZE_THREAD__

#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

namespace {

/// One parallel region: its function and two places whose addresses stand for its beginning and its end.
struct Region {
  void (*function)(void*);
  void* data;
  char begin = 0;
  char end = 0;

  static void run(void* region_given) {
    auto* region = static_cast<Region*>(region_given);
    __tsan_acquire(&region->begin);
    region->function(region->data);
    __tsan_release(&region->end);
  }
};

template <class Function>
Function* original(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

void GOMP_parallel(void (*function)(void*), void* data, unsigned threads, unsigned flags) {
  static auto* const next = original<void(void (*)(void*), void*, unsigned, unsigned)>("GOMP_parallel");
  Region region{function, data};
  __tsan_release(&region.begin);
  next(&Region::run, &region, threads, flags);
  __tsan_acquire(&region.end);
}

/// What lies between Kokkos' own threads: its pool's barriers are in its library, which is not compiled for the sanitizer.
const char* __tsan_default_suppressions() {
  return "race:Kokkos::Impl::HostThreadTeamData\n"
         "race:Kokkos::Impl::OpenMPInternal\n"
         "race:Kokkos::Tools\n";
}

}  // extern "C"

#endif
