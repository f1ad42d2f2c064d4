# rondo_component(<name> <wanted> <target>...): makes Rondo::<name>, the core with those targets linked, if wanted.
# Sets RONDO_COMPONENTS, the list of those that were made.
function(rondo_component name wanted)
  if(NOT wanted)
    return()
  endif()
  add_library(rondo_${name} INTERFACE)
  add_library(Rondo::${name} ALIAS rondo_${name})
  set_target_properties(rondo_${name} PROPERTIES EXPORT_NAME ${name})
  target_link_libraries(rondo_${name} INTERFACE rondo ${ARGN})
  list(APPEND RONDO_COMPONENTS ${name})
  set(RONDO_COMPONENTS "${RONDO_COMPONENTS}" PARENT_SCOPE)
endfunction()
