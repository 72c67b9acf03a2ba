// Products over integer panels, over a road's vector type V (see road_inl.h). Within a group the
// sum is exact in int32, so any order of it gives the same bits; groups are added in order, each as
// float(sum) * (scale of the weight * scale of x).

template <int Bits, bool Minimum>
inline constexpr int32_t kOffset = Bits == 8 ? 128
                                   : Minimum ? 0
                                             : 8;

// Adds the products of M rows with `length` codes to acc: C vectors of outputs in each of P panels,
// w[p] being where their codes begin.
template <int Bits, int M, int P, int C>
[[gnu::always_inline]] inline void IntDots(const char* const (&w)[P], const int8_t* x, int64_t ldx,
                                           int64_t length, typename V::I (&acc)[M][P * C]) {
  const auto four = [](const int8_t* at) {
    uint32_t out;
    __builtin_memcpy(&out, at, 4);
    return V::Set1I(static_cast<int32_t>(out));
  };
  const int64_t steps = Bits == 8 ? length / 4 : length / 8;
  for (int64_t k = 0; k < steps; ++k) {
    typename V::I low[P * C], high[P * C];
    for (int p = 0; p < P; ++p) {
      for (int c = 0; c < C; ++c) {
        const auto codes = V::LoadCodes(w[p] + k * 128 + c * kL * 4);
        low[p * C + c] = Bits == 8 ? codes : V::LowNibbles(codes);
        if constexpr (Bits == 4) high[p * C + c] = V::HighNibbles(codes);
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      const auto quad = four(x + m * ldx + 4 * k);
#pragma GCC unroll 8
      for (int c = 0; c < P * C; ++c) acc[m][c] = V::Dot4(acc[m][c], low[c], quad);
      if constexpr (Bits == 4) {
        const auto other = four(x + m * ldx + length / 2 + 4 * k);
#pragma GCC unroll 8
        for (int c = 0; c < P * C; ++c) acc[m][c] = V::Dot4(acc[m][c], high[c], other);
      }
    }
  }
}

// M rows by C vectors of outputs from lane `lane` on, in each of P neighbouring panels. Totals lie
// in memory, so that the registers are the sums'.
template <int Bits, bool Minimum, int M, int P, int C>
inline void IntTile(const PanelArgs& a, int64_t row, int64_t panel, int64_t lane) {
  const auto* x = static_cast<const int8_t*>(a.x) + row * a.ldx;
  const float* x_scales = a.x_scales + row * a.groups;
  const int32_t* x_sums = a.x_sums + row * a.groups;
  const char* w[P];
  for (int p = 0; p < P; ++p) w[p] = a.panels + (panel + p) * a.panel_bytes + lane * 4;
  F total[M][P * C];
  for (int m = 0; m < M; ++m) {
    for (int c = 0; c < P * C; ++c) total[m][c] = V::Zero();
  }
  const bool whole = a.whole;
  for (int64_t g = 0; g < a.groups; ++g, x += a.group_size) {
    const int64_t length = g + 1 < a.groups ? a.group_size : a.last_length;
    typename V::I acc[M][P * C];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
      // Codes are shifted to be unsigned; that adds the offset times the sum over x.
      const auto shift = V::Set1I(-kOffset<Bits, Minimum> * x_sums[m * a.groups + g]);
#pragma GCC unroll 4
      for (int c = 0; c < P * C; ++c) acc[m][c] = shift;
    }
    // The commonest length as a constant lets the compiler unroll.
    if (length == 32) {
      IntDots<Bits, M, P, C>(w, x, a.ldx, 32, acc);
    } else {
      IntDots<Bits, M, P, C>(w, x, a.ldx, length, acc);
    }
    // Every index into the sums is a constant once these loops are unrolled: so they stay in
    // registers.
#pragma GCC unroll 4
    for (int at = 0; at < P * C; ++at) {
      const char* scales = w[at / C] + length * 32 * Bits / 8;
      if (whole) {
        const F scale = V::Load(reinterpret_cast<const float*>(scales) + at % C * kL);
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) {
          total[m][at] = V::Mul(V::ToFloat(acc[m][at]), V::Mul(scale, V::Set1(x_scales[m])));
        }
      } else {
        const auto* halves = reinterpret_cast<const uint16_t*>(scales - lane * 2) + at % C * kL;
        const F scale = V::LoadHalf(halves);
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) {
          const F both = V::Mul(scale, V::Set1(x_scales[m * a.groups + g]));
          total[m][at] = V::Fma(V::ToFloat(acc[m][at]), both, total[m][at]);
        }
        if constexpr (Minimum) {
          const F least = V::LoadHalf(halves + 32);
#pragma GCC unroll 8
          for (int m = 0; m < M; ++m) {
            const float sum =
                x_scales[m * a.groups + g] * static_cast<float>(x_sums[m * a.groups + g]);
            total[m][at] = V::Fma(least, V::Set1(sum), total[m][at]);
          }
        }
      }
    }
    for (int p = 0; p < P; ++p) w[p] += a.group_bytes;
  }
  for (int m = 0; m < M; ++m) {
    for (int p = 0; p < P; ++p) {
      for (int c = 0; c < C; ++c) {
        const int64_t n = (panel + p) * 32 + lane + c * kL;
        if (n >= a.out) break;
        StoreOutputs(a, total[m][p * C + c], row + m, n);
      }
    }
  }
}

// All rows over P neighbouring panels. Row tiles are chosen for speed alone.
template <int Bits, bool Minimum, int P>
void IntRows(const PanelArgs& a, int64_t panel) {
  constexpr int kMost = V::kIntRows;
  // Few registers: more rows take a part of a panel at a time.
  constexpr int C = kVecs < V::kIntVectors ? kVecs : V::kIntVectors;
  const auto tile = [&]<int M>(std::integral_constant<int, M>, int64_t row) {
    for (int64_t lane = 0; lane < 32; lane += C * kL) {
      IntTile<Bits, Minimum, M, P, C>(a, row, panel, lane);
    }
  };
  int64_t row = 0;
  for (; row + kMost <= a.rows; row += kMost) tile(std::integral_constant<int, kMost>(), row);
  if constexpr (kMost > 4) {
    for (; row + 4 <= a.rows; row += 4) tile(std::integral_constant<int, 4>(), row);
  }
  if constexpr (kMost > 2) {
    for (; row + 2 <= a.rows; row += 2) tile(std::integral_constant<int, 2>(), row);
  }
  for (; row < a.rows; ++row) {
    for (int p = 0; p < P; ++p) IntTile<Bits, Minimum, 1, 1, kVecs>(a, row, panel + p, 0);
  }
}

template <int Bits, bool Minimum>
void IntPanels(const PanelArgs& a, int64_t begin, int64_t end) {
  int64_t panel = begin;
  if (a.rows > 1) {
    for (; panel + V::kIntPanels <= end; panel += V::kIntPanels) {
      IntRows<Bits, Minimum, V::kIntPanels>(a, panel);
    }
  }
  for (; panel < end; ++panel) IntRows<Bits, Minimum, 1>(a, panel);
}
