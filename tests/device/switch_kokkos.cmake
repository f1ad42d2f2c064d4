# A copy of Kokkos' headers in which a device is switched on, to compile device code where Kokkos was built for the host
# alone. Nothing that is compiled with it can be linked or run.
#   cmake -DFROM=<include folder> -DTO=<folder> -DBACKEND=CUDA|HIP -DARCH=<sm_80, sm_90a, gfx90a, ...> -P switch_kokkos.cmake

set(more "")
if(BACKEND STREQUAL "CUDA")
  set(cuda_names 70 VOLTA 75 TURING 80 AMPERE 86 AMPERE 89 ADA 90 HOPPER 100 BLACKWELL)
  string(REGEX MATCH "^sm_([0-9]+)" matched "${ARCH}")
  set(number "${CMAKE_MATCH_1}")
  list(FIND cuda_names "${number}" at)
  if(number STREQUAL "" OR at EQUAL -1)
    message(FATAL_ERROR "switch_kokkos: ARCH is ${ARCH}, it must be sm_ and one of 70 75 80 86 89 90 100")
  endif()
  math(EXPR at "${at} + 1")
  list(GET cuda_names ${at} name)
  set(on KOKKOS_ENABLE_CUDA KOKKOS_ENABLE_CUDA_LAMBDA KOKKOS_ARCH_${name} "KOKKOS_ARCH_${name}${number}"
         "KOKKOS_IMPL_ARCH_NVIDIA_GPU ${number}")
  set(setup Cuda)
elseif(BACKEND STREQUAL "HIP")
  string(TOUPPER "${ARCH}" name)
  set(on KOKKOS_ENABLE_HIP "KOKKOS_ARCH_AMD_${name}" "KOKKOS_ARCH_AMD_GPU \"${ARCH}\"")
  set(setup HIP)
else()
  message(FATAL_ERROR "switch_kokkos: BACKEND is ${BACKEND}, it must be CUDA or HIP")
endif()

file(REMOVE_RECURSE "${TO}")
file(COPY "${FROM}/" DESTINATION "${TO}")

# Puts text before the first match of a pattern, which must be there.
function(insert_before file pattern text)
  file(READ "${TO}/${file}" content)
  if(NOT content MATCHES "${pattern}")
    message(FATAL_ERROR "switch_kokkos: ${FROM}/${file} is not as expected: nothing in it matches ${pattern}")
  endif()
  string(FIND "${content}" "${CMAKE_MATCH_0}" at)
  string(SUBSTRING "${content}" 0 ${at} head)
  string(SUBSTRING "${content}" ${at} -1 tail)
  file(WRITE "${TO}/${file}" "${head}${text}${tail}")
endfunction()

list(TRANSFORM on PREPEND "#define ")
list(JOIN on "\n" defines)
insert_before(KokkosCore_config.h "/\\* General Settings \\*/" "${defines}\n\n")
insert_before(desul/atomics/Config.hpp "#endif[^#]*$" "#define DESUL_ATOMICS_ENABLE_${BACKEND}\n")
# The device's last: what it declares may need the host's.
insert_before(KokkosCore_Config_FwdBackend.hpp "#endif[^#]*$" "#include <fwd/Kokkos_Fwd_${BACKEND}.hpp>\n")
insert_before(KokkosCore_Config_DeclareBackend.hpp "#endif[^#]*$" "#include <decl/Kokkos_Declare_${BACKEND}.hpp>\n")
insert_before(KokkosCore_Config_SetupBackend.hpp "#endif[^#]*$" "#include <setup/Kokkos_Setup_${setup}.hpp>\n")
