// Products of rows with packed matrices: rows are normalized and brought into the formats that the
// matrices take once, then panels are shared out. Invariant: how panels and rows are split changes
// no bit.
#include <algorithm>

#include "engine/kernels/int_kernels.h"
#include "engine/kernels/kernels.h"
#include "engine/kernels/parallel.h"

namespace engine::kernels {
namespace {

// Work below this many multiplications is not worth another thread.
constexpr int64_t kGrainFlops = 1 << 17;
constexpr int64_t kGrainElements = 4096;

// The form that the matrix takes of its inputs, among those of this call; null: not there yet.
Scratch::Codes* CodesOf(Scratch* scratch, const PackedMatrix& w) {
  for (size_t i = 0; i < scratch->forms; ++i) {
    Scratch::Codes& codes = scratch->codes[i];
    if (codes.group == w.scheme().group && codes.input_scales == w.input_scales()) return &codes;
  }
  return nullptr;
}

void Prepare(const Rows& rows, std::span<const Product> products, Scratch* scratch) {
  const Road& road = ActiveRoad();
  const int64_t in = products[0].w->in();
  const int64_t padded = (in + 3) / 4 * 4;
  bool bf16 = false;
  scratch->forms = 0;
  for (const Product& p : products) {
    const PackedMatrix& w = *p.w;
    bf16 |= w.format() == Format::kBf16;
    if (w.format() != Format::kInt || CodesOf(scratch, w) != nullptr) continue;
    if (scratch->codes.size() == scratch->forms) scratch->codes.emplace_back();
    Scratch::Codes& codes = scratch->codes[scratch->forms++];
    codes.group = w.scheme().group;
    codes.input_scales = w.input_scales();
    codes.group_size = w.group_size();
    codes.groups = w.groups();
    const int64_t filled = RowBlocks(rows.rows) * kRowBlock;
    Reserve(&codes.q, filled * CodesStride(in));
    Reserve(&codes.scales, filled * w.groups());
    Reserve(&codes.sums, filled * w.groups());
    if (codes.input_scales != nullptr) Reserve(&codes.scaled, rows.rows * in);
  }
  if (bf16) Reserve(&scratch->bf16, rows.rows * padded);
  if (!bf16 && scratch->forms == 0 && rows.norm == nullptr) return;
  ParallelFor(rows.rows, std::max<int64_t>(1, kGrainElements / in),
              [&](int64_t begin, int64_t end) {
                for (int64_t r = begin; r < end; ++r) {
                  const float* x = rows.x + r * rows.ldx;
                  if (rows.norm != nullptr) {
                    float* normed = rows.normed + r * in;
                    road.rms_norm(x, in, rows.norm, rows.eps, normed);
                    x = normed;
                  }
                  // Positions beyond `in` meet weights of zero; their bytes only have to be
                  // defined.
                  if (bf16) {
                    uint16_t* to = scratch->bf16.data() + r * padded;
                    road.to_bf16(x, in, to);
                    std::fill(to + in, to + padded, uint16_t{0});
                  }
                  for (size_t f = 0; f < scratch->forms; ++f) {
                    Scratch::Codes& codes = scratch->codes[f];
                    const float* from = x;
                    if (codes.input_scales != nullptr) {
                      float* scaled = codes.scaled.data() + r * in;
                      const float* by = codes.input_scales->data();
                      for (int64_t k = 0; k < in; ++k) scaled[k] = x[k] * by[k];
                      from = scaled;
                    }
                    int8_t* to = codes.q.data() + r * CodesStride(in);
                    const int64_t at = FactorAt(r, codes.groups);
                    road.quantize(from, in, codes.group_size, to, codes.scales.data() + at,
                                  codes.sums.data() + at, kRowBlock);
                    std::fill(to + in, to + CodesStride(in), int8_t{0});
                  }
                }
              });
}

void RunPanels(const Rows& rows, const Product& p, Scratch* scratch, int64_t begin, int64_t end) {
  const Road& road = ActiveRoad();
  const PackedMatrix& w = *p.w;
  PanelArgs a = {};
  a.panels = w.panel(0);
  a.panel_bytes = w.panel_bytes();
  a.groups = w.groups();
  a.rows = rows.rows;
  a.y = p.y;
  a.ldy = p.ldy;
  a.out = w.out();
  a.add = p.add;
  a.scale = p.scale;
  switch (w.format()) {
    case Format::kF32:
      a.x = rows.norm != nullptr ? rows.normed : rows.x;
      a.ldx = rows.norm != nullptr ? w.in() : rows.ldx;
      return road.panels_f32(a, begin, end);
    case Format::kBf16:
      a.x = scratch->bf16.data();
      a.ldx = (w.in() + 3) / 4 * 4;
      return road.panels_bf16(a, begin, end);
    case Format::kInt: {
      const Scratch::Codes* codes = CodesOf(scratch, w);
      a.x = codes->q.data();
      a.ldx = CodesStride(w.in());
      a.x_scales = codes->scales.data();
      a.x_sums = codes->sums.data();
      a.group_size = w.group_size();
      a.group_bytes = w.group_bytes();
      a.last_length = w.last_length();
      a.whole = w.scheme().group == 0;
      return PanelsOf(IntKernelFor(w.scheme(), rows.rows), w.scheme())(a, begin, end);
    }
  }
}

}  // namespace

void Multiply(const Rows& rows, std::span<const Product> products, Scratch* scratch,
              bool silu_pair) {
  if (products.empty() || rows.rows == 0) return;
  Prepare(rows, products, scratch);
  const int64_t flops = 2 * rows.rows * products[0].w->in() * kPanel;
  const int64_t grain = std::max<int64_t>(1, kGrainFlops / flops);
  if (silu_pair) {
    const Product &gate = products[0], &up = products[1];
    ParallelFor(gate.w->panels(), std::max<int64_t>(1, grain / 2), [&](int64_t begin, int64_t end) {
      RunPanels(rows, gate, scratch, begin, end);
      RunPanels(rows, up, scratch, begin, end);
      const Road& road = ActiveRoad();
      const int64_t first = begin * kPanel, last = std::min(gate.w->out(), end * kPanel);
      for (int64_t r = 0; r < rows.rows; ++r) {
        road.silu_multiply(gate.y + r * gate.ldy + first, up.y + r * up.ldy + first, last - first);
      }
    });
    return;
  }
  int64_t panels = 0;
  for (const Product& p : products) panels += p.w->panels();
  // Panels of all products are one range, so that one parallel loop serves them.
  ParallelFor(panels, grain, [&](int64_t begin, int64_t end) {
    for (const Product& p : products) {
      const int64_t count = p.w->panels();
      const int64_t from = std::max<int64_t>(0, begin), to = std::min(count, end);
      begin -= count;
      end -= count;
      if (from < to) RunPanels(rows, p, scratch, from, to);
    }
  });
}

}  // namespace engine::kernels
