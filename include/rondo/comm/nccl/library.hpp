/// \file
/// NCCL's header, or RCCL's where Kokkos computes on AMD devices, and its return codes as exceptions.
#pragma once

#include <rondo/error.hpp>

#include <Kokkos_Core.hpp>

#ifdef KOKKOS_ENABLE_HIP
#include <rccl/rccl.h>
#else
#include <nccl.h>
#endif

#include <string>

namespace rondo::nccl {

/// What the library says of a code, with its last words where it keeps some.
inline std::string text(ncclResult_t code, ncclComm_t comm = nullptr) {
  const char* last = comm == nullptr ? nullptr : ncclGetLastError(comm);
  const bool has_more = last != nullptr && last[0] != '\0';
  return detail::message(ncclGetErrorString(code), has_more ? ": " : "", has_more ? last : "");
}

/// \throws error naming the function, unless the code is ncclSuccess
inline void check(ncclResult_t code, const char* function) {
  if (code != ncclSuccess) throw error(detail::message(function, " failed: ", text(code)));
}

}  // namespace rondo::nccl
