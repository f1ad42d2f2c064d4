# What a user can switch. As a part of another project Rondo is its headers and Kokkos, unless asked for more.

option(RONDO_BUILD_TESTS "Build Rondo's tests (need Catch2 3)" ${PROJECT_IS_TOP_LEVEL})
option(RONDO_BUILD_BENCH "Build Rondo's benchmarks (need Google Benchmark)" ${PROJECT_IS_TOP_LEVEL})
option(RONDO_BUILD_EXAMPLES "Build Rondo's examples (need CLI11 and nlohmann-json)" ${PROJECT_IS_TOP_LEVEL})
option(RONDO_INSTALL "Make install rules for Rondo" ${PROJECT_IS_TOP_LEVEL})

option(RONDO_NCCL "Component nccl: the ring over NCCL" OFF)
# RONDO_LAYERS and RONDO_MPI get their defaults in dependencies.cmake: whether Eigen and MPI are there.

option(RONDO_WERROR "Treat warnings in Rondo's own programs as errors" OFF)
set(RONDO_HOST_ARCH "" CACHE STRING "Processor to compile for, a value of -march: native, x86-64-v3, ...; baseline: the \
compiler's default, on purpose. On its own, Rondo's programs get it; inside another project, all that links Rondo::rondo")
set(RONDO_HOST_CACHE_KIB "" CACHE STRING "Second-level cache of a core in KiB, which the host kernel's blocks are sized for; \
empty: this machine's for native code, else 1024. For whom, see RONDO_HOST_ARCH")
