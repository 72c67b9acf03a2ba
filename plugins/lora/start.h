// The values that a new branch begins with.
#ifndef PLUGINS_LORA_START_H_
#define PLUGINS_LORA_START_H_

#include <cstdint>
#include <string>

#include "engine/status.hpp"
#include "engine/torch_ops.h"

namespace engine::lora {

// A [rank, in] named `param`, uniform in ±1/sqrt(in): Kaiming with a = sqrt(5), as PEFT's. Each
// element's draw depends on the seed, the name and its index alone.
ops::Tensor UniformA(uint64_t seed, const std::string& param, int64_t rank, int64_t in,
                     uint32_t dtype);

// PiSSA (Meng et al. 2024, arXiv:2404.02948): scale * B·A is the best approximation of w [out, in]
// of that rank, by its greatest singular values, each half having their roots. What is left of the
// weight is `rest`. INVALID_ARGUMENT when the rank exceeds the lesser side of w.
struct Principal {
  ops::Tensor a, b, rest;
};
Status PrincipalBranch(const ops::Tensor& w, int64_t rank, double scale,
                       std::optional<Principal>* out);

}  // namespace engine::lora

#endif  // PLUGINS_LORA_START_H_
