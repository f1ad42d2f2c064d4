# What is special about Debian's Kokkos package.

include_guard(GLOBAL)

# The package's own CMake files name two archives that it does not ship, and absolute paths. In the private prefix they
# are replaced by files that describe what is there.
function(rondo_finish_kokkos prefix)
  file(GLOB directories LIST_DIRECTORIES TRUE "${prefix}/lib/*/cmake/Kokkos")
  list(GET directories 0 directory)
  file(GLOB stale "${directory}/KokkosTargets*.cmake")
  file(REMOVE ${stale})
  # In a folder of their own, because a search path with another libgomp in it makes CMake warn about each program.
  cmake_path(SET libraries NORMALIZE "${directory}/../..")
  file(MAKE_DIRECTORY "${libraries}/kokkos")
  file(GLOB parts "${libraries}/libkokkos*")
  foreach(part IN LISTS parts)
    cmake_path(GET part FILENAME file)
    file(RENAME "${part}" "${libraries}/kokkos/${file}")
  endforeach()
  file(READ "${prefix}/include/kokkos/KokkosCore_config.h" settings)
  set(RONDO_KOKKOS_OPENMP OFF)
  if(settings MATCHES "#define KOKKOS_ENABLE_OPENMP")
    set(RONDO_KOKKOS_OPENMP ON)
  endif()
  # Its dynamic loader came along if the package belongs to a newer release than this machine's.
  file(GLOB loaders RELATIVE "${prefix}" "${prefix}/lib64/ld-linux-*.so.*" "${prefix}/lib/ld-linux-*.so.*")
  set(RONDO_KOKKOS_LOADER "")
  if(loaders)
    list(GET loaders 0 RONDO_KOKKOS_LOADER)
  endif()
  configure_file("${CMAKE_CURRENT_FUNCTION_LIST_DIR}/KokkosConfig.cmake.in" "${directory}/KokkosConfig.cmake" @ONLY)
endfunction()

# The same package, installed on the system, would stop find_package() with an error about those archives: pass it by.
function(rondo_pass_by_broken name)
  set(libraries "/usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}")
  set(targets "${libraries}/cmake/Kokkos/KokkosTargets.cmake")
  if(NOT name STREQUAL "Kokkos" OR NOT EXISTS "${targets}" OR EXISTS "${libraries}/libkokkossimd.a")
    return()
  endif()
  file(STRINGS "${targets}" archives REGEX "Kokkos::kokkossimd STATIC IMPORTED")
  if(archives)
    message(STATUS "Rondo: Kokkos in ${libraries} passed by: its CMake files name archives that it lacks")
    # /lib is another name of /usr/lib, and searched as such.
    set(directories "${libraries}/cmake/Kokkos" "/lib/${CMAKE_LIBRARY_ARCHITECTURE}/cmake/Kokkos")
    set(CMAKE_IGNORE_PATH "${CMAKE_IGNORE_PATH};${directories}" PARENT_SCOPE)
  endif()
endfunction()
