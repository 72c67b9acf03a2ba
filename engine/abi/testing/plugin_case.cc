// A small plugin that each test file is made of: CMakeLists.txt builds it many times, with one
// thing wrong each time.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include "engine/ext/nodes.h"
#include "engine/plugin.h"

#ifndef CASE_STRUCT_SIZE
#define CASE_STRUCT_SIZE sizeof(engine_plugin)
#endif
#ifndef CASE_MAGIC
#define CASE_MAGIC ENGINE_PLUGIN_MAGIC
#endif
#ifndef CASE_MAJOR
#define CASE_MAJOR ENGINE_ABI_MAJOR
#endif
#ifndef CASE_BUILT
#define CASE_BUILT ENGINE_ABI_MINOR
#endif
#ifndef CASE_MIN
#define CASE_MIN 0
#endif
#ifndef CASE_TIER
#define CASE_TIER ENGINE_TIER_NONE
#endif
#ifndef CASE_TORCH
#define CASE_TORCH 0
#endif
#ifndef CASE_FINGERPRINT
#define CASE_FINGERPRINT ""
#endif
#ifndef CASE_ID
#define CASE_ID "com.acme." CASE_NAME
#endif
#ifndef CASE_KIND
#define CASE_KIND CASE_NAME
#endif
#ifndef CASE_OPTIONS
#define CASE_OPTIONS ""
#endif
#ifndef CASE_SCHEMA
#define CASE_SCHEMA ""
#endif
#ifndef CASE_COUNT
#define CASE_COUNT 1
#endif
#ifndef CASE_KIND_SIZE
#define CASE_KIND_SIZE sizeof(engine_kind_desc)
#endif
#ifndef CASE_PORT_SIZE
#define CASE_PORT_SIZE sizeof(engine_port_desc)
#endif
#ifndef CASE_TABLE_SIZE
#define CASE_TABLE_SIZE sizeof(engine_nodes_plugin)
#endif
#ifndef CASE_DESCRIBE
#define CASE_DESCRIBE Describe
#endif
#ifndef CASE_CREATE
#define CASE_CREATE Create
#endif
#ifndef CASE_OPEN
#define CASE_OPEN Open
#endif
// Code that runs in a static constructor, in open(), describe() and close().
#ifndef CASE_AT_LOAD
#define CASE_AT_LOAD
#endif
#ifndef CASE_AT_OPEN
#define CASE_AT_OPEN
#endif
#ifndef CASE_AT_DESCRIBE
#define CASE_AT_DESCRIBE
#endif
#ifndef CASE_AT_CLOSE
#define CASE_AT_CLOSE
#endif

// What a case may put there.
#define CRASH                                   \
  std::fputs("acme: about to crash\n", stderr); \
  std::raise(SIGSEGV)
#define EXIT std::exit(3)
#define HANG \
  for (;;) usleep(1000)
#define THROW \
  if (getpid() != 0) throw std::runtime_error("no GPU")
#define FAIL return new OpenFailed
#define NO_KIND \
  if (getpid() != 0) return nullptr
#define GOOD "good"
#define TWO_WORDS "two words"
#define WILD reinterpret_cast<const char*>(uintptr_t{8})
#define OTHER_TORCH "torch=2.12.1;cxx11abi=1;gxxabi=1xxx;stdlib=libstdcxx"
#define NO_TORCH "torch=none"
#define NO_SCHEMA "this is no schema"
// file { name: "a.proto" package: "engine" message_type { name: "Node" } }
#define CLASHING_SCHEMA \
  "\n\x19\n\x07"        \
  "a.proto"             \
  "\x12\x06"            \
  "engine"              \
  "\x22\x06\n\x04"      \
  "Node"

#ifdef CASE_CALLS
extern "C" void CASE_CALLS();
#define CALL CASE_CALLS()
#else
#define CALL
#endif

#ifdef CASE_EXPORT
extern "C" __attribute__((visibility("default"))) int CASE_EXPORT() { return 1; }
#endif

namespace {

template <size_t N>
constexpr engine_str Literal(const char (&text)[N]) {
  return {text, N - 1};
}

struct AtLoad {
  AtLoad() { CASE_AT_LOAD; }
};
[[maybe_unused]] AtLoad at_load;

const engine_port_desc ports[] = {
    {CASE_PORT_SIZE, 0, Literal("TEXT"), Literal("engine.Text/1"), {}, {}, {}}};

[[maybe_unused]] const engine_kind_desc* Describe(void*, uint32_t) {
  CASE_AT_DESCRIBE;
  static const engine_kind_desc kind = [] {
    engine_kind_desc k = {};
    k.struct_size = CASE_KIND_SIZE;
    k.role = ENGINE_ROLE_NODE;
    k.name = Literal(CASE_KIND);
    k.options = Literal(CASE_OPTIONS);
    k.inputs = ports;
    k.input_count = 1;
    k.policies = k.default_policy = ENGINE_POLICY_JOIN;
    k.emission = ENGINE_EMIT_NONE;
    k.max_in_flight = 1;
    return k;
  }();
  return &kind;
}

[[maybe_unused]] engine_status* Create(void*, uint32_t, engine_str, engine_str,
                                       const engine_node_vtable**, void**) {
  return nullptr;
}

struct OpenFailed : engine_status {
  OpenFailed() : engine_status{} {
    struct_size = sizeof(engine_status);
    code = ENGINE_UNAVAILABLE;
    message = Literal("no licence key");
    destroy = [](engine_status* self) { delete static_cast<OpenFailed*>(self); };
  }
};

[[maybe_unused]] engine_status* Open(const engine_host*, void**) {
  CALL;
  CASE_AT_OPEN;
  return nullptr;
}

[[maybe_unused]] const void* Extension(void*, const char* id) {
  static const engine_nodes_plugin table = {CASE_TABLE_SIZE, CASE_COUNT, CASE_DESCRIBE,
                                            CASE_CREATE};
  for (const char *a = id, *b = ENGINE_EXT_NODES; *a == *b; ++a, ++b) {
    if (*a == '\0') return &table;
  }
  return nullptr;
}

[[maybe_unused]] constexpr char schema[] = CASE_SCHEMA;

}  // namespace

#ifndef CASE_NO_MANIFEST
extern const engine_plugin engine_plugin_v1 = {CASE_STRUCT_SIZE,
                                               CASE_MAGIC,
                                               CASE_MAJOR,
                                               CASE_BUILT,
                                               CASE_MIN,
                                               CASE_TIER,
                                               CASE_TORCH,
                                               CASE_FINGERPRINT,
                                               CASE_ID,
                                               "0.3.1",
                                               "MIT",
                                               "A case of the tests.",
                                               "",
                                               reinterpret_cast<const uint8_t*>(schema),
                                               sizeof schema - 1,
                                               CASE_OPEN,
                                               [](void*) { CASE_AT_CLOSE; },
                                               Extension};
#endif
