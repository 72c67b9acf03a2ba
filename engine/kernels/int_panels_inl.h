// Products over integer panels, over a road's vector type V (see road_inl.h). Within a group the
// sum is exact in int32, so any order of it gives the same bits; groups are added in order, each as
// float(sum) * (scale of the weight * scale of x).

template <int Bits, bool Minimum>
inline constexpr int32_t kOffset = Bits == 8 ? 128
                                   : Minimum ? 0
                                             : 8;

// Adds the products of M rows with `length` codes at w to acc, C vectors of outputs.
template <int Bits, int M, int C>
inline void IntDots(const char* w, const int8_t* x, int64_t ldx, int64_t length,
                    typename V::I (&acc)[M][C]) {
  const auto four = [](const int8_t* at) {
    uint32_t out;
    __builtin_memcpy(&out, at, 4);
    return out;
  };
  if constexpr (Bits == 8) {
    for (int64_t k = 0; k < length; k += 4, w += 128) {
      typename V::I codes[C];
      for (int c = 0; c < C; ++c) codes[c] = V::LoadCodes(w + c * kL * 4);
      for (int m = 0; m < M; ++m) {
        const uint32_t quad = four(x + m * ldx + k);
        for (int c = 0; c < C; ++c) acc[m][c] = V::Dot4(acc[m][c], codes[c], quad);
      }
    }
  } else {
    const int64_t half = length / 2;
    for (int64_t k = 0; k < half; k += 4, w += 128) {
      typename V::I low[C], high[C];
      for (int c = 0; c < C; ++c) {
        const auto both = V::LoadCodes(w + c * kL * 4);
        low[c] = V::LowNibbles(both);
        high[c] = V::HighNibbles(both);
      }
      for (int m = 0; m < M; ++m) {
        const uint32_t first = four(x + m * ldx + k), second = four(x + m * ldx + half + k);
        for (int c = 0; c < C; ++c) {
          acc[m][c] = V::Dot4(V::Dot4(acc[m][c], low[c], first), high[c], second);
        }
      }
    }
  }
}

// M rows by C vectors of outputs, from lane `lane` of the panel on.
template <int Bits, bool Minimum, int M, int C>
inline void IntTile(const PanelArgs& a, int64_t row, int64_t panel, int64_t lane) {
  const auto* x = static_cast<const int8_t*>(a.x) + row * a.ldx;
  const float* x_scales = a.x_scales + row * a.groups;
  const int32_t* x_sums = a.x_sums + row * a.groups;
  const char* w = a.panels + panel * a.panel_bytes;
  F total[M][C];
  for (int m = 0; m < M; ++m) {
    for (int c = 0; c < C; ++c) total[m][c] = V::Zero();
  }
  for (int64_t g = 0; g < a.groups; ++g, w += a.group_bytes, x += a.group_size) {
    const int64_t length = g + 1 < a.groups ? a.group_size : a.last_length;
    typename V::I acc[M][C];
    for (int m = 0; m < M; ++m) {
      // Codes are shifted to be unsigned; that adds the offset times the sum over x.
      const auto shift = V::Set1I(-kOffset<Bits, Minimum> * x_sums[m * a.groups + g]);
      for (int c = 0; c < C; ++c) acc[m][c] = shift;
    }
    // The commonest length as a constant lets the compiler unroll.
    if (length == 32) {
      IntDots<Bits, M, C>(w + lane * 4, x, a.ldx, 32, acc);
    } else {
      IntDots<Bits, M, C>(w + lane * 4, x, a.ldx, length, acc);
    }
    const char* scales = w + length * 32 * Bits / 8;
    if (a.whole) {
      for (int c = 0; c < C; ++c) {
        const F scale = V::Load(reinterpret_cast<const float*>(scales) + lane + c * kL);
        for (int m = 0; m < M; ++m) {
          total[m][c] = V::Mul(V::ToFloat(acc[m][c]), V::Mul(scale, V::Set1(x_scales[m])));
        }
      }
      break;
    }
    for (int c = 0; c < C; ++c) {
      const auto* halves = reinterpret_cast<const uint16_t*>(scales) + lane + c * kL;
      const F scale = V::LoadHalf(halves);
      for (int m = 0; m < M; ++m) {
        const F both = V::Mul(scale, V::Set1(x_scales[m * a.groups + g]));
        total[m][c] = V::Fma(V::ToFloat(acc[m][c]), both, total[m][c]);
      }
      if constexpr (Minimum) {
        const F least = V::LoadHalf(halves + 32);
        for (int m = 0; m < M; ++m) {
          const float sum =
              x_scales[m * a.groups + g] * static_cast<float>(x_sums[m * a.groups + g]);
          total[m][c] = V::Fma(least, V::Set1(sum), total[m][c]);
        }
      }
    }
  }
  for (int m = 0; m < M; ++m) {
    for (int c = 0; c < C; ++c) {
      const int64_t n = panel * 32 + lane + c * kL;
      if (n >= a.out) break;
      StoreOutputs(a, total[m][c], row + m, n);
    }
  }
}

template <int Bits, bool Minimum, int M>
inline void IntRows(const PanelArgs& a, int64_t row, int64_t panel) {
  // One row takes a panel's lines whole; more rows take as many vectors as registers allow.
  constexpr int C = M == 1 ? kVecs : kVecs < V::kIntVectors ? kVecs : V::kIntVectors;
  for (int64_t lane = 0; lane < 32; lane += C * kL) {
    IntTile<Bits, Minimum, M, C>(a, row, panel, lane);
  }
}

// Row tiles are chosen for speed alone.
template <int Bits, bool Minimum>
void IntPanels(const PanelArgs& a, int64_t begin, int64_t end) {
  constexpr int kMost = V::kIntRows;
  for (int64_t panel = begin; panel < end; ++panel) {
    int64_t row = 0;
    for (; row + kMost <= a.rows; row += kMost) IntRows<Bits, Minimum, kMost>(a, row, panel);
    if constexpr (kMost > 4) {
      for (; row + 4 <= a.rows; row += 4) IntRows<Bits, Minimum, 4>(a, row, panel);
    }
    if constexpr (kMost > 2) {
      for (; row + 2 <= a.rows; row += 2) IntRows<Bits, Minimum, 2>(a, row, panel);
    }
    for (; row < a.rows; ++row) IntRows<Bits, Minimum, 1>(a, row, panel);
  }
}
