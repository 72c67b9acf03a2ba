// The kernels once, over a vector type V that each road defines: V::kLanes floats. Included by one
// source file a road, inside an anonymous namespace, so that code for one instruction set can never
// be linked into another's road.
//
// V offers: F (float vector), I (int32 vector); Zero, Set1, Load, Store, Add, Sub, Mul, Div, Fma
// (a * b + c), Max, Min, Round (to nearest even), ToInt, ToFloat, ExpBits (2^n from int n), Dot2
// (bf16 pairs into float), SumAcross and MaxAcross of lanes (sums in halves), and Dots for integer
// products (see int_panels_inl.h).

constexpr int64_t kL = V::kLanes;
constexpr int kVecs = static_cast<int>(32 / kL);  // vectors a panel

using F = V::F;

// Not std::max: a template instantiated here could be linked into code for a lesser machine.
constexpr int64_t Most(int64_t a, int64_t b) { return a > b ? a : b; }
constexpr int64_t Least(int64_t a, int64_t b) { return a < b ? a : b; }

// ---- products ---------------------------------------------------------------------------------

struct F32Dot {
  using Acc = F;
  using X = float;
  static Acc Zero() { return V::Zero(); }
  static Acc Step(Acc acc, const float* x, int64_t group, const char* w) {
    return V::Fma(V::Set1(x[group]), V::Load(reinterpret_cast<const float*>(w)), acc);
  }
};
struct Bf16Dot {
  using Acc = F;
  using X = uint16_t;
  static Acc Zero() { return V::Zero(); }
  static Acc Step(Acc acc, const uint16_t* x, int64_t group, const char* w) {
    uint32_t pair;
    __builtin_memcpy(&pair, x + 2 * group, 4);
    return V::Dot2(acc, pair, w);
  }
};
inline void StoreOutputs(const PanelArgs& a, F value, int64_t row, int64_t n) {
  float* y = a.y + row * a.ldy + n;
  if (n + kL <= a.out) {
    if (a.add) value = V::Add(V::Load(y), V::Mul(V::Set1(a.scale), value));
    V::Store(y, value);
    return;
  }
  alignas(64) float lanes[kL];
  V::Store(lanes, value);
  for (int64_t i = 0; i < a.out - n; ++i) {
    if (a.add) {
      const float scaled = a.scale * lanes[i];
      y[i] = y[i] + scaled;
    } else {
      y[i] = lanes[i];
    }
  }
}

// M rows by P neighbouring panels: every output is one chain over the groups, in order.
template <typename Dot, int M, int P>
inline void Tile(const PanelArgs& a, int64_t row, int64_t panel) {
  typename Dot::Acc acc[M][P * kVecs];
  for (int m = 0; m < M; ++m) {
    for (int v = 0; v < P * kVecs; ++v) acc[m][v] = Dot::Zero();
  }
  const auto* x = static_cast<const typename Dot::X*>(a.x) + row * a.ldx;
  const int64_t panel_bytes = a.panel_bytes;
  const char* w = a.panels + panel * panel_bytes;
  for (int64_t g = 0; g < a.groups; ++g, w += 128) {
    for (int p = 0; p < P; ++p) {
      for (int v = 0; v < kVecs; ++v) {
        const char* at = w + p * panel_bytes + v * kL * 4;
        for (int m = 0; m < M; ++m) {
          acc[m][p * kVecs + v] = Dot::Step(acc[m][p * kVecs + v], x + m * a.ldx, g, at);
        }
      }
    }
  }
  for (int m = 0; m < M; ++m) {
    for (int v = 0; v < P * kVecs; ++v) {
      const int64_t n = panel * 32 + v * kL;
      if (n >= a.out) break;
      StoreOutputs(a, acc[m][v], row + m, n);
    }
  }
}

template <typename Dot, int M, int P>
inline void Rows(const PanelArgs& a, int64_t row, int64_t begin, int64_t end) {
  int64_t panel = begin;
  for (; panel + P <= end; panel += P) Tile<Dot, M, P>(a, row, panel);
  if constexpr (P > 1) {
    for (; panel < end; ++panel) Tile<Dot, M, 1>(a, row, panel);
  }
}

// Row tiles are chosen for speed alone: an output's chain is the same in each of them.
template <typename Dot>
void Panels(const PanelArgs& a, int64_t begin, int64_t end) {
  constexpr int kMost = V::kTileRows;
  if (a.rows == 1) return Rows<Dot, 1, V::kWide>(a, 0, begin, end);
  if (a.rows == 2) return Rows<Dot, 2, 2>(a, 0, begin, end);
  if (a.rows == 3) return Rows<Dot, 3, 2>(a, 0, begin, end);
  // One panel stays in the cache while all rows pass over it.
  for (int64_t panel = begin; panel < end; ++panel) {
    int64_t row = 0;
    for (; row + kMost <= a.rows; row += kMost) Tile<Dot, kMost, 1>(a, row, panel);
    for (; row + 4 <= a.rows; row += 4) Tile<Dot, 4, 1>(a, row, panel);
    for (; row < a.rows; ++row) Tile<Dot, 1, 1>(a, row, panel);
  }
}

