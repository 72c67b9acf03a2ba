// The kernels of a forward pass on raw memory. Rules that hold for all of them (design, section 8):
// the result of a row depends on that row alone, whatever the number of rows, of threads, or the
// neighbours; sums run in one fixed order along k, with SIMD lanes across outputs.
#ifndef ENGINE_KERNELS_KERNELS_H_
#define ENGINE_KERNELS_KERNELS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "engine/kernels/packed.h"

namespace engine::kernels {

// y[m, n] = x[m, :] · w[n, :], or with `add`: y += scale * (...).
struct Product {
  const PackedMatrix* w = nullptr;
  float* y = nullptr;
  int64_t ldy = 0;
  bool add = false;
  float scale = 1.0f;
};

// What Multiply keeps between calls, so that it allocates nothing when shapes repeat.
struct Scratch {
  std::vector<uint16_t> bf16;  // activations rounded to bf16
  std::vector<uint8_t> u8;     // activations quantized, plus 128
  std::vector<float> scales;   // one a row
};

// All products share x [rows, in] with row stride ldx; their matrices may differ in format.
void Multiply(const float* x, int64_t ldx, int64_t rows, std::span<const Product> products,
              Scratch* scratch);

// y = x / sqrt(mean(x^2) + eps) * weight, row by row.
void RmsNorm(const float* x, int64_t rows, int64_t width, const float* weight, float eps, float* y);
// gate = gate / (1 + exp(-gate)) * up.
void SiluMultiply(float* gate, const float* up, int64_t count);

// Cosines and sines of rotary embedding: cos and sin [positions, head_dim / 2].
struct RopeTable {
  int64_t half = 0;
  std::vector<float> cos, sin;
  // Su et al. 2021, arXiv:2104.09864, with halves rotated as Hugging Face does. `divisors` scale
  // the frequencies, one a half dimension; empty: none.
  static RopeTable Make(int64_t positions, int64_t head_dim, double theta,
                        std::span<const double> divisors = {});
};
// Rotates `heads` heads of head_dim at x in place, for one position.
void Rope(float* x, int64_t heads, int64_t head_dim, int64_t position, const RopeTable& table);

// Keys and values in pages; see engine_kv_view for the layout of a page.
struct PagedKv {
  int64_t page_tokens = 0;  // a multiple of 16
  int64_t kv_heads = 0, head_dim = 0;
  std::span<float* const> pages;  // of one sequence, in order
};
// Writes key and value [kv_heads, head_dim] of one position.
void KvWrite(const PagedKv& kv, int64_t position, const float* key, const float* value);

// Attention of `tokens` new tokens of one sequence at positions start...: q [tokens, heads,
// head_dim] with row stride ldq, causal over the pages; out has the same layout, stride ldo.
struct AttentionJob {
  PagedKv kv;
  const float* q = nullptr;
  float* out = nullptr;
  int64_t ldq = 0, ldo = 0;
  int64_t tokens = 0, start = 0, heads = 0;
};
void Attention(std::span<const AttentionJob> jobs, std::vector<float>* scratch);

// Quantizes a row to q in -127..127 with one scale: absmax / 127, round to nearest even.
float QuantizeRow(const float* x, int64_t count, int8_t* q);

}  // namespace engine::kernels

#endif  // ENGINE_KERNELS_KERNELS_H_
