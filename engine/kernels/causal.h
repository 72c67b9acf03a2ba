// Causal attention of training: whole sequences in f32 as linears give them, forward and backward,
// with scores that exist for some rows at a time. Dao et al. 2022, arXiv:2205.14135, for the
// backward pass from the log-sums. Bits depend neither on threads nor on the other sequences.
#ifndef ENGINE_KERNELS_CAUSAL_H_
#define ENGINE_KERNELS_CAUSAL_H_

#include <cstdint>
#include <span>

namespace engine::kernels {

// Rows [begin, end) see each other, each those up to itself.
struct CausalStretch {
  int64_t begin, end;
};

// q [rows, heads * head_dim]; k and v [rows, kv_heads * head_dim]. Scores are scaled by
// 1 / sqrt(head_dim).
struct CausalArgs {
  int64_t heads, kv_heads, head_dim;
  std::span<const CausalStretch> stretches;  // disjoint; rows in none of them are left alone
  const float *q, *k, *v;
};

// out as q; log_sums [rows, heads], for the backward pass.
void CausalForward(const CausalArgs& a, float* out, float* log_sums);
// dq as q; dk and dv as k, which have to be zeros before.
void CausalBackward(const CausalArgs& a, const float* out, const float* log_sums, const float* dout,
                    float* dq, float* dk, float* dv);

}  // namespace engine::kernels

#endif  // ENGINE_KERNELS_CAUSAL_H_
