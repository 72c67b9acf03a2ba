// Products of training: rows by dense f32 matrices that are used once or a few times, so they are
// packed as they are needed, some at a time, and forgotten. The rules of kernels.h hold: a row's
// result depends on that row alone, whatever the number of rows or threads.
#ifndef ENGINE_KERNELS_GEMM_H_
#define ENGINE_KERNELS_GEMM_H_

#include <cstdint>
#include <span>

namespace engine::kernels {

// scale * x·Wᵀ for x [rows, in] with row stride ldx. Element W[n][k] of [out, in] is w[n * ldw +
// k], or with `transposed` w[k * ldw + n].
struct GemmTerm {
  const float* x = nullptr;
  int64_t ldx = 0, in = 0;
  const float* w = nullptr;
  int64_t ldw = 0;
  bool transposed = false;
  float scale = 1;
};

// y [rows, out] with row stride ldy becomes the sum of the terms, of which the first has scale 1,
// or with `add` has it added. Sums run along k in pieces of kGemmInner, then term by term.
inline constexpr int64_t kGemmInner = 768;
void Gemm(std::span<const GemmTerm> terms, int64_t rows, int64_t out, float* y, int64_t ldy,
          bool add = false);

// The term's w as panels, [out / 32][in][32], one after the other; outputs beyond `out` are zeros.
void PackPanels(const GemmTerm& term, int64_t out, float* to);

// y [ra, cb] = aᵀ·b over the rows of both: a [rows, ra] with few columns, b [rows, cb]. Sums run
// along the rows in pieces.
void ThinProduct(const float* a, int64_t ra, const float* b, int64_t cb, int64_t rows, float* y);

}  // namespace engine::kernels

#endif  // ENGINE_KERNELS_GEMM_H_
