// Parts of a model as one autograd node each, with backward passes by hand: what a plain recording
// would keep of every step within them is computed again or never made. They are the site road's
// functions (sites.cc) on any dtype and device; in F32 on a CPU they run on the kernels, elsewhere
// on LibTorch's operators. Under autocast products run in its dtype, and norms give it.
// Sources: LoRA, Hu et al. 2021, arXiv:2106.09685; one node for a LoRA linear and for a LoRA MLP,
// Han and Han 2024 (Unsloth); backward of RMSNorm and SwiGLU by calculus.
#ifndef ENGINE_MODEL_TRAIN_OPS_H_
#define ENGINE_MODEL_TRAIN_OPS_H_

#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "engine/kernels/causal.h"
#include "engine/kernels/packed.h"
#include "engine/status.hpp"

namespace engine::model {

// Zeroes each element with probability p and scales the others by 1 / (1 - p). Which ones depends
// on the key and the element's index alone, so that a replay draws the same.
struct Dropout {
  double p = 0;
  uint64_t seed = 0, stream = 0;  // of a Philox
};

// A linear as what it is made of: y = W·x + scale * B·(A·dropout(x)).
struct LinearParts {
  std::optional<torch::stable::Tensor> weight;          // [out, in]
  std::shared_ptr<const kernels::PackedMatrix> packed;  // or this, which has no gradient
  std::optional<torch::stable::Tensor> a, b;            // [rank, in], [out, rank]; none: no branch
  double scale = 0;
  Dropout dropout;
};

// Angles [.., head_dim] for each row of what a linear gives; null: it is not rotated.
struct Rotary {
  const torch::stable::Tensor* cos = nullptr;  // [tokens, head_dim] or [batch, 1, tokens, head_dim]
  const torch::stable::Tensor* sin = nullptr;
};

// y = x / sqrt(mean(x^2) + eps) * weight over the last dimension.
torch::stable::Tensor FusedNorm(const torch::stable::Tensor& x, const torch::stable::Tensor& weight,
                                double eps);

// What each linear gives for the same x [.., in], rotated head by head where `rotary` [linears]
// says so.
std::vector<torch::stable::Tensor> FusedLinears(const torch::stable::Tensor& x,
                                                const std::vector<LinearParts>& linears,
                                                const std::vector<Rotary>& rotary = {});

// down(silu(gate(x)) * up(x)). Without `values` what only they need is left out: the result is
// good for going back through alone.
torch::stable::Tensor FusedMlp(const torch::stable::Tensor& x, const LinearParts& gate,
                               const LinearParts& up, const LinearParts& down, bool values = true);

// Causal attention over q [.., heads * head_dim], k and v [.., kv_heads * head_dim], rows
// flattened: each stretch by itself. False where the kernels do not compute (another dtype or
// device).
bool FusedAttention(const torch::stable::Tensor& q, const torch::stable::Tensor& k,
                    const torch::stable::Tensor& v, int64_t head_dim,
                    const std::vector<kernels::CausalStretch>& stretches,
                    std::optional<torch::stable::Tensor>* out);

// x with dropout, recorded by autograd.
torch::stable::Tensor FusedDropout(const torch::stable::Tensor& x, const Dropout& how);

}  // namespace engine::model

#endif  // ENGINE_MODEL_TRAIN_OPS_H_
