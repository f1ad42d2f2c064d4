# Finds NCCL, or RCCL where Kokkos computes on AMD devices, and makes the target NCCL::NCCL.
#   NCCL_ROOT           where to look first, also an environment variable
#   NCCL_INCLUDE_DIR    the folder of nccl.h, or of rccl/rccl.h
#   NCCL_LIBRARY        the library
#   NCCL_VERSION        what the header says

if(Kokkos_ENABLE_HIP)
  set(_nccl_header rccl/rccl.h)
  set(_nccl_library rccl)
  set(_nccl_hints ROCM_PATH ENV ROCM_PATH)
else()
  set(_nccl_header nccl.h)
  set(_nccl_library nccl)
  set(_nccl_hints "${CUDAToolkit_ROOT}" ENV CUDAToolkit_ROOT ENV CUDA_HOME ENV CUDA_PATH)
endif()
find_path(NCCL_INCLUDE_DIR ${_nccl_header} HINTS ${_nccl_hints} PATHS /usr/local/cuda /opt/rocm PATH_SUFFIXES include)
# Python's wheels hold the library under its soname alone.
find_library(NCCL_LIBRARY NAMES ${_nccl_library} lib${_nccl_library}.so.2 lib${_nccl_library}.so.1
             HINTS ${_nccl_hints} PATHS /usr/local/cuda /opt/rocm PATH_SUFFIXES lib lib64)
mark_as_advanced(NCCL_INCLUDE_DIR NCCL_LIBRARY)

if(NCCL_INCLUDE_DIR)
  file(STRINGS "${NCCL_INCLUDE_DIR}/${_nccl_header}" _nccl_lines REGEX "#define NCCL_(MAJOR|MINOR|PATCH) [0-9]+")
  string(REGEX REPLACE "[^0-9;]" "" NCCL_VERSION "${_nccl_lines}")
  list(JOIN NCCL_VERSION "." NCCL_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(NCCL REQUIRED_VARS NCCL_LIBRARY NCCL_INCLUDE_DIR VERSION_VAR NCCL_VERSION)

if(NCCL_FOUND AND NOT TARGET NCCL::NCCL)
  add_library(NCCL::NCCL UNKNOWN IMPORTED)
  set_target_properties(NCCL::NCCL PROPERTIES IMPORTED_LOCATION "${NCCL_LIBRARY}"
                                              INTERFACE_INCLUDE_DIRECTORIES "${NCCL_INCLUDE_DIR}")
endif()
