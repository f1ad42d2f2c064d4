/// \file
/// ATTEND_COMPUTE_IN(T): compute_in<T> over every communicator there is.
#pragma once

#include "compute.hpp"
#include "ranks.hpp"

#define ATTEND_COMPUTE_OVER(T, Comm)                                                            \
  template <>                                                                                   \
  void attend::compute_in<T>(Comm & comm, const Request& request, const safetensors::Input& in, \
                             safetensors::Output* out) {                                        \
    compute<T>(comm, request, in, out);                                                         \
  }

#ifdef ATTEND_WITH_MPI
#define ATTEND_COMPUTE_IN(T)                \
  ATTEND_COMPUTE_OVER(T, ::attend::Threads) \
  ATTEND_COMPUTE_OVER(T, ::attend::Processes)
#else
#define ATTEND_COMPUTE_IN(T) ATTEND_COMPUTE_OVER(T, ::attend::Threads)
#endif
