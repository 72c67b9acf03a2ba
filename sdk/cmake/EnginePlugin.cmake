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
# engine_plugin_test(NAME PLUGIN target CASES file.pbtxt)
#
# A test of ctest: `engine plugin test` runs the cases of the file in the real host, which brings
# LibTorch; for all tiers, nodes, resources and transforms.
#
# engine_plugin_test(NAME PLUGIN target SOURCES test.cc ...)
#
# A test program of engine/testing.hpp, with the plugin's sources compiled into it; for tier NONE,
# since no LibTorch is linked.
#
# engine_plugin_check(NAME PLUGIN target)
#
# A test of ctest: `engine plugin check`, the conformance run.
#
# Uses ENGINE_PROTOC_GEN (target or path of protoc-gen-engine), ENGINE_SDK_PROTO_DIR,
# ENGINE_SDK_VERSION_SCRIPT, ENGINE_BINARY (target or path of engine).
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
  set_target_properties(${name} PROPERTIES ENGINE_TIER ${arg_TIER})
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

# The command that runs the engine with these words, as a test.
function(engine_plugin_run_ name)
  if(TARGET ${ENGINE_BINARY})
    set(binary $<TARGET_FILE:${ENGINE_BINARY}>)
  else()
    set(binary ${ENGINE_BINARY})
  endif()
  add_test(NAME ${name} COMMAND ${binary} ${ARGN})
  set_tests_properties(${name} PROPERTIES TIMEOUT 300)
endfunction()

function(engine_plugin_test name)
  cmake_parse_arguments(arg "" "PLUGIN;CASES" "SOURCES" ${ARGN})
  if(NOT TARGET "${arg_PLUGIN}" OR (NOT arg_CASES AND NOT arg_SOURCES) OR (arg_CASES AND arg_SOURCES))
    message(FATAL_ERROR "engine_plugin_test(${name}): it takes PLUGIN, a target of engine_plugin(), and "
                        "either CASES or SOURCES")
  endif()
  if(arg_CASES)
    get_filename_component(cases ${arg_CASES} ABSOLUTE)
    engine_plugin_run_(${name} plugin test $<TARGET_FILE:${arg_PLUGIN}> ${cases})
    return()
  endif()
  get_target_property(tier ${arg_PLUGIN} ENGINE_TIER)
  if(NOT tier STREQUAL "NONE")
    message(FATAL_ERROR "engine_plugin_test(${name}): ${arg_PLUGIN} is of tier ${tier}, and a test "
                        "program has no LibTorch; give CASES, which the engine runs")
  endif()
  get_target_property(folder ${arg_PLUGIN} SOURCE_DIR)
  get_target_property(sources ${arg_PLUGIN} SOURCES)
  set(all ${arg_SOURCES})
  foreach(source ${sources})
    get_filename_component(source ${source} ABSOLUTE BASE_DIR ${folder})
    list(APPEND all ${source})
  endforeach()
  find_package(Threads REQUIRED)
  add_executable(${name} ${all})
  # What is generated for the plugin is generated once.
  add_dependencies(${name} ${arg_PLUGIN})
  set_target_properties(${name} PROPERTIES CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS OFF)
  # Made more often than it is run.
  target_compile_options(${name} PRIVATE -O0)
  foreach(property INCLUDE_DIRECTORIES COMPILE_DEFINITIONS)
    set_property(TARGET ${name} PROPERTY ${property} $<TARGET_PROPERTY:${arg_PLUGIN},${property}>)
  endforeach()
  target_link_libraries(${name} PRIVATE $<TARGET_PROPERTY:${arg_PLUGIN},LINK_LIBRARIES> engine_sdk
                                        Threads::Threads)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT 60)
endfunction()

function(engine_plugin_check name)
  cmake_parse_arguments(arg "" "PLUGIN" "" ${ARGN})
  if(NOT TARGET "${arg_PLUGIN}")
    message(FATAL_ERROR "engine_plugin_check(${name}): it takes PLUGIN, a target of engine_plugin()")
  endif()
  engine_plugin_run_(${name} plugin check $<TARGET_FILE:${arg_PLUGIN}>)
endfunction()
