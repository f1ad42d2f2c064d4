/// \file
/// Ends all processes of an MPI program, but not before the launcher has this one's last words.
#pragma once

#include <mpi.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#if __has_include(<sys/ioctl.h>)
#include <sys/ioctl.h>
#include <sys/stat.h>
#endif

namespace rondo {
namespace mpi {

/// Is there something in this pipe that its reader has not taken yet? Of what is no pipe nobody can tell: false.
inline bool has_unread([[maybe_unused]] int descriptor) {
#ifdef FIONREAD
  struct stat status {};
  int bytes = 0;
  return ::fstat(descriptor, &status) == 0 && S_ISFIFO(status.st_mode) && ::ioctl(descriptor, FIONREAD, &bytes) == 0 &&
         bytes > 0;
#else
  return false;
#endif
}

}  // namespace mpi

/// MPI_Abort, when what this process has written is out of its hands: flushes C's streams, waits until the launcher has
/// taken what stands in the pipes of standard output and error, 0.1 s at least and 5 s at most, and ends all processes
/// of `comm`. Launchers hear of an abort beside those pipes, and then end without reading them: of a reason that was
/// printed just before MPI_Abort nothing may be seen.
/// \param code  what the launcher, mostly, gives back as its own status; not 0
[[noreturn]] inline void abort_all(MPI_Comm comm, int code) {
  using namespace std::chrono_literals;
  std::fflush(nullptr);
  const auto begin = std::chrono::steady_clock::now();
  const auto waited = [&](auto time) { return std::chrono::steady_clock::now() - begin >= time; };
  while (!waited(100ms) || ((mpi::has_unread(1) || mpi::has_unread(2)) && !waited(5s))) {
    std::this_thread::sleep_for(1ms);
  }
  MPI_Abort(comm, code);
  std::_Exit(code);
}

}  // namespace rondo
