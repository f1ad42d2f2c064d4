# Which processor to compile for. Rondo's kernel on the host is written for the vectors that the compiler's flags name,
# and compilers name the oldest ones unless told otherwise.

include_guard(GLOBAL)
include(CheckCXXSourceCompiles)

# rondo_host_arch_options(<variable>): the compile options that RONDO_HOST_ARCH stands for, which may be none.
function(rondo_host_arch_options out)
  set(options "")
  if(RONDO_HOST_ARCH AND NOT RONDO_HOST_ARCH STREQUAL "baseline")
    set(options "$<$<COMPILE_LANGUAGE:CXX>:-march=${RONDO_HOST_ARCH}>")
  endif()
  set(${out} "${options}" PARENT_SCOPE)
endfunction()

# rondo_check_host_arch(): refuses an architecture that the compiler does not know; warns, once in a configure, if no
# flag that CMake knows of here names wider vectors than the oldest processor has. Flags of a target's own are not seen.
function(rondo_check_host_arch)
  get_property(checked GLOBAL PROPERTY RONDO_HOST_ARCH_CHECKED)
  set_property(GLOBAL PROPERTY RONDO_HOST_ARCH_CHECKED TRUE)
  # Where a device computes, the kernel of the host does not.
  if(checked OR RONDO_HOST_ARCH STREQUAL "baseline" OR Kokkos_ENABLE_CUDA OR Kokkos_ENABLE_HIP OR Kokkos_ENABLE_SYCL)
    return()
  endif()
  set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
  set(CMAKE_REQUIRED_QUIET TRUE)
  if(RONDO_HOST_ARCH)
    set(CMAKE_REQUIRED_FLAGS "-march=${RONDO_HOST_ARCH}")
    string(MAKE_C_IDENTIFIER "RONDO_KNOWS_ARCH_${CMAKE_REQUIRED_FLAGS}" known)
    check_cxx_source_compiles("void f() {}" ${known})
    if(NOT ${known})
      message(FATAL_ERROR "Rondo: RONDO_HOST_ARCH is ${RONDO_HOST_ARCH}, but ${CMAKE_CXX_COMPILER} refuses "
                          "-march=${RONDO_HOST_ARCH}. Use native, a name that the compiler knows, or baseline.")
    endif()
    return()
  endif()

  # Beside CMAKE_CXX_FLAGS: what the directory and Kokkos pass on.
  get_directory_property(options COMPILE_OPTIONS)
  foreach(target IN ITEMS Kokkos::kokkos Kokkos::kokkoscore kokkoscore)
    if(TARGET ${target})
      get_target_property(more ${target} INTERFACE_COMPILE_OPTIONS)
      list(APPEND options "${more}")
    endif()
  endforeach()
  string(REGEX MATCHALL "-m[a-z0-9.]+[^;>, ]*" flags "${options}")
  list(REMOVE_DUPLICATES flags)
  string(JOIN " " CMAKE_REQUIRED_FLAGS ${flags})
  string(MAKE_C_IDENTIFIER "RONDO_NAMES_VECTORS_${CMAKE_CXX_FLAGS}_${CMAKE_REQUIRED_FLAGS}" named)
  check_cxx_source_compiles(
    "#if (defined(__x86_64__) || defined(__i386__)) && !defined(__AVX__)\n#error narrow\n#endif\nvoid f() {}" ${named})
  if(NOT ${named})
    message(WARNING
      "Rondo: the compiler's flags name no vector instructions beyond SSE2, so attention on the host will run several "
      "times slower than this processor can. Set RONDO_HOST_ARCH=native (or another value of -march, such as x86-64-v3, "
      "for programs that move to other machines), and all that links Rondo::rondo is compiled for it; or put -march into "
      "CMAKE_CXX_FLAGS. If your targets set it themselves, or this is what you want: RONDO_HOST_ARCH=baseline.")
  endif()
endfunction()
