// What training needs of a road beyond serving: gradients of the element-wise kernels, and the
// loss. Included by road_inl.h.

// dx = gradient through y = x * r * weight with r = 1 / sqrt(mean(x^2) + eps); `weight_grad`, if
// any, has that of the weight added.
void RmsNormGradRow(const float* x, int64_t width, const float* weight, float eps, const float* dy,
                    float* dx, float* weight_grad) {
  F squares = V::Zero(), product = V::Zero();
  int64_t i = 0;
  for (; i + kL <= width; i += kL) {
    const F v = V::Load(x + i);
    squares = V::Fma(v, v, squares);
    product = V::Fma(V::Mul(V::Load(dy + i), V::Load(weight + i)), v, product);
  }
  float square = V::SumAcross(squares), along = V::SumAcross(product);
  for (int64_t j = i; j < width; ++j) {
    square += x[j] * x[j];
    along += dy[j] * weight[j] * x[j];
  }
  const auto n = static_cast<float>(width);
  const float r = 1.0f / __builtin_sqrtf(square / n + eps);
  const float back = along * r * r * r / n;
  const F rs = V::Set1(r), backs = V::Set1(back);
  for (i = 0; i + kL <= width; i += kL) {
    const F g = V::Mul(V::Load(dy + i), V::Load(weight + i));
    V::Store(dx + i, V::Sub(V::Mul(g, rs), V::Mul(V::Load(x + i), backs)));
  }
  for (; i < width; ++i) dx[i] = dy[i] * weight[i] * r - x[i] * back;
  if (weight_grad == nullptr) return;
  for (i = 0; i + kL <= width; i += kL) {
    const F unit = V::Mul(V::Load(x + i), rs);
    V::Store(weight_grad + i, V::Fma(V::Load(dy + i), unit, V::Load(weight_grad + i)));
  }
  for (; i < width; ++i) weight_grad[i] += dy[i] * (x[i] * r);
}

inline void SiluGradVector(F g, F u, F d, F* h, F* dg, F* du) {
  const F one = V::Set1(1.0f);
  const F s = V::Div(one, V::Add(one, Exp(V::Sub(V::Zero(), g))));
  const F silu = V::Mul(g, s);
  *h = V::Mul(silu, u);
  *du = V::Mul(d, silu);
  const F slope = V::Mul(s, V::Fma(g, V::Sub(one, s), one));
  *dg = V::Mul(V::Mul(d, u), slope);
}

// Of h = silu(gate) * up: h again, and the gradients of both factors.
void SiluMultiplyGradRow(const float* gate, const float* up, const float* dh, int64_t count,
                         float* h, float* dgate, float* dup) {
  int64_t i = 0;
  F ho, dgo, duo;
  for (; i + kL <= count; i += kL) {
    SiluGradVector(V::Load(gate + i), V::Load(up + i), V::Load(dh + i), &ho, &dgo, &duo);
    V::Store(h + i, ho);
    V::Store(dgate + i, dgo);
    V::Store(dup + i, duo);
  }
  if (i == count) return;
  alignas(64) float g[kL] = {}, u[kL] = {}, d[kL] = {};
  for (int64_t j = i; j < count; ++j) {
    g[j - i] = gate[j];
    u[j - i] = up[j];
    d[j - i] = dh[j];
  }
  SiluGradVector(V::Load(g), V::Load(u), V::Load(d), &ho, &dgo, &duo);
  V::Store(d, ho);
  V::Store(g, dgo);
  V::Store(u, duo);
  for (int64_t j = i; j < count; ++j) {
    h[j] = d[j - i];
    dgate[j] = g[j - i];
    dup[j] = u[j - i];
  }
}

// The loss of one row of logits, log(sum of e^z) less the label's z, of which a share `smoothing`
// is spread over all classes. With `grad` the row becomes the loss's gradient.
double LossRow(float* z, int64_t count, int64_t label, float smoothing, bool grad) {
  // Long sums in pieces, added up in double.
  constexpr int64_t kPiece = 1024;
  F tops = V::Set1(-INFINITY);
  int64_t i = 0;
  for (; i + kL <= count; i += kL) tops = V::Max(tops, V::Load(z + i));
  float top = V::MaxAcross(tops);
  for (; i < count; ++i) top = z[i] > top ? z[i] : top;
  const F t = V::Set1(top);
  double total = 0, plain = 0;
  for (int64_t first = 0; first < count; first += kPiece) {
    const int64_t end = Least(count, first + kPiece);
    F sum = V::Zero(), raw = V::Zero();
    for (i = first; i + kL <= end; i += kL) {
      const F v = V::Load(z + i);
      sum = V::Add(sum, Exp(V::Sub(v, t)));
      raw = V::Add(raw, v);
    }
    total += double{V::SumAcross(sum)};
    plain += double{V::SumAcross(raw)};
    if (i == end) continue;
    alignas(64) float lanes[kL];
    for (int64_t j = 0; j < kL; ++j) lanes[j] = i + j < end ? z[i + j] : -INFINITY;
    const int64_t real = end - i;
    V::Store(lanes, Exp(V::Sub(V::Load(lanes), t)));
    for (int64_t j = 0; j < real; ++j) {
      total += double{lanes[j]};
      plain += double{z[i + j]};
    }
  }
  const double log_sum = double{top} + __builtin_log(total);
  const double share = double{smoothing} / static_cast<double>(count);
  const double keep = 1.0 - double{smoothing};
  const double loss = log_sum - keep * double{z[label]} - share * plain;
  if (!grad) return loss;
  const float own = z[label];
  const F inverse = V::Set1(static_cast<float>(1.0 / total));
  const F spread = V::Set1(static_cast<float>(share));
  for (i = 0; i + kL <= count; i += kL) {
    V::Store(z + i, V::Sub(V::Mul(Exp(V::Sub(V::Load(z + i), t)), inverse), spread));
  }
  if (i < count) {
    alignas(64) float lanes[kL];
    for (int64_t j = 0; j < kL; ++j) lanes[j] = i + j < count ? z[i + j] : -INFINITY;
    V::Store(lanes, V::Sub(V::Mul(Exp(V::Sub(V::Load(lanes), t)), inverse), spread));
    for (int64_t j = i; j < count; ++j) z[j] = lanes[j - i];
  }
  const double p = __builtin_exp(double{own} - log_sum);
  z[label] = static_cast<float>(p - share - keep);
  return loss;
}

