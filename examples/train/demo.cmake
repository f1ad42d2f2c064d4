# `demo`, in Rondo's own build: trains with the defaults of the program, which are 4 ranks and a context of 8192, and
# draws what came of it.
set(demo_directory "${CMAKE_CURRENT_BINARY_DIR}/../../demo")
cmake_path(NORMAL_PATH demo_directory)
file(MAKE_DIRECTORY "${demo_directory}")
rondo_python_environment(OUT_VAR demo_python REQUIREMENTS matplotlib)
add_custom_target(
  demo
  COMMAND train --metrics "${demo_directory}/train.jsonl" --checkpoint "${demo_directory}/train.checkpoint"
  COMMAND ${demo_python} "${CMAKE_CURRENT_SOURCE_DIR}/../plot/plot.py" --output "${demo_directory}/train.png"
          "4 ranks=${demo_directory}/train.jsonl"
  WORKING_DIRECTORY "${demo_directory}"
  COMMENT "Training a transformer whose context is spread over four ranks; then drawing how it went"
  USES_TERMINAL VERBATIM)
add_dependencies(demo demo-programs)
