// The host's I/O threads: where blocking reads and writes happen, so that no worker waits, and one
// thread for timers, so that those wait for no read.
// Invariant: threads are started when work comes that no idle one could take, up to kMostIoThreads,
// and end with the process.
#ifndef ENGINE_RUNTIME_IO_POOL_H_
#define ENGINE_RUNTIME_IO_POOL_H_

#include <cstdint>
#include <functional>

namespace engine::runtime {

// Some of them may be taken for as long as a server runs.
inline constexpr uint32_t kMostIoThreads = 16;

void RunOnIo(std::function<void()> body);
// `body` must not block: it runs on the only thread that timers have.
void AfterOnIo(uint64_t nanoseconds, std::function<void()> body);

}  // namespace engine::runtime

#endif  // ENGINE_RUNTIME_IO_POOL_H_
