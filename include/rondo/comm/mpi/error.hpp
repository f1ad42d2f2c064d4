/// \file
/// MPI's return codes as exceptions, and which of them mean that a process is gone.
#pragma once

#include <rondo/error.hpp>

#include <mpi.h>
// Where Open MPI declares what the standard does not have.
#if defined(OPEN_MPI) && __has_include(<mpi-ext.h>)
#include <mpi-ext.h>
#endif

#include <string>

namespace rondo::mpi {

inline std::string text(int code) {
  char buffer[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  if (MPI_Error_string(code, buffer, &length) != MPI_SUCCESS) return detail::message("error ", code);
  return {buffer, static_cast<std::size_t>(length)};
}

inline int error_class(int code) {
  int result = code;
  MPI_Error_class(code, &result);
  return result;
}

/// Does the code say that a process has died? (User-level failure mitigation: Open MPI under `mpiexec --with-ft ulfm`.)
inline bool says_failed(int code) {
#if defined(MPIX_ERR_PROC_FAILED) && defined(MPIX_ERR_PROC_FAILED_PENDING)
  const int kind = error_class(code);
  return kind == MPIX_ERR_PROC_FAILED || kind == MPIX_ERR_PROC_FAILED_PENDING;
#else
  return code != MPI_SUCCESS && false;
#endif
}

/// \throws error naming the MPI function, unless the code is MPI_SUCCESS
inline void check(int code, const char* function) {
  if (code != MPI_SUCCESS) throw error(detail::message(function, " failed: ", text(code)));
}

}  // namespace rondo::mpi
