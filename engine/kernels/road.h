// What each instruction-set road implements; kernels.cc splits the work and calls the active one.
#ifndef ENGINE_KERNELS_ROAD_H_
#define ENGINE_KERNELS_ROAD_H_

#include <cstdint>

namespace engine::kernels {

// One product over panels [begin, end).
struct PanelArgs {
  const char* panels;  // of panel 0
  int64_t groups;      // groups of the inner dimension a panel
  const void* x;       // f32 rows, bf16 rows or u8 rows
  int64_t ldx;         // in elements of x
  int64_t rows;
  float* y;
  int64_t ldy, out;
  bool add;
  float scale;
  const float* row_scales;  // s8
  const float* scales;      // s8
  const int32_t* sums;      // s8
};

struct AttendArgs {
  const float* const* pages;
  int64_t page_tokens, head_dim;
  int64_t key_offset, value_offset;  // of the kv head, within a page, in floats
  const float* const* q;             // [rows] -> [head_dim]
  float* const* out;                 // [rows] -> [head_dim]
  const int64_t* lengths;            // [rows]: positions that the row sees
  int64_t rows;                      // at most kAttendRows
  float* scores;                     // [kAttendRows, padded length]
  int64_t score_stride;
  float softmax_scale;
};
inline constexpr int64_t kAttendRows = 12;

struct Road {
  void (*panels_f32)(const PanelArgs&, int64_t begin, int64_t end);
  void (*panels_bf16)(const PanelArgs&, int64_t begin, int64_t end);
  void (*panels_s8)(const PanelArgs&, int64_t begin, int64_t end);
  void (*rms_norm)(const float* x, int64_t width, const float* weight, float eps, float* y);
  void (*silu_multiply)(float* gate, const float* up, int64_t count);
  void (*attend)(const AttendArgs&);
  float (*quantize_row)(const float* x, int64_t count, uint8_t* plus128);
};

const Road& PlainRoad();
const Road& Avx2Road();
const Road& Avx512Road();

}  // namespace engine::kernels

#endif  // ENGINE_KERNELS_ROAD_H_
