// The kernels of a forward pass on raw memory. Rules that hold for all of them (design, section 8):
// the result of a row depends on that row alone, whatever the number of rows, of threads, or the
// neighbours; sums run in one fixed order along k, with SIMD lanes across outputs.
#ifndef ENGINE_KERNELS_KERNELS_H_
#define ENGINE_KERNELS_KERNELS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/kernels/packed.h"
#include "engine/kernels/road.h"

namespace engine::kernels {

template <typename T, typename A>
void Reserve(std::vector<T, A>* v, int64_t size) {
  if (v->size() < static_cast<size_t>(size)) v->resize(static_cast<size_t>(size));
}

// ---- products -------------------------------------------------------------------- multiply.cc

// y[m, n] = x[m, :] · w[n, :], or with `add`: y += scale * (...).
struct Product {
  const PackedMatrix* w = nullptr;
  float* y = nullptr;
  int64_t ldy = 0;
  bool add = false;
  float scale = 1.0f;
};

// What products share: x [rows, in] with row stride ldx, normalized first where `norm` is given.
struct Rows {
  const float* x = nullptr;
  int64_t ldx = 0, rows = 0;
  const float* norm = nullptr;  // weight of an RMS norm over the row
  float eps = 0;
  float* normed = nullptr;  // [rows, in], with norm: receives the normalized rows
};

// What Multiply keeps between calls, so that it allocates nothing when shapes repeat.
struct Scratch {
  // Activations quantized for matrices of one group size and the same input scales.
  struct Codes {
    int64_t group = -1;  // 0: the whole row
    int64_t group_size = 0, groups = 0;
    const std::vector<float>* input_scales = nullptr;
    std::vector<int8_t, LineAllocator<int8_t>> q;  // as PanelArgs has them
    std::vector<float, LineAllocator<float>> scales;
    std::vector<int32_t, LineAllocator<int32_t>> sums;
    std::vector<float> scaled;  // [rows, in], with input scales
  };
  std::vector<uint16_t> bf16;  // activations rounded to bf16
  std::vector<Codes> codes;
  size_t forms = 0;  // of the codes, those of the call under way
};

// The matrices may differ in format. With `silu_pair` there are two products of the same shape, and
// the first becomes silu(first) * second (the second is left undefined).
void Multiply(const Rows& rows, std::span<const Product> products, Scratch* scratch,
              bool silu_pair = false);

// ---- element-wise ----------------------------------------------------------------- kernels.cc

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

// ---- attention ------------------------------------------------------------------ attention.cc

inline constexpr int64_t kMostHeadDim = 256;

// Keys and values of one block in pages; see engine_kv_view.
struct PagedKv {
  KvFormat format = KvFormat::kF32;
  char* base = nullptr;
  int64_t stride = 0;       // bytes from page to page
  int64_t page_tokens = 0;  // a multiple of 16
  int64_t kv_heads = 0, head_dim = 0;
  // Bytes of one page of one block.
  static int64_t PageBytes(KvFormat format, int64_t page_tokens, int64_t kv_heads,
                           int64_t head_dim);
};
// The stored key and value of one position, decoded; for tests and tools.
void KvRead(const PagedKv& kv, const int32_t* blocks, int64_t position, float* key, float* value);

// `tokens` new tokens of one sequence at positions start...: q [tokens, heads, head_dim], k and v
// [tokens, kv_heads, head_dim], all before rotation. out is laid out as q.
struct AttentionJob {
  const int32_t* blocks = nullptr;
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  float* out = nullptr;
  int64_t tokens = 0, start = 0;
};
struct AttentionScratch {
  struct Item {
    int32_t job, kv_head, token, tokens, first_part, parts;
  };
  struct Part {
    int32_t item, stretch;  // stretch -1: all of them
  };
  std::vector<Item> items;
  std::vector<Part> parts;
  std::vector<float> states;  // of parts, when items are split
  std::vector<std::atomic<int32_t>> left;
};
// Rotates, writes keys and values to their pages, and attends causally over the pages. Row strides
// are heads * head_dim for q and out, kv_heads * head_dim for k and v.
void Attention(const PagedKv& kv, int64_t heads, std::span<const AttentionJob> jobs,
               const RopeTable& rope, AttentionScratch* scratch);

// ---- choosing ----------------------------------------------------------------------- sample.cc

struct Sampling {
  double temperature = 0, top_p = 1;
  int64_t top_k = 0;
  double draw = 0;  // in [0, 1)
  // After top_k and before top_p: the most typical ones whose probabilities add up to it; 1: all.
  double typical_p = 1;
  double min_p = 0;  // last: only those at least that likely, the likeliest being 1
};
// Chooses from one row of logits: the greatest (the first of equals) at temperature 0, else by the
// draw. -1 when the row holds a NaN or nothing above minus infinity. The margin is the greatest
// logit less the second. `scratch` keeps what is needed between calls.
struct SampleScratch {
  std::vector<float> weights;
  std::vector<std::pair<float, int32_t>> kept;
};
// Of one row: the log of the sum of the exponentials, and the likeliest tokens with their
// log-probabilities, the first of equals first. NaN where the row holds one.
double LogSum(const float* logits, int64_t vocab, SampleScratch* scratch);
void TopTokens(const float* logits, int64_t vocab, int64_t count, double log_sum,
               SampleScratch* scratch, int32_t* ids, float* logprobs);
int64_t SampleRow(const float* logits, int64_t vocab, const Sampling& how, SampleScratch* scratch,
                  float* margin);

}  // namespace engine::kernels

#endif  // ENGINE_KERNELS_KERNELS_H_