// ---- element-wise -----------------------------------------------------------------------------

// e^x to about 1 ulp: x = n ln 2 + r, a polynomial of degree 6 in r (Cephes' coefficients).
inline F Exp(F x) {
  x = V::Min(V::Max(x, V::Set1(-87.3f)), V::Set1(88.3f));
  const F n = V::Round(V::Mul(x, V::Set1(1.44269504088896341f)));
  F r = V::Fma(n, V::Set1(-0.693359375f), x);
  r = V::Fma(n, V::Set1(2.12194440e-4f), r);
  F p = V::Set1(1.9875691500e-4f);
  p = V::Fma(p, r, V::Set1(1.3981999507e-3f));
  p = V::Fma(p, r, V::Set1(8.3334519073e-3f));
  p = V::Fma(p, r, V::Set1(4.1665795894e-2f));
  p = V::Fma(p, r, V::Set1(1.6666665459e-1f));
  p = V::Fma(p, r, V::Set1(5.0000001201e-1f));
  p = V::Fma(p, V::Mul(r, r), V::Add(r, V::Set1(1.0f)));
  return V::Mul(p, V::ExpBits(V::ToInt(n)));
}

void RmsNormRow(const float* x, int64_t width, const float* weight, float eps, float* y) {
  F sum = V::Zero();
  int64_t i = 0;
  for (; i + kL <= width; i += kL) {
    const F v = V::Load(x + i);
    sum = V::Fma(v, v, sum);
  }
  float total = V::SumAcross(sum);
  for (int64_t j = i; j < width; ++j) total += x[j] * x[j];
  const float factor = 1.0f / __builtin_sqrtf(total / static_cast<float>(width) + eps);
  const F f = V::Set1(factor);
  for (i = 0; i + kL <= width; i += kL) {
    V::Store(y + i, V::Mul(V::Mul(V::Load(x + i), f), V::Load(weight + i)));
  }
  for (; i < width; ++i) y[i] = x[i] * factor * weight[i];
}

inline F Silu(F g) { return V::Div(g, V::Add(V::Set1(1.0f), Exp(V::Sub(V::Zero(), g)))); }

void SiluMultiplyRow(float* gate, const float* up, int64_t count) {
  int64_t i = 0;
  for (; i + kL <= count; i += kL) {
    V::Store(gate + i, V::Mul(Silu(V::Load(gate + i)), V::Load(up + i)));
  }
  if (i < count) {
    alignas(64) float g[kL] = {}, u[kL] = {};
    for (int64_t j = i; j < count; ++j) {
      g[j - i] = gate[j];
      u[j - i] = up[j];
    }
    V::Store(g, V::Mul(Silu(V::Load(g)), V::Load(u)));
    for (int64_t j = i; j < count; ++j) gate[j] = g[j - i];
  }
}

void Quantize(const float* x, int64_t count, int64_t group, int8_t* q, float* scales, int32_t* sums,
              int64_t step) {
  for (int64_t first = 0; first < count; first += group, scales += step, sums += step) {
    const int64_t end = Least(count, first + group);
    const int64_t vectors = first + (end - first) / kL * kL;
    F most = V::Zero();
    F taint = V::Zero();  // stays 0 unless something is not finite
    for (int64_t i = first; i < vectors; i += kL) {
      const F v = V::Load(x + i);
      most = V::Max(most, V::Max(v, V::Sub(V::Zero(), v)));
      taint = V::Fma(v, V::Zero(), taint);
    }
    float top = V::MaxAcross(most);
    float bad = V::AnyNan(taint) ? NAN : 0.0f;
    for (int64_t i = vectors; i < end; ++i) {
      top = __builtin_fabsf(x[i]) > top ? __builtin_fabsf(x[i]) : top;
      bad += x[i] * 0.0f;
    }
    *scales = top / 127.0f + bad;
    if (!(top > 0) || bad != 0) {
      // Zeros, or what is not finite, whose scale says so: no number of it may become a code.
      for (int64_t i = first; i < end; ++i) q[i] = 0;
      *sums = 0;
      continue;
    }
    const float inverse = 127.0f / top;
    typename V::I sum = V::ZeroI();
    for (int64_t i = first; i < vectors; i += kL) {
      const auto codes = V::ToInt(V::Round(V::Mul(V::Load(x + i), V::Set1(inverse))));
      sum = V::AddI(sum, codes);
      V::StoreI8(q + i, codes);
    }
    int32_t total = V::SumAcrossI(sum);
    for (int64_t i = vectors; i < end; ++i) {
      const auto code = static_cast<int32_t>(__builtin_rintf(x[i] * inverse));
      q[i] = static_cast<int8_t>(code);
      total += code;
    }
    *sums = total;
  }
}

