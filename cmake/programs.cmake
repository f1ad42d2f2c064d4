# How Rondo's own programs (tests, benchmarks, examples) are compiled. Nothing here reaches a user of the library.

# Puts the program in <build tree>/bin, with warnings and, if asked for, code for one kind of processor.
function(rondo_program_settings target)
  rondo_host_arch_options(arch)
  target_compile_options(
    ${target}
    PRIVATE $<$<CXX_COMPILER_ID:GNU,Clang,AppleClang,IntelLLVM>:-Wall -Wextra -Wpedantic>
            $<$<BOOL:${RONDO_WERROR}>:-Werror>
            # What g++ 12 says of std::string's own code is not true (GCC's bug 105651).
            $<$<AND:$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>
            ${arch})
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin" CXX_EXTENSIONS OFF)
endfunction()
