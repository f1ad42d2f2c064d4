# Runs a program of fault tests under mpiexec and reads what each process reported.
#   cmake -DLAUNCH=<command list> -DPROGRAM= -DARGUMENT= -DDIRECTORY= -DREPORTERS=<ranks> -DLIMIT=<seconds> -P run.cmake
# In place of ranks, "any <n>": n of them, whichever.

cmake_minimum_required(VERSION 3.25)

file(REMOVE_RECURSE "${DIRECTORY}")
file(MAKE_DIRECTORY "${DIRECTORY}")
execute_process(COMMAND ${LAUNCH} "${PROGRAM}" "${ARGUMENT}" "${DIRECTORY}" TIMEOUT ${LIMIT} RESULT_VARIABLE status
                OUTPUT_VARIABLE output ERROR_VARIABLE output)
set(complaints "")
if(REPORTERS MATCHES "^any ([0-9]+)$")
  set(needed ${CMAKE_MATCH_1})
  file(GLOB reports RELATIVE "${DIRECTORY}" "${DIRECTORY}/rank.*")
  list(LENGTH reports count)
  if(NOT count EQUAL needed)
    list(APPEND complaints "${count} reports instead of ${needed}")
  endif()
  list(TRANSFORM reports REPLACE "rank\\." "")
  set(REPORTERS ${reports})
endif()
foreach(rank IN LISTS REPORTERS)
  set(line "no report")
  if(EXISTS "${DIRECTORY}/rank.${rank}")
    file(READ "${DIRECTORY}/rank.${rank}" line)
    string(STRIP "${line}" line)
  endif()
  message("rank ${rank} | ${line}")
  if(NOT line MATCHES "^as needed")
    list(APPEND complaints ${rank})
  endif()
endforeach()
# What mpiexec says about processes that were killed on purpose counts for nothing; that it came to an end does.
if(complaints OR status MATCHES "timeout")
  message("${output}")
  message(FATAL_ERROR "not as needed: ${complaints}; mpiexec: ${status}")
endif()
