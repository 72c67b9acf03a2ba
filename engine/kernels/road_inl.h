// The kernels once, over a vector type V that each road defines: V::kLanes floats. Included by one
// source file a road, inside an anonymous namespace, so that code for one instruction set can never
// be linked into another's road.
//
// V offers: F (float vector), I (int32 vector); Zero, Set1, Load, Store, Add, Sub, Mul, Div, Fma
// (a * b + c), Max, Min, Round (to nearest even), ToInt, ToFloat, ExpBits (2^n from int n), and for
// the dot products Dot2 (bf16 pairs into float) and Dot4 (u8 x s8 quadruples into int32).

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
struct S8Dot {
  using Acc = V::I;
  using X = uint8_t;
  static Acc Zero() { return V::ZeroI(); }
  static Acc Step(Acc acc, const uint8_t* x, int64_t group, const char* w) {
    uint32_t four;
    __builtin_memcpy(&four, x + 4 * group, 4);
    return V::Dot4(acc, four, w);
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
  const int64_t panel_bytes = a.groups * 128;
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
      if constexpr (std::is_same_v<Dot, S8Dot>) {
        // x was shifted by 128 to be unsigned; that adds 128 times the sum of the weights.
        const auto shift = V::MulI(V::Set1I(128), V::LoadI(a.sums + n));
        const F exact = V::ToFloat(V::SubI(acc[m][v], shift));
        StoreOutputs(a,
                     V::Mul(V::Mul(exact, V::Set1(a.row_scales[row + m])), V::Load(a.scales + n)),
                     row + m, n);
      } else {
        StoreOutputs(a, acc[m][v], row + m, n);
      }
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

inline float SumLanes(F v) {
  alignas(64) float lanes[kL];
  V::Store(lanes, v);
  for (int64_t step = kL / 2; step > 0; step /= 2) {
    for (int64_t i = 0; i < step; ++i) lanes[i] += lanes[i + step];
  }
  return lanes[0];
}
inline float MaxLanes(F v) {
  alignas(64) float lanes[kL];
  V::Store(lanes, v);
  float most = lanes[0];
  for (int64_t i = 1; i < kL; ++i) most = lanes[i] > most ? lanes[i] : most;
  return most;
}

void RmsNormRow(const float* x, int64_t width, const float* weight, float eps, float* y) {
  F sum = V::Zero();
  int64_t i = 0;
  for (; i + kL <= width; i += kL) {
    const F v = V::Load(x + i);
    sum = V::Fma(v, v, sum);
  }
  float total = SumLanes(sum);
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

float QuantizeRowU8(const float* x, int64_t count, uint8_t* q) {
  F most = V::Zero();
  int64_t i = 0;
  for (; i + kL <= count; i += kL) {
    const F v = V::Load(x + i);
    most = V::Max(most, V::Max(v, V::Sub(V::Zero(), v)));
  }
  float top = MaxLanes(most);
  for (; i < count; ++i) top = __builtin_fabsf(x[i]) > top ? __builtin_fabsf(x[i]) : top;
  const float scale = top / 127.0f;
  const float inverse = top > 0 ? 127.0f / top : 0.0f;
  for (i = 0; i + kL <= count; i += kL) {
    alignas(64) int32_t lanes[kL];
    V::StoreI(lanes, V::ToInt(V::Round(V::Mul(V::Load(x + i), V::Set1(inverse)))));
    for (int64_t j = 0; j < kL; ++j) q[i + j] = static_cast<uint8_t>(lanes[j] + 128);
  }
  for (; i < count; ++i) {
    q[i] = static_cast<uint8_t>(static_cast<int32_t>(__builtin_rintf(x[i] * inverse)) + 128);
  }
  return scale;
}

// ---- attention --------------------------------------------------------------------------------

// Scores of R rows against one stretch of kL positions: lanes across positions, one chain over d.
template <int R>
inline void Scores(const AttendArgs& a, int64_t row, const float* keys, int64_t position) {
  F acc[R];
  for (int r = 0; r < R; ++r) acc[r] = V::Zero();
  for (int64_t d = 0; d < a.head_dim; ++d) {
    const F k = V::Load(keys + d * a.page_tokens);
    for (int r = 0; r < R; ++r) acc[r] = V::Fma(V::Set1(a.q[row + r][d]), k, acc[r]);
  }
  const F scale = V::Set1(a.softmax_scale);
  for (int r = 0; r < R; ++r) {
    V::Store(a.scores + (row + r) * a.score_stride + position, V::Mul(acc[r], scale));
  }
}

// Weighted values of R rows for kL of the head's dimensions: one chain over positions.
template <int R, int C>
inline void Values(const AttendArgs& a, int64_t row, int64_t d, int64_t length) {
  F acc[R][C];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) acc[r][c] = V::Zero();
  }
  for (int64_t j = 0; j < length;) {
    const float* value = a.pages[j / a.page_tokens] + a.value_offset + d;
    const int64_t stop = Least(length, j + a.page_tokens);
    for (; j < stop; ++j, value += a.head_dim) {
      for (int c = 0; c < C; ++c) {
        const F v = V::Load(value + c * kL);
        for (int r = 0; r < R; ++r) {
          acc[r][c] = V::Fma(V::Set1(a.scores[(row + r) * a.score_stride + j]), v, acc[r][c]);
        }
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) V::Store(a.out[row + r] + d + c * kL, acc[r][c]);
  }
}

void AttendRows(const AttendArgs& a) {
  int64_t longest = 0;
  for (int64_t r = 0; r < a.rows; ++r) longest = Most(longest, a.lengths[r]);
  for (int64_t position = 0; position < longest; position += kL) {
    const float* keys = a.pages[position / a.page_tokens] + a.key_offset + position % a.page_tokens;
    int64_t r = 0;
    for (; r + 6 <= a.rows; r += 6) Scores<6>(a, r, keys, position);
    for (; r + 3 <= a.rows; r += 3) Scores<3>(a, r, keys, position);
    for (; r < a.rows; ++r) Scores<1>(a, r, keys, position);
  }
  const int64_t padded = (longest + kL - 1) / kL * kL;
  for (int64_t r = 0; r < a.rows; ++r) {
    float* s = a.scores + r * a.score_stride;
    const int64_t length = a.lengths[r];
    for (int64_t j = length; j < padded; ++j) s[j] = -INFINITY;
    F most = V::Set1(-INFINITY);
    for (int64_t j = 0; j < padded; j += kL) most = V::Max(most, V::Load(s + j));
    const F top = V::Set1(MaxLanes(most));
    F sum = V::Zero();
    const int64_t end = (length + kL - 1) / kL * kL;
    for (int64_t j = 0; j < end; j += kL) {
      const F e = Exp(V::Sub(V::Load(s + j), top));
      V::Store(s + j, e);
      if (j + kL > length) {
        for (int64_t i = length; i < j + kL; ++i) s[i] = 0;
      }
      sum = V::Add(sum, V::Load(s + j));
    }
    for (int64_t j = end; j < padded; ++j) s[j] = 0;
    const F inverse = V::Set1(1.0f / SumLanes(sum));
    for (int64_t j = 0; j < end; j += kL) V::Store(s + j, V::Mul(V::Load(s + j), inverse));
  }
  int64_t r = 0;
  const auto values = [&]<int R>(std::integral_constant<int, R>) {
    int64_t length = 0;
    for (int64_t i = r; i < r + R; ++i) length = Most(length, a.lengths[i]);
    int64_t d = 0;
    for (; d + 4 * kL <= a.head_dim; d += 4 * kL) Values<R, 4>(a, r, d, length);
    for (; d < a.head_dim; d += kL) Values<R, 1>(a, r, d, length);
    r += R;
  };
  while (r + V::kValueRows <= a.rows) values(std::integral_constant<int, V::kValueRows>());
  while (r < a.rows) values(std::integral_constant<int, 1>());
}

const Road kRoad = {&Panels<F32Dot>,  &Panels<Bf16Dot>, &Panels<S8Dot>, &RmsNormRow,
                    &SiluMultiplyRow, &AttendRows,      &QuantizeRowU8};
