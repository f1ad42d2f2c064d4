# What a recipe is, and the words printed about it.

include_guard(GLOBAL)

# rondo_recipe(<name>
#   VERSION <min>[...<max>]     what Rondo accepts, as find_package() writes it
#   LATER <min>                 the next major version, if that is accepted too: packages take no range over several
#   REPOSITORY <url> TAG <tag>  the pinned upstream release
#   OPTIONS <var>=<value>...    cache variables for building that release as part of this build
#   SETUP <command>             called before the source tree is added, for options that depend on the machine
#   PACKAGE <deb>               the Debian package to ask for
#   KEEP <regex>                which of the packages it depends on are needed too
#   SUITES <suite>...           where to look for it: release, backports, unstable
#   FINISH <command>            called with the private prefix after unpacking
#   WHEEL <name>                instead of all that: the Python wheel that has it
#   INSTALL <text>              what to tell a user whose machine offers none of this
# )
function(rondo_recipe name)
  set(fields VERSION LATER REPOSITORY TAG SETUP PACKAGE KEEP FINISH WHEEL INSTALL OPTIONS SUITES)
  cmake_parse_arguments(PARSE_ARGV 1 recipe "" "VERSION;LATER;REPOSITORY;TAG;SETUP;PACKAGE;KEEP;FINISH;WHEEL;INSTALL"
                        "OPTIONS;SUITES")
  foreach(field IN LISTS fields)
    set_property(GLOBAL PROPERTY "RONDO_RECIPE_${name}_${field}" "${recipe_${field}}")
  endforeach()
  set_property(GLOBAL PROPERTY "RONDO_RECIPE_${name}" TRUE)
endfunction()

function(rondo_has_recipe name out)
  get_property(known GLOBAL PROPERTY "RONDO_RECIPE_${name}")
  set(${out} "${known}" PARENT_SCOPE)
endfunction()

function(rondo_recipe_field name field out)
  get_property(value GLOBAL PROPERTY "RONDO_RECIPE_${name}_${field}")
  set(${out} "${value}" PARENT_SCOPE)
endfunction()

# The caller's find_package() arguments, without those about failing, and with the recipe's version if there is none.
function(rondo_find_arguments name out)
  set(arguments ${ARGN})
  list(REMOVE_ITEM arguments REQUIRED QUIET)
  if(NOT arguments MATCHES "^[0-9]")
    rondo_recipe_field("${name}" VERSION version)
    list(PREPEND arguments ${version})
  endif()
  set(${out} "${arguments}" PARENT_SCOPE)
endfunction()

# Says once per configure what was chosen and why.
function(rondo_report name version text)
  get_property(said GLOBAL PROPERTY "RONDO_REPORTED_${name}")
  if(NOT said)
    message(STATUS "Rondo: ${name} ${version}: ${text}")
    set_property(GLOBAL PROPERTY "RONDO_REPORTED_${name}" TRUE)
  endif()
endfunction()

function(rondo_report_missing name why)
  rondo_recipe_field("${name}" VERSION version)
  rondo_recipe_field("${name}" INSTALL install)
  string(TOUPPER "${name}" upper)
  set(text "Rondo: no ${name} (${version}) to be had: none is installed, and ${why}. ${install} Or point "
           "CMAKE_PREFIX_PATH at an installed one, or FETCHCONTENT_SOURCE_DIR_${upper} at its source tree.")
  string(JOIN "" text ${text})
  if("REQUIRED" IN_LIST ARGN)
    message(FATAL_ERROR "${text}")
  else()
    rondo_report("${name}" "not found" "${why}")
  endif()
endfunction()

# Does `version` lie in `range`, written as <min> or <min>...<max> or <min>...<<max>?
function(rondo_version_accepted version range out)
  set(accepted TRUE)
  string(REGEX MATCH "^([0-9.]*[0-9])(\\.\\.\\.(<?)([0-9.]+))?$" matched "${range}")
  if(version VERSION_LESS CMAKE_MATCH_1)
    set(accepted FALSE)
  elseif(CMAKE_MATCH_4)
    if(version VERSION_GREATER CMAKE_MATCH_4 OR (CMAKE_MATCH_3 AND version VERSION_EQUAL CMAKE_MATCH_4))
      set(accepted FALSE)
    endif()
  endif()
  set(${out} ${accepted} PARENT_SCOPE)
endfunction()
