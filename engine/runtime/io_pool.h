// The host's I/O threads: where blocking reads and writes happen, so that no worker waits, and one
// thread for timers, so that those wait for no read.
// Invariant: threads are started at the first use and joined at exit of the process only.
#ifndef ENGINE_RUNTIME_IO_POOL_H_
#define ENGINE_RUNTIME_IO_POOL_H_

#include <cstdint>
#include <functional>

namespace engine::runtime {

inline constexpr uint32_t kIoThreads = 2;

void RunOnIo(std::function<void()> body);
// `body` must not block: it runs on the only thread that timers have.
void AfterOnIo(uint64_t nanoseconds, std::function<void()> body);

}  // namespace engine::runtime

#endif  // ENGINE_RUNTIME_IO_POOL_H_
