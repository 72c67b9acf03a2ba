// What each instruction-set road implements; the callers split the work and call the active one.
#ifndef ENGINE_KERNELS_ROAD_H_
#define ENGINE_KERNELS_ROAD_H_

#include <cstdint>

namespace engine::kernels {

// Integer products read their rows' x in blocks of 16, of which the last is filled up with
// anything, and factors of a block's rows side by side.
inline constexpr int64_t kRowBlock = 16;
inline int64_t RowBlocks(int64_t rows) { return (rows + kRowBlock - 1) / kRowBlock; }
// From row to row of x: whole cache lines.
inline int64_t CodesStride(int64_t in) { return (in + 63) / 64 * 64; }
// Where the factor of a row's first group lies; the next group's is kRowBlock on.
inline int64_t FactorAt(int64_t row, int64_t groups) {
  return row / kRowBlock * kRowBlock * groups + row % kRowBlock;
}

// One product over panels [begin, end).
struct PanelArgs {
  const char* panels;   // of panel 0
  int64_t panel_bytes;  // from one panel to the next
  int64_t groups;       // dense: steps of the inner dimension; int: groups of a row
  const void* x;        // f32 rows, bf16 rows or s8 rows
  int64_t ldx;          // in elements of x
  int64_t rows;
  float* y;
  int64_t ldy, out;
  bool add;     // y += scale * product
  float scale;  // used with add
  // int only
  int64_t group_size, group_bytes, last_length;  // see PackedMatrix
  bool whole;                                    // one group, scales in f32
  const float* x_scales;                         // [RowBlocks(rows)][groups][kRowBlock]
  const int32_t* x_sums;                         // likewise: of the codes of x
};

// y [rows, 32 * panels] += xᵀ·w for x [groups][rows] and whole panels of w: element k of a panel
// begins `step` floats behind the one before, a panel `panel_floats` behind its neighbour.
struct AcrossArgs {
  const float* x;
  int64_t ldx, rows, groups;
  const float* w;
  int64_t step, panel_floats;
  float* y;
  int64_t ldy;
};

// How keys and values lie; see engine_kv_view.
enum class KvFormat { kF32, kF16, kInt8 };

inline constexpr int64_t kAttendRows = 12;
// Attention adds up the context in stretches of that many positions, each by itself, and folds the
// stretches in order: so the bits do not depend on who computes which stretch.
inline constexpr int64_t kStretch = 128;

// Rows of one key head against positions [begin, end) of one sequence, end - begin <= kStretch and
// begin a multiple of it.
struct AttendArgs {
  KvFormat format;
  const char* base;  // page i begins at base + blocks[i] * stride
  int64_t stride;
  const int32_t* blocks;
  int64_t page_tokens, head_dim;
  int64_t keys, values, key_scales, value_scales;  // of the key head, in bytes within a page
  const float* q;                                  // [rows][head_dim]
  const int8_t* q8;                                // int8: [rows][head_dim]
  const float* q_scales;                           // int8: [rows]
  const int32_t* q_sums;                           // int8: [rows]
  const int64_t* lengths;                          // [rows]: positions that the row sees
  int64_t rows;                                    // at most kAttendRows
  float softmax_scale;
  float* scores;  // [kAttendRows][kStretch]
};
// Of some rows over some stretches: maximum of the scores, sum of exponentials, and the values
// weighted by these, [rows][head_dim]. A row that saw nothing has most = -infinity.
struct AttendState {
  float* most;
  float* sum;
  float* values;
};

// One way to compute products over integer panels. All of a road give the same bits.
struct IntKernel {
  const char* name;
  bool (*there)();     // whether this machine has what it needs beyond the road's; null: yes
  int64_t least_rows;  // with fewer it is never chosen
  void (*panels_int8)(const PanelArgs&, int64_t begin, int64_t end);
  void (*panels_int4)(const PanelArgs&, int64_t begin, int64_t end);
  void (*panels_int4_minimum)(const PanelArgs&, int64_t begin, int64_t end);
};

struct Road {
  void (*panels_f32)(const PanelArgs&, int64_t begin, int64_t end);
  void (*panels_bf16)(const PanelArgs&, int64_t begin, int64_t end);
  const IntKernel* int_kernels;  // [int_kernel_count]; see int_kernels.h
  int64_t int_kernel_count;
  void (*rms_norm)(const float* x, int64_t width, const float* weight, float eps, float* y);
  void (*silu_multiply)(float* gate, const float* up, int64_t count);
  // Rotates pairs (x[i], x[i + half]) of each head by cos[i], sin[i].
  void (*rope)(const float* x, int64_t heads, int64_t head_dim, const float* cos, const float* sin,
               float* y);
  // Codes in -127..127 by groups of `group`, one scale (absmax / 127) and the sum of codes each,
  // `step` from group to group.
  void (*quantize)(const float* x, int64_t count, int64_t group, int8_t* q, float* scales,
                   int32_t* sums, int64_t step);
  void (*to_bf16)(const float* x, int64_t count, uint16_t* y);
  void (*to_half)(const float* x, int64_t count, uint16_t* y);  // to nearest even
  void (*attend)(const AttendArgs&, int64_t begin, int64_t end, const AttendState& out);
  // state = state then more; row by row.
  void (*attend_fold)(const AttendState& state, const AttendState& more, int64_t rows,
                      int64_t head_dim);
  // y = values / sum for one row.
  void (*attend_finish)(const float* values, float sum, int64_t head_dim, float* y);
  // Greatest of x, where it is first, and the greatest of the others; a NaN gives index -1.
  void (*greatest)(const float* x, int64_t count, float* first, float* second, int64_t* index);
  // w = exp((x - top) * inverse_temperature); gives the sum over lanes in fixed order.
  float (*exp_weights)(const float* x, int64_t count, float top, float inverse_temperature,
                       float* w);
  // Gradients of rms_norm and silu_multiply, and the loss; see train_inl.h.
  void (*rms_norm_grad)(const float* x, int64_t width, const float* weight, float eps,
                        const float* dy, float* dx, float* weight_grad);
  void (*silu_multiply_grad)(const float* gate, const float* up, const float* dh, int64_t count,
                             float* h, float* dgate, float* dup);
  double (*loss)(float* logits, int64_t count, int64_t label, float smoothing, bool grad);
  void (*panels_across)(const AcrossArgs&, int64_t begin, int64_t end);
  float (*softmax)(float* x, int64_t count, float scale, int64_t tail, float* log_sum);
  void (*softmax_grad)(float* s, float* dp, int64_t count, float scale, float log_sum, float along,
                       int64_t tail);
  float (*dot)(const float* x, const float* y, int64_t count);
};

const Road& PlainRoad();
const Road& Avx2Road();
const Road& Avx512Road();
// Of the active instruction set.
const Road& ActiveRoad();

}  // namespace engine::kernels

#endif  // ENGINE_KERNELS_ROAD_H_