// ---- products over rows -----------------------------------------------------------------------

// M outputs' rows by one panel; x lies across: [groups][rows].
template <int M>
inline void TileAcross(const AcrossArgs& a, int64_t row, int64_t panel) {
  F acc[M][kVecs];
  for (int m = 0; m < M; ++m) {
    for (int v = 0; v < kVecs; ++v) acc[m][v] = V::Zero();
  }
  const float* x = a.x + row;
  const float* w = a.w + panel * a.panel_floats;
  for (int64_t g = 0; g < a.groups; ++g, x += a.ldx, w += a.step) {
    for (int v = 0; v < kVecs; ++v) {
      const F at = V::Load(w + v * kL);
      for (int m = 0; m < M; ++m) acc[m][v] = V::Fma(V::Set1(x[m]), at, acc[m][v]);
    }
  }
  for (int m = 0; m < M; ++m) {
    float* y = a.y + (row + m) * a.ldy + panel * 32;
    for (int v = 0; v < kVecs; ++v) V::Store(y + v * kL, V::Add(V::Load(y + v * kL), acc[m][v]));
  }
}

void PanelsAcross(const AcrossArgs& a, int64_t begin, int64_t end) {
  constexpr int kMost = V::kTileRows;
  for (int64_t panel = begin; panel < end; ++panel) {
    int64_t row = 0;
    for (; row + kMost <= a.rows; row += kMost) TileAcross<kMost>(a, row, panel);
    for (; row + 4 <= a.rows; row += 4) TileAcross<4>(a, row, panel);
    for (; row < a.rows; ++row) TileAcross<1>(a, row, panel);
  }
}

// ---- attention --------------------------------------------------------------------------------

// x becomes e^((x - top) * scale) with top its greatest, and `tail` zeros behind it; gives the sum
// of what it became, and log(sum of e^(x * scale)) in *log_sum.
float SoftmaxRow(float* x, int64_t count, float scale, int64_t tail, float* log_sum) {
  F tops = V::Set1(-INFINITY);
  int64_t i = 0;
  for (; i + kL <= count; i += kL) tops = V::Max(tops, V::Load(x + i));
  float top = V::MaxAcross(tops);
  for (; i < count; ++i) top = x[i] > top ? x[i] : top;
  const float sum = ExpWeights(x, count, top, scale, x);
  for (i = count; i < count + tail; ++i) x[i] = 0.0f;
  *log_sum = top * scale + static_cast<float>(__builtin_log(double{sum}));
  return sum;
}

// s, scores before scaling, becomes the weights e^(s * scale - log_sum); dp, gradients of the
// weights, those of the scores: weight * (dp - along) * scale. Both have `tail` zeros behind.
void SoftmaxGradRow(float* s, float* dp, int64_t count, float scale, float log_sum, float along,
                    int64_t tail) {
  const F f = V::Set1(scale), l = V::Set1(log_sum), a = V::Set1(along);
  int64_t i = 0;
  for (; i + kL <= count; i += kL) {
    const F p = Exp(V::Sub(V::Mul(V::Load(s + i), f), l));
    V::Store(s + i, p);
    V::Store(dp + i, V::Mul(V::Mul(p, V::Sub(V::Load(dp + i), a)), f));
  }
  if (i < count) {
    alignas(64) float lanes[kL] = {};
    for (int64_t j = i; j < count; ++j) lanes[j - i] = s[j];
    V::Store(lanes, Exp(V::Sub(V::Mul(V::Load(lanes), f), l)));
    for (int64_t j = i; j < count; ++j) {
      s[j] = lanes[j - i];
      dp[j] = s[j] * (dp[j] - along) * scale;
    }
  }
  for (i = count; i < count + tail; ++i) s[i] = dp[i] = 0.0f;
}

float DotRow(const float* x, const float* y, int64_t count) {
  F sum = V::Zero();
  int64_t i = 0;
  for (; i + kL <= count; i += kL) sum = V::Fma(V::Load(x + i), V::Load(y + i), sum);
  float total = V::SumAcross(sum);
  for (; i < count; ++i) total += x[i] * y[i];
  return total;
}
