// The host's I/O threads: where blocking reads, writes and timers happen, so that no worker waits.
// Invariant: threads are started at the first use and joined at exit of the process only.
#ifndef ENGINE_RUNTIME_IO_POOL_H_
#define ENGINE_RUNTIME_IO_POOL_H_

#include <cstdint>
#include <functional>

namespace engine::runtime {

inline constexpr uint32_t kIoThreads = 2;

void RunOnIo(std::function<void()> body);
void AfterOnIo(uint64_t nanoseconds, std::function<void()> body);

}  // namespace engine::runtime

#endif  // ENGINE_RUNTIME_IO_POOL_H_
