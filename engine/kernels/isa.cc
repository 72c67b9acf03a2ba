#include "engine/kernels/isa.h"

#if defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <atomic>
#include <fstream>

#include "engine/kernels/amx.h"

namespace engine::kernels {
namespace {

Isa Detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16")) {
    return Isa::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    return Isa::kAvx2;
  }
#endif
  return Isa::kPlain;
}

#if defined(__x86_64__)
// Linux: Documentation/arch/x86/xstate.rst. Threads of the process all get it.
bool AskForTiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-int8") &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

std::atomic<int>& Chosen() {
  static std::atomic<int> chosen{static_cast<int>(Detect())};
  return chosen;
}

}  // namespace

bool HasAmx() {
#if defined(__x86_64__)
  static const bool has = AskForTiles();
  return has;
#else
  return false;
#endif
}

Isa ActiveIsa() { return static_cast<Isa>(Chosen().load(std::memory_order_relaxed)); }

const char* IsaName(Isa isa) {
  switch (isa) {
    case Isa::kPlain:
      return "plain";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  return "unknown";
}

Status ForceIsa(const std::string& name) {
  for (Isa isa : {Isa::kPlain, Isa::kAvx2, Isa::kAvx512}) {
    if (name != IsaName(isa)) continue;
    if (isa > Detect()) {
      return Error(ENGINE_UNAVAILABLE, "this machine has no ", name, "; its best road is ",
                   IsaName(Detect()));
    }
    Chosen().store(static_cast<int>(isa));
    return Status();
  }
  return Error(ENGINE_INVALID_ARGUMENT, "'", name, "' is no road; there are plain, avx2, avx512");
}

std::string IsaReport() {
  std::string text = IsaName(ActiveIsa());
  std::ifstream in("/proc/cpuinfo");
  std::string line;
  while (std::getline(in, line)) {
    if (line.rfind("flags", 0) != 0) continue;
    line += ' ';
    std::string found;
    for (const char* flag : {"avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16"}) {
      if (line.find(std::string(" ") + flag + " ") == std::string::npos) continue;
      found += (found.empty() ? "" : ", ") + std::string(flag);
    }
    if (!found.empty()) text += " (" + found + ")";
    break;
  }
  return text;
}

}  // namespace engine::kernels
