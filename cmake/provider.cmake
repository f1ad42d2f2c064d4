# The dependency provider: satisfies find_package(...) for what is not installed.
#
# The presets load this file through CMAKE_PROJECT_TOP_LEVEL_INCLUDES; a project that merely uses Rondo never does.
# For every dependency it has a recipe for (provider/recipes.cmake) it takes the first of these routes that works:
#   0. the source tree named by FETCHCONTENT_SOURCE_DIR_<NAME>;
#   1. an installed package;
#   2. the pinned upstream release, if a quick probe reaches it;
#   3. on Debian and its relatives, packages unpacked into a private prefix inside the build tree;
#      for MPI, a Python wheel unpacked likewise.
# docs/dependencies.md tells users which variables steer it.

include_guard(GLOBAL)

option(RONDO_PROVIDER_IGNORE_INSTALLED "Act as if none of the dependencies were installed" OFF)
set(RONDO_PROVIDER_UPSTREAM AUTO CACHE STRING "Take upstream releases: AUTO (if a probe reaches them), ON or OFF")
set_property(CACHE RONDO_PROVIDER_UPSTREAM PROPERTY STRINGS AUTO ON OFF)

# Build trees that once registered themselves in the user's home are not installed packages, and nothing built here
# registers itself there.
set(CMAKE_FIND_USE_PACKAGE_REGISTRY FALSE)
set(CMAKE_EXPORT_NO_PACKAGE_REGISTRY TRUE)

include("${CMAKE_CURRENT_LIST_DIR}/provider/recipe.cmake")
include("${CMAKE_CURRENT_LIST_DIR}/provider/recipes.cmake")
include("${CMAKE_CURRENT_LIST_DIR}/provider/source.cmake")
include("${CMAKE_CURRENT_LIST_DIR}/provider/debian.cmake")
include("${CMAKE_CURRENT_LIST_DIR}/provider/wheels.cmake")

# A macro, because find_package() has to set its variables in the scope of the caller.
macro(rondo_provide_dependency method name)
  rondo_has_recipe("${name}" _rondo_known)
  if(_rondo_known)
    rondo_find_arguments("${name}" _rondo_arguments ${ARGN})
    set(${name}_FOUND FALSE)

    rondo_given_source("${name}" _rondo_source)
    if(_rondo_source)
      rondo_provide_source("${name}" ${name}_VERSION "source tree ${_rondo_source}")
      set(${name}_FOUND TRUE)
    endif()

    if(NOT ${name}_FOUND AND NOT RONDO_PROVIDER_IGNORE_INSTALLED)
      rondo_pass_by_broken("${name}")
      find_package("${name}" ${_rondo_arguments} QUIET BYPASS_PROVIDER)
      rondo_recipe_field("${name}" LATER _rondo_later)
      if(NOT ${name}_FOUND AND _rondo_later)
        find_package("${name}" ${_rondo_later} QUIET BYPASS_PROVIDER)
      endif()
      if(${name}_FOUND)
        rondo_report("${name}" "${${name}_VERSION}" "installed in ${${name}_DIR}")
      endif()
    endif()

    rondo_recipe_field("${name}" WHEEL _rondo_wheel)
    if(NOT ${name}_FOUND AND _rondo_wheel)
      rondo_wheel_prefix("${_rondo_wheel}" _rondo_prefix _rondo_why)
      if(_rondo_prefix)
        rondo_use_mpi("${_rondo_wheel}" "${_rondo_prefix}")
        rondo_report("${name}" "${MPI_VERSION}" "${_rondo_why}")
      else()
        rondo_report_missing("${name}" "${_rondo_why}" ${ARGN})
      endif()
    endif()

    if(NOT ${name}_FOUND AND NOT _rondo_wheel)
      rondo_upstream_reachable("${name}" _rondo_reachable)
      if(_rondo_reachable)
        rondo_provide_source("${name}" ${name}_VERSION "upstream release")
        set(${name}_FOUND TRUE)
      endif()
    endif()

    if(NOT ${name}_FOUND AND NOT _rondo_wheel)
      rondo_debian_prefix("${name}" _rondo_prefix _rondo_why)
      if(_rondo_prefix)
        find_package("${name}" ${_rondo_arguments} QUIET BYPASS_PROVIDER PATHS "${_rondo_prefix}" NO_DEFAULT_PATH)
        # Not kept in the cache: the next configure should again prefer what has been installed meanwhile.
        set(_rondo_directory "${${name}_DIR}")
        unset(${name}_DIR CACHE)
        set(${name}_DIR "${_rondo_directory}")
      endif()
      if(${name}_FOUND)
        rondo_report("${name}" "${${name}_VERSION}" "${_rondo_why}")
      else()
        rondo_report_missing("${name}" "${_rondo_why}" ${ARGN})
      endif()
    endif()
  endif()
endmacro()

cmake_language(SET_DEPENDENCY_PROVIDER rondo_provide_dependency SUPPORTED_METHODS FIND_PACKAGE)
