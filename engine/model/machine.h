// What this process may use: cores and memory as the cgroup gives them.
#ifndef ENGINE_MODEL_MACHINE_H_
#define ENGINE_MODEL_MACHINE_H_

#include <cstdint>

namespace engine::model {

int CgroupCores();
// Least of the cgroup's limit and what the machine has available; UINT64_MAX when unknown.
uint64_t MemoryLimit();

}  // namespace engine::model

#endif  // ENGINE_MODEL_MACHINE_H_