void ToBf16Row(const float* x, int64_t count, uint16_t* y) {
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits;
    __builtin_memcpy(&bits, x + i, 4);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const uint32_t nan = (bits >> 16) | 0x40u;
    y[i] = static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
  }
}

void ToHalfRow(const float* x, int64_t count, uint16_t* y) {
  int64_t i = 0;
  for (; i + kL <= count; i += kL) V::StoreHalf(y + i, V::Load(x + i));
  if (i == count) return;
  alignas(64) float lanes[kL] = {};
  uint16_t halves[kL];
  for (int64_t j = i; j < count; ++j) lanes[j - i] = x[j];
  V::StoreHalf(halves, V::Load(lanes));
  for (int64_t j = i; j < count; ++j) y[j] = halves[j - i];
}

void RopeRow(const float* x, int64_t heads, int64_t head_dim, const float* cos, const float* sin,
             float* y) {
  const int64_t half = head_dim / 2;
  for (int64_t h = 0; h < heads; ++h, x += head_dim, y += head_dim) {
    int64_t i = 0;
    for (; i + kL <= half; i += kL) {
      const F u = V::Load(x + i), v = V::Load(x + half + i);
      const F c = V::Load(cos + i), s = V::Load(sin + i);
      V::Store(y + i, V::Sub(V::Mul(u, c), V::Mul(v, s)));
      V::Store(y + half + i, V::Add(V::Mul(v, c), V::Mul(u, s)));
    }
    for (; i < half; ++i) {
      const float u = x[i], v = x[half + i];
      y[i] = u * cos[i] - v * sin[i];
      y[half + i] = v * cos[i] + u * sin[i];
    }
  }
}

// ---- choosing ---------------------------------------------------------------------------------

void Greatest(const float* x, int64_t count, float* first, float* second, int64_t* index) {
  // The two greatest of each lane, and whether anything was a NaN.
  F top = V::Set1(-INFINITY), next = V::Set1(-INFINITY);
  F taint = V::Zero();
  int64_t i = 0;
  for (; i + kL <= count; i += kL) {
    const F v = V::Load(x + i);
    taint = V::Add(taint, V::NanOnes(v));
    next = V::Max(next, V::Min(top, v));
    top = V::Max(top, v);
  }
  alignas(64) float tops[kL], nexts[kL];
  V::Store(tops, top);
  V::Store(nexts, next);
  float best = -INFINITY, other = -INFINITY;
  const auto take = [&](float v) {
    if (v > best) {
      other = best;
      best = v;
    } else if (v > other) {
      other = v;
    }
  };
  for (int64_t j = 0; j < kL; ++j) {
    take(tops[j]);
    take(nexts[j]);
  }
  bool nan = V::SumAcross(taint) != 0;
  for (; i < count; ++i) {
    nan |= x[i] != x[i];
    take(x[i]);
  }
  *first = best;
  *second = other;
  *index = -1;
  if (nan) return;
  for (int64_t j = 0; j < count; ++j) {
    if (x[j] == best) {
      *index = j;
      return;
    }
  }
}

float ExpWeights(const float* x, int64_t count, float top, float inverse_temperature, float* w) {
  const F t = V::Set1(top), f = V::Set1(inverse_temperature);
  F sum = V::Zero();
  int64_t i = 0;
  for (; i + kL <= count; i += kL) {
    const F e = Exp(V::Mul(V::Sub(V::Load(x + i), t), f));
    V::Store(w + i, e);
    sum = V::Add(sum, e);
  }
  if (i < count) {
    alignas(64) float lanes[kL] = {};
    for (int64_t j = i; j < count; ++j) lanes[j - i] = x[j];
    V::Store(lanes, Exp(V::Mul(V::Sub(V::Load(lanes), t), f)));
    for (int64_t j = i; j < count; ++j) w[j] = lanes[j - i];
    for (int64_t j = count - i; j < kL; ++j) lanes[j] = 0;
    sum = V::Add(sum, V::Load(lanes));
  }
  return V::SumAcross(sum);
}

#include "engine/kernels/attend_inl.h"
#include "engine/kernels/int_panels_inl.h"
#include "engine/kernels/train_inl.h"

constexpr Road RoadWith(const IntKernel* int_kernels, int64_t count) {
  return {&Panels<F32Dot>,      &Panels<Bf16Dot>, int_kernels,   count,
          &RmsNormRow,          &SiluMultiplyRow, &RopeRow,      &Quantize,
          &ToBf16Row,           &ToHalfRow,       &Attend,       &AttendFold,
          &AttendFinish,        &Greatest,        &ExpWeights,   &RmsNormGradRow,
          &SiluMultiplyGradRow, &LossRow,         &PanelsAcross, &SoftmaxRow,
          &SoftmaxGradRow,      &DotRow};
}
