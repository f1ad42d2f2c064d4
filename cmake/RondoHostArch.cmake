# Which processor to compile for. Rondo's kernel on the host is written for the vectors that the compiler's flags name,
# and compilers name the oldest ones unless told otherwise. Its blocks are sized for the second-level cache, which no flag
# names.

include_guard(GLOBAL)
include(CheckCXXSourceCompiles)

# rondo_host_cache_kib(<variable>): the second-level cache of a core in KiB. RONDO_HOST_CACHE_KIB or, for native code, this
# machine's, of which more than 1024 would change nothing; empty where it is not known.
function(rondo_host_cache_kib out)
  set(kib "${RONDO_HOST_CACHE_KIB}")
  if(NOT kib AND RONDO_HOST_ARCH STREQUAL "native" AND NOT CMAKE_CROSSCOMPILING)
    execute_process(COMMAND getconf LEVEL2_CACHE_SIZE OUTPUT_VARIABLE bytes OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET
                    RESULT_VARIABLE failed)
    if(failed EQUAL 0 AND bytes MATCHES "^[1-9][0-9]+$")
      math(EXPR kib "${bytes} / 1024")
      if(kib LESS 256)
        set(kib 256)
      elseif(kib GREATER 1024)
        set(kib 1024)
      endif()
    endif()
  endif()
  set(${out} "${kib}" PARENT_SCOPE)
endfunction()

# rondo_host_arch_options(<variable>): the compile options that RONDO_HOST_ARCH and RONDO_HOST_CACHE_KIB stand for, which may
# be none.
function(rondo_host_arch_options out)
  set(options "")
  if(RONDO_HOST_ARCH AND NOT RONDO_HOST_ARCH STREQUAL "baseline")
    list(APPEND options "$<$<COMPILE_LANGUAGE:CXX>:-march=${RONDO_HOST_ARCH}>")
  endif()
  rondo_host_cache_kib(kib)
  if(kib)
    list(APPEND options "$<$<COMPILE_LANGUAGE:CXX>:-DRONDO_HOST_CACHE_KIB=${kib}>")
  endif()
  set(${out} "${options}" PARENT_SCOPE)
endfunction()

# rondo_check_host_arch(): refuses an architecture that the compiler does not know; warns, once in a configure, if no
# flag that CMake knows of here names wider vectors than the oldest processor has. Flags of a target's own are not seen.
function(rondo_check_host_arch)
  get_property(checked GLOBAL PROPERTY RONDO_HOST_ARCH_CHECKED)
  set_property(GLOBAL PROPERTY RONDO_HOST_ARCH_CHECKED TRUE)
  if(RONDO_HOST_CACHE_KIB AND (NOT RONDO_HOST_CACHE_KIB MATCHES "^[0-9]+$" OR RONDO_HOST_CACHE_KIB LESS 256))
    message(FATAL_ERROR "Rondo: RONDO_HOST_CACHE_KIB is ${RONDO_HOST_CACHE_KIB}, but has to be the KiB of a core's second-"
                        "level cache, at least 256.")
  endif()
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
