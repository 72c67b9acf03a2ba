# Compiler flags, launcher and linker: ccache, and mold or lld, are used when they are there.
find_program(ENGINE_CCACHE ccache)
if(ENGINE_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${ENGINE_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${ENGINE_CCACHE})
endif()
foreach(linker mold lld)
  find_program(ENGINE_LINKER_${linker} NAMES ${linker} ld.${linker})
  if(ENGINE_LINKER_${linker} AND NOT ENGINE_SANITIZE)
    add_link_options(-fuse-ld=${linker})
    break()
  endif()
endforeach()

add_library(engine_warnings INTERFACE)
target_compile_options(engine_warnings INTERFACE -Wall -Wextra -Wconversion -Wno-sign-conversion
                                                 -Werror)
if(ENGINE_ABI_NEXT_MINOR)
  # Initializers were written before the members that the rehearsal adds.
  target_compile_options(engine_warnings INTERFACE -Wno-missing-field-initializers)
endif()

if(ENGINE_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-omit-frame-pointer
                      -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=address,undefined)
elseif(ENGINE_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread)
  add_link_options(-fsanitize=thread)
elseif(ENGINE_SANITIZE STREQUAL "fuzzer")
  # libFuzzer, with clang, whose warnings are not those that this code is kept free of.
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-omit-frame-pointer
                      -fno-sanitize-recover=undefined)
  add_link_options(-fsanitize=address,undefined)
  set_target_properties(engine_warnings PROPERTIES INTERFACE_COMPILE_OPTIONS "-w")
elseif(ENGINE_SANITIZE STREQUAL "coverage")
  # The same targets, counted instead of checked: which branches a corpus takes.
  add_compile_options(-fsanitize=fuzzer-no-link -fprofile-instr-generate -fcoverage-mapping)
  add_link_options(-fprofile-instr-generate)
  set_target_properties(engine_warnings PROPERTIES INTERFACE_COMPILE_OPTIONS "-w")
elseif(ENGINE_SANITIZE)
  message(FATAL_ERROR "ENGINE_SANITIZE is '${ENGINE_SANITIZE}'; it can be address, thread, fuzzer "
                      "or coverage")
endif()
