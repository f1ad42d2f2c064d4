# What the library's targets need. Only find_package() is called: where things come from is for the user to say, or for
# the dependency provider that the presets switch on.

# A parent project may have its own Kokkos target already; then that is the one.
if(NOT TARGET Kokkos::kokkos)
  find_package(Kokkos REQUIRED)
endif()

# A Kokkos that is part of the same build (add_subdirectory, FetchContent) keeps its version in its own folder.
if(NOT Kokkos_VERSION AND Kokkos_SOURCE_DIR)
  get_directory_property(Kokkos_VERSION DIRECTORY "${Kokkos_SOURCE_DIR}" DEFINITION Kokkos_VERSION)
endif()
if(NOT Kokkos_VERSION)
  message(STATUS "Rondo: the version of Kokkos is not known; 4.6.99 to 5.x is needed")
elseif(Kokkos_VERSION VERSION_LESS 4.6.99 OR Kokkos_VERSION VERSION_GREATER_EQUAL 6)
  message(FATAL_ERROR "Rondo needs Kokkos 4.6.99 to 5.x, but found ${Kokkos_VERSION} in ${Kokkos_DIR}${Kokkos_SOURCE_DIR}. "
                      "Set Kokkos_ROOT to another one.")
endif()

# No package of Eigen takes a range of versions over both.
macro(rondo_find_eigen)
  find_package(Eigen3 3.4 QUIET)
  if(NOT Eigen3_FOUND)
    find_package(Eigen3 5 ${ARGN})
  endif()
endmacro()

if(NOT DEFINED RONDO_LAYERS AND PROJECT_IS_TOP_LEVEL)
  rondo_find_eigen(QUIET)
  set(rondo_layers_default ${Eigen3_FOUND})
else()
  set(rondo_layers_default OFF)
endif()
option(RONDO_LAYERS "Component layers: the parts of a network round the attention (needs Eigen)" ${rondo_layers_default})
if(RONDO_LAYERS AND NOT TARGET Eigen3::Eigen)
  rondo_find_eigen(REQUIRED)
endif()
if(NOT DEFINED RONDO_MPI AND PROJECT_IS_TOP_LEVEL)
  find_package(MPI COMPONENTS CXX)
  set(rondo_mpi_default ${MPI_CXX_FOUND})
else()
  set(rondo_mpi_default OFF)
endif()
option(RONDO_MPI "Component mpi: the ring over MPI" ${rondo_mpi_default})
if(RONDO_MPI AND NOT TARGET MPI::MPI_CXX)
  find_package(MPI REQUIRED COMPONENTS CXX)
endif()
if(RONDO_NCCL AND NOT TARGET NCCL::NCCL)
  find_package(NCCL REQUIRED)
endif()
