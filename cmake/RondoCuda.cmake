# What Rondo's headers need of nvcc.

include_guard(GLOBAL)

# rondo_cuda_options(<variable>): nvcc's options for code that includes Rondo, where Kokkos computes by nvcc; else none. Without
# this one nvcc warns that device code may not call constexpr functions of the host, such as the standard library's.
function(rondo_cuda_options out)
  set(options "")
  if(Kokkos_ENABLE_CUDA AND (Kokkos_CXX_COMPILER_ID STREQUAL "NVIDIA" OR KOKKOS_CXX_COMPILER_ID STREQUAL "NVIDIA"))
    set(options "$<$<COMPILE_LANGUAGE:CXX,CUDA>:--expt-relaxed-constexpr>")
  endif()
  set(${out} "${options}" PARENT_SCOPE)
endfunction()
