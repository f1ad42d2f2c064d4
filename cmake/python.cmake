# rondo_python_environment(OUT_VAR <variable> REQUIREMENTS <package>...)
#   sets the variable to a command that runs a Python script with those packages: `COMMAND ${variable} plot.py a b`.
#   Nothing is looked for before the command runs, in the build. Then: the machine's Python, if it can import the
#   packages; else a virtual environment in the build tree, made by pip on first use. If neither can be had the command
#   says that the script is skipped, and succeeds.

function(rondo_python_environment)
  cmake_parse_arguments(PARSE_ARGV 0 python "" "OUT_VAR" "REQUIREMENTS")
  find_package(Python3 QUIET COMPONENTS Interpreter)
  string(REPLACE ";" "," requirements "${python_REQUIREMENTS}")
  set(${python_OUT_VAR}
      "${CMAKE_COMMAND}" "-DPYTHON=${Python3_EXECUTABLE}" "-DENVIRONMENT=${PROJECT_BINARY_DIR}/python"
      "-DREQUIREMENTS=${requirements}" -P "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/run_python.cmake" --
      PARENT_SCOPE)
endfunction()
