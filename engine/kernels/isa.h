// Which instruction set the kernels run on, found at start. Each road gives the same bits at every
// number of rows and threads; roads differ among each other in the last bits of float results only.
#ifndef ENGINE_KERNELS_ISA_H_
#define ENGINE_KERNELS_ISA_H_

#include <string>

#include "engine/status.hpp"

namespace engine::kernels {

enum class Isa {
  kPlain,   // no vectors assumed
  kAvx2,    // AVX2 and FMA
  kAvx512,  // AVX512 F, BW, VL, DQ, VNNI and BF16
};

// The best one that this machine has, unless ForceIsa said otherwise.
Isa ActiveIsa();
// "plain", "avx2" or "avx512"; refused when the machine lacks it. Before the first matrix is
// packed.
Status ForceIsa(const std::string& name);
const char* IsaName(Isa isa);
// All that matters for speed, for a report: "avx512 (vnni, bf16, amx-int8, amx-bf16)".
std::string IsaReport();

}  // namespace engine::kernels

#endif  // ENGINE_KERNELS_ISA_H_
