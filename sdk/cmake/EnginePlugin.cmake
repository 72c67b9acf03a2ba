# engine_plugin(NAME SOURCES ... [OPTIONS options.proto] [TIER NONE|STABLE|NATIVE]
#               [ABI_TARGET MAJOR.MINOR] [OUTPUT_DIR dir])
#
# A shared library NAME.so that exports engine_plugin_v1 and nothing else. OPTIONS names the one
# source of the plugin's options: the header "<name of the file>.engine.hpp" is made from it. TIER
# STABLE compiles against LibTorch's stable ABI headers (TORCH_INCLUDE_DIRS, set by the SDK's
# package or the engine's own build) without linking LibTorch: the host brings it. NATIVE compiles
# against all of its headers. ABI_TARGET is the oldest host that must be able to load the plugin:
# what came later is hidden from it, and it runs in every host from there on; by default it is this
# SDK's own version.
#
# Uses ENGINE_PROTOC_GEN (target or path of protoc-gen-engine), ENGINE_SDK_PROTO_DIR,
# ENGINE_SDK_VERSION_SCRIPT.
function(engine_plugin name)
  cmake_parse_arguments(arg "" "OPTIONS;TIER;ABI_TARGET;OUTPUT_DIR" "SOURCES;DEPS" ${ARGN})
  if(NOT arg_TIER)
    set(arg_TIER NONE)
  endif()
  add_library(${name} MODULE ${arg_SOURCES})
  set_target_properties(
    ${name} PROPERTIES PREFIX "" CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
                       CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF
                       # What a plugin needs is there already when the host loads it.
                       SKIP_BUILD_RPATH ON INSTALL_RPATH "")
  if(arg_OUTPUT_DIR)
    set_target_properties(${name} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${arg_OUTPUT_DIR})
  endif()
  if(arg_ABI_TARGET)
    if(NOT arg_ABI_TARGET MATCHES "^([0-9]+)\\.([0-9]+)$")
      message(FATAL_ERROR "engine_plugin(${name}): ABI_TARGET is '${arg_ABI_TARGET}'; it looks like 1.0")
    endif()
    target_compile_definitions(
      ${name} PRIVATE "ENGINE_ABI_TARGET=ENGINE_ABI_VERSION(${CMAKE_MATCH_1}, ${CMAKE_MATCH_2})")
  endif()
  target_link_libraries(${name} PRIVATE engine_sdk ${arg_DEPS})
  target_link_options(${name} PRIVATE -Wl,--version-script=${ENGINE_SDK_VERSION_SCRIPT})
  set_property(TARGET ${name} APPEND PROPERTY LINK_DEPENDS ${ENGINE_SDK_VERSION_SCRIPT})

  if(NOT arg_TIER STREQUAL "NONE" AND NOT TORCH_INCLUDE_DIRS)
    message(FATAL_ERROR "engine_plugin(${name}): TIER ${arg_TIER} needs the headers of LibTorch; set "
                        "LIBTORCH to a folder with include/")
  endif()
  if(arg_TIER STREQUAL "STABLE")
    if(NOT DEFINED ENGINE_TORCH_TARGET)
      # 2.13: the first release that has every function the headers of the SDK use.
      set(ENGINE_TORCH_TARGET 0x020d000000000000)
    endif()
    target_compile_definitions(${name} PRIVATE TORCH_TARGET_VERSION=${ENGINE_TORCH_TARGET}
                                               TORCH_STABLE_ONLY)
    target_include_directories(${name} SYSTEM PRIVATE ${TORCH_INCLUDE_DIRS})
  elseif(arg_TIER STREQUAL "NATIVE")
    target_include_directories(${name} SYSTEM PRIVATE ${TORCH_INCLUDE_DIRS})
    target_compile_definitions(${name} PRIVATE ENGINE_TIER_IS_NATIVE)
  elseif(NOT arg_TIER STREQUAL "NONE")
    message(FATAL_ERROR "engine_plugin(${name}): TIER is '${arg_TIER}'; it can be NONE, STABLE or "
                        "NATIVE")
  endif()

  if(arg_OPTIONS)
    get_filename_component(proto ${arg_OPTIONS} ABSOLUTE)
    get_filename_component(folder ${proto} DIRECTORY)
    get_filename_component(base ${proto} NAME_WE)
    # The file is known to protobuf as <plugin>/<file>, so that two plugins may both have an
    # options.proto.
    set(out ${CMAKE_CURRENT_BINARY_DIR}/${name}.gen)
    file(MAKE_DIRECTORY ${out}/${name})
    if(TARGET ${ENGINE_PROTOC_GEN})
      set(generator $<TARGET_FILE:${ENGINE_PROTOC_GEN}>)
    else()
      set(generator ${ENGINE_PROTOC_GEN})
    endif()
    find_program(ENGINE_PROTOC protoc REQUIRED)
    add_custom_command(
      OUTPUT ${out}/${name}/${base}.engine.hpp
      COMMAND ${CMAKE_COMMAND} -E copy_if_different ${proto} ${out}/${name}/${base}.proto
      COMMAND ${ENGINE_PROTOC} --plugin=protoc-gen-engine=${generator} -I${out}
              -I${ENGINE_SDK_PROTO_DIR} --engine_out=${out} ${name}/${base}.proto
      DEPENDS ${proto} ${ENGINE_PROTOC_GEN}
      COMMENT "Options of ${name}"
      VERBATIM)
    target_sources(${name} PRIVATE ${out}/${name}/${base}.engine.hpp)
    target_include_directories(${name} PRIVATE ${out}/${name})
  endif()
endfunction()
