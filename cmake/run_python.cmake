# Runs a Python script with some packages, see python.cmake.
#   cmake -DPYTHON= -DENVIRONMENT= -DREQUIREMENTS=a,b -P run_python.cmake -- <script> <argument>...

cmake_minimum_required(VERSION 3.25)

set(command "")
set(in_command FALSE)
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(i RANGE ${last})
  if(in_command)
    list(APPEND command "${CMAKE_ARGV${i}}")
  elseif(CMAKE_ARGV${i} STREQUAL "--")
    set(in_command TRUE)
  endif()
endforeach()

string(REPLACE "," ";" packages "${REQUIREMENTS}")
string(REGEX REPLACE "[<>=!~][^,]*" "" modules "${REQUIREMENTS}")

function(can_import python out)
  execute_process(COMMAND "${python}" -c "import ${modules}" RESULT_VARIABLE status OUTPUT_QUIET ERROR_QUIET)
  string(COMPARE EQUAL "${status}" "0" ready)
  set(${out} ${ready} PARENT_SCOPE)
endfunction()

set(ready FALSE)
if(PYTHON)
  can_import("${PYTHON}" ready)
  if(NOT ready)
    set(own "${ENVIRONMENT}/bin/python3")
    can_import("${own}" ready)
    if(NOT ready)
      message("Preparing Python with ${REQUIREMENTS} in ${ENVIRONMENT}")
      execute_process(COMMAND "${PYTHON}" -m venv "${ENVIRONMENT}" OUTPUT_QUIET ERROR_VARIABLE error)
      execute_process(COMMAND "${own}" -m pip install --quiet --disable-pip-version-check ${packages}
                      TIMEOUT 300 OUTPUT_QUIET ERROR_VARIABLE error)
      can_import("${own}" ready)
    endif()
    set(PYTHON "${own}")
  endif()
endif()

if(NOT ready)
  string(JOIN " " text ${command})
  message("Skipped (no Python with ${REQUIREMENTS}, and none could be prepared): ${text}")
  return()
endif()
# Plots go to files: no display is asked for.
set(ENV{MPLBACKEND} Agg)
execute_process(COMMAND "${PYTHON}" ${command} RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "${PYTHON} ended with ${status}")
endif()
