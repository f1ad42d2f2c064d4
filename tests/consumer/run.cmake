# Configures and builds a project from scratch, its target BUILD_TARGET or everything, and looks for EXPECT in what all
# of that printed; with no EXPECT it has to succeed. REJECT is a text that must not be there.
#   cmake -DSOURCE= -DBINARY= -DBUILD_TARGET= -DPREFIX_PATH= -DOPTIONS= -DCOMPILER= -DFLAGS= -DGENERATOR= -DEXPECT=
#         -DREJECT= -P run.cmake

cmake_minimum_required(VERSION 3.25)

file(REMOVE_RECURSE "${BINARY}")
execute_process(
  COMMAND "${CMAKE_COMMAND}" -S "${SOURCE}" -B "${BINARY}" -G "${GENERATOR}" "-DCMAKE_PREFIX_PATH=${PREFIX_PATH}"
          "-DCMAKE_CXX_COMPILER=${COMPILER}" "-DCMAKE_CXX_FLAGS=${FLAGS}" -DCMAKE_BUILD_TYPE=Release ${OPTIONS}
  RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
if(status EQUAL 0)
  set(target all)
  if(BUILD_TARGET)
    set(target ${BUILD_TARGET})
  endif()
  execute_process(COMMAND "${CMAKE_COMMAND}" --build "${BINARY}" --target ${target} --config Release
                  RESULT_VARIABLE status OUTPUT_VARIABLE more ERROR_VARIABLE more)
  string(APPEND output "${more}")
endif()

message("${output}")
# CMake wraps long messages: compare without regard to line ends.
string(REGEX REPLACE "[ \n]+" " " flat "${output}")
if(REJECT)
  string(FIND "${flat}" "${REJECT}" found)
  if(NOT found EQUAL -1)
    message(FATAL_ERROR "expected not to see: ${REJECT}")
  endif()
endif()
if(EXPECT)
  string(FIND "${flat}" "${EXPECT}" found)
  if(found EQUAL -1)
    message(FATAL_ERROR "expected to see: ${EXPECT}")
  endif()
elseif(NOT status EQUAL 0)
  message(FATAL_ERROR "failed with ${status}")
endif()
