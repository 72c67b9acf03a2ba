# find_package(EngineSDK): the target engine_sdk and the function engine_plugin(). For TIER STABLE
# and NATIVE set LIBTORCH (a folder with include/) or have Torch_DIR found.
get_filename_component(ENGINE_SDK_PREFIX "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
add_library(engine_sdk INTERFACE IMPORTED)
set_target_properties(engine_sdk PROPERTIES INTERFACE_INCLUDE_DIRECTORIES
                                            "${ENGINE_SDK_PREFIX}/include")
set(ENGINE_PROTOC_GEN "${ENGINE_SDK_PREFIX}/bin/protoc-gen-engine")
set(ENGINE_SDK_PROTO_DIR "${ENGINE_SDK_PREFIX}/share/engine/proto")
set(ENGINE_SDK_VERSION_SCRIPT "${CMAKE_CURRENT_LIST_DIR}/plugin.map")
if(NOT TORCH_INCLUDE_DIRS)
  if(NOT LIBTORCH AND DEFINED ENV{LIBTORCH})
    set(LIBTORCH "$ENV{LIBTORCH}")
  endif()
  if(LIBTORCH)
    set(TORCH_INCLUDE_DIRS "${LIBTORCH}/include"
                           "${LIBTORCH}/include/torch/csrc/api/include")
  endif()
endif()
include("${CMAKE_CURRENT_LIST_DIR}/EnginePlugin.cmake")
