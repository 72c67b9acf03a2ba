#include "engine/model/machine.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>

namespace engine::model {
namespace {

// "name: value kB" of a file in /proc, in bytes; 0 when it is not there.
uint64_t ProcKib(const char* file, const std::string& name) {
  std::ifstream in(file);
  std::string word;
  uint64_t kib = 0;
  while (in >> word) {
    if (word == name && in >> kib) return kib * 1024;
  }
  return 0;
}

uint64_t CgroupNumber(const char* file) {
  std::ifstream in(file);
  uint64_t value = 0;
  return in >> value ? value : UINT64_MAX;
}

}  // namespace

int CgroupCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cores = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0) cores = std::max(1, CPU_COUNT(&set));
  std::ifstream in("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (in >> quota >> period && quota != "max" && period > 0) {
    const double share = std::strtod(quota.c_str(), nullptr) / period;
    cores = std::min(cores, std::max(1, static_cast<int>(std::floor(share + 0.5))));
  }
  return cores;
}

uint64_t MemoryLimit() {
  uint64_t limit = std::min(CgroupNumber("/sys/fs/cgroup/memory.max"),
                            CgroupNumber("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
  if (const uint64_t available = ProcKib("/proc/meminfo", "MemAvailable:")) {
    limit = std::min(limit, available);
  }
  return limit;
}

}  // namespace engine::model
