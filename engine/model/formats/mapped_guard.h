// What a program does when a file shrinks while its bytes are mapped. The system answers a look at
// a byte that is gone with SIGBUS, in whichever thread it was and in the middle of a computation
// whose result is then worthless: there is nothing to go on with, but the file can be named.
// Invariant: what the handler reads is never freed, and it calls what may be called in one alone.
#ifndef ENGINE_MODEL_FORMATS_MAPPED_GUARD_H_
#define ENGINE_MODEL_FORMATS_MAPPED_GUARD_H_

#include <cstdint>
#include <string>

namespace engine::model {

// Any thread. A fault inside [begin, begin + size) is one of `path`, until it is forgotten, which
// must be before the bytes are unmapped.
void WatchMapping(const void* begin, uint64_t size, const std::string& path);
void ForgetMapping(const void* begin);

// From now on a fault in a watched mapping is told on standard error, and ends the process with
// `exit_code`. Any other fault is answered as before. For programs, at their start.
void ExitOnCutFile(int exit_code);

}  // namespace engine::model

#endif  // ENGINE_MODEL_FORMATS_MAPPED_GUARD_H_
