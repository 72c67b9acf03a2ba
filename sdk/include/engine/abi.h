/* The base of the C ABI: types that may cross between the engine and a plugin, and the rules
 * that hold for every function of every header below this folder.
 *
 *  1. Inputs are borrowed for the call. Whoever wants to keep one copies it, or retains it where
 *     its type has a retain function.
 *  2. Outputs are handed over: the caller owns what a call returned through an out-parameter and
 *     releases it with the function that its type names.
 *  3. Every function answers an engine_status*, and NULL means success. Nothing throws: an
 *     exception must not leave the library that raised it.
 *  4. Text is UTF-8, a pointer and a length, not zero-terminated unless a comment says so.
 *  5. Structs grow at the tail only. The first member is the size that the maker knew; a reader
 *     asks ENGINE_HAS before it touches a member that was added later. In an array of structs one
 *     follows the other at the distance of that size, so reach them by ENGINE_AT. A struct that the
 *     caller allocates and the callee fills has its size set by the caller: the callee writes no
 *     more than that, and zeroes what it does not know. engine_str never grows.
 *  6. A thread tag stands in each comment. [control]: the thread that builds or tears down a
 *     pipeline, one call at a time. [worker]: a thread of an executor, never two at once for one
 *     instance unless its contract raises max_in_flight. [any]: any thread, at any time.
 *
 * C11 and C++; includes nothing but the two fixed-width headers.
 */
#ifndef ENGINE_ABI_H_
#define ENGINE_ABI_H_

#include <stddef.h>
#include <stdint.h>

#define ENGINE_ABI_VERSION(major, minor) ((major)*1000 + (minor))
#define ENGINE_ABI_MAJOR 1
#define ENGINE_ABI_MINOR 1

/* The oldest host that must be able to load what is compiled: declarations that came later are
 * hidden, so that a plugin cannot need what that host lacks. It becomes the manifest's abi_min.
 * Set by engine_plugin(... ABI_TARGET 1.0) of the SDK's CMake package. */
#ifndef ENGINE_ABI_TARGET
#define ENGINE_ABI_TARGET ENGINE_ABI_VERSION(ENGINE_ABI_MAJOR, ENGINE_ABI_MINOR)
#endif
#if ENGINE_ABI_TARGET < ENGINE_ABI_VERSION(ENGINE_ABI_MAJOR, 0) || \
    ENGINE_ABI_TARGET > ENGINE_ABI_VERSION(ENGINE_ABI_MAJOR, ENGINE_ABI_MINOR)
#error "ENGINE_ABI_TARGET is no version of this SDK: see ENGINE_ABI_VERSION in engine/abi.h"
#endif

#ifdef __cplusplus
#define ENGINE_EXTERN_C extern "C"
extern "C" {
#else
#define ENGINE_EXTERN_C extern
#endif

#define ENGINE_EXPORT ENGINE_EXTERN_C __attribute__((visibility("default")))

/* True when the struct that `p` points to is large enough to hold `field`. */
#define ENGINE_HAS(p, field) \
  ((p)->struct_size >= offsetof(__typeof__(*(p)), field) + sizeof((p)->field))

/* Element `i` of an array of structs whose first member is their size. */
#define ENGINE_AT(array, i)                                \
  ((__typeof__(array))(const void*)((const char*)(array) + \
                                    (size_t)(i) * (size_t)(array)->struct_size))

/* Borrowed UTF-8 text or bytes. `data` may be NULL only when `size` is 0. */
typedef struct engine_str {
  const char* data;
  size_t size;
} engine_str;

/* Codes follow google.rpc.Code in meaning and number, so that HTTP and gRPC mappings are known. */
typedef enum engine_code {
  ENGINE_OK = 0,
  ENGINE_CANCELLED = 1,
  ENGINE_UNKNOWN = 2,
  ENGINE_INVALID_ARGUMENT = 3,
  ENGINE_DEADLINE_EXCEEDED = 4,
  ENGINE_NOT_FOUND = 5,
  ENGINE_ALREADY_EXISTS = 6,
  ENGINE_PERMISSION_DENIED = 7,
  ENGINE_RESOURCE_EXHAUSTED = 8,
  ENGINE_FAILED_PRECONDITION = 9,
  ENGINE_ABORTED = 10,
  ENGINE_OUT_OF_RANGE = 11,
  ENGINE_UNIMPLEMENTED = 12,
  ENGINE_INTERNAL = 13,
  ENGINE_UNAVAILABLE = 14,
  ENGINE_DATA_LOSS = 15
} engine_code;

/* The one error type. Its maker allocates it; whoever holds it ends it by destroy(status).
 * `plugin` and `node` may be empty when the maker does not know them; the host fills them in. */
typedef struct engine_status {
  uint32_t struct_size;
  int32_t code; /* engine_code, never ENGINE_OK */
  engine_str message;
  engine_str plugin;
  engine_str node;
  void (*destroy)(struct engine_status* self); /* [any] */
} engine_status;

/* Element types of tensors; the numbers are those of c10::ScalarType. */
typedef enum engine_dtype {
  ENGINE_U8 = 0,
  ENGINE_I8 = 1,
  ENGINE_I16 = 2,
  ENGINE_I32 = 3,
  ENGINE_I64 = 4,
  ENGINE_F16 = 5,
  ENGINE_F32 = 6,
  ENGINE_F64 = 7,
  ENGINE_BF16 = 15
} engine_dtype;

#ifdef __cplusplus
}
#endif
#endif /* ENGINE_ABI_H_ */
