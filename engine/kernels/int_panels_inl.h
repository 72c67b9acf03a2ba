// Products over integer panels, over a road's vector type V (see road_inl.h) and its ways to make
// dot products. Within a group the sum is exact in int32, so any order of it, and any way, gives
// the same bits; groups are added in order, each as float(sum) * (scale of the weight * scale of
// x).
//
// Dots offers: Spread (four s8 of a row for every lane, as Dot8 takes them), FromOffset and
// FromSigned (codes as Dot8 takes them), Dot8 (adds quadruples of codes times s8, too much by
// kOffset8 for each unit of the s8), and DotNibbles (the same of codes 0..15, into NarrowSum).

// What sums of products are too much by, for each unit of the sum over x.
template <typename Dots, int Bits, bool Minimum>
inline constexpr int32_t kOffset = Bits == 8 ? Dots::kOffset8
                                   : Minimum ? 0
                                             : 8;

// The products of M rows with `length` codes, added up: C vectors of outputs in each of P panels,
// w[p] being where their codes begin. `shift` is where each row's sums begin.
template <typename Dots, int Bits, int M, int P, int C>
[[gnu::always_inline]] inline void IntDots(const char* const (&w)[P], const int8_t* x, int64_t ldx,
                                           int64_t length, const int32_t (&shift)[M],
                                           typename V::I (&acc)[M][P * C]) {
  const auto four = [](const int8_t* at) {
    int32_t out;
    __builtin_memcpy(&out, at, 4);
    return out;
  };
  if constexpr (Bits == 8) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
      for (int c = 0; c < P * C; ++c) acc[m][c] = V::Set1I(shift[m]);
    }
    for (int64_t k = 0; k < length / 4; ++k) {
      typename Dots::Codes8 codes[P * C];
#pragma GCC unroll 8
      for (int c = 0; c < P * C; ++c) {
        codes[c] = Dots::FromOffset(V::LoadCodes(w[c / C] + k * 128 + c % C * kL * 4));
      }
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const auto quad = Dots::Spread(four(x + m * ldx + 4 * k));
#pragma GCC unroll 8
        for (int c = 0; c < P * C; ++c) acc[m][c] = Dots::Dot8(acc[m][c], codes[c], quad);
      }
    }
  } else {
    // Sums of 32 products of a nibble fit V's narrow sums.
    static_assert(32 / 4 * 2 * 15 * 127 <= 32767);
    typename Dots::NarrowSum sums[M][P * C];
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
      for (int c = 0; c < P * C; ++c) sums[m][c] = Dots::BeginNarrow(shift[m]);
    }
#pragma GCC unroll 1
    for (int64_t k = 0; k < 4; ++k) {
      typename V::I low[P * C], high[P * C];
#pragma GCC unroll 8
      for (int c = 0; c < P * C; ++c) {
        const auto both = V::LoadCodes(w[c / C] + k * 128 + c % C * kL * 4);
        low[c] = V::LowNibbles(both);
        high[c] = V::HighNibbles(both);
      }
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) {
        const auto quad = V::Set1I(four(x + m * ldx + 4 * k));
        const auto other = V::Set1I(four(x + m * ldx + 16 + 4 * k));
#pragma GCC unroll 8
        for (int c = 0; c < P * C; ++c) {
          sums[m][c] = Dots::DotNibbles(Dots::DotNibbles(sums[m][c], low[c], quad), high[c], other);
        }
      }
    }
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
      for (int c = 0; c < P * C; ++c) acc[m][c] = Dots::EndNarrow(sums[m][c], shift[m]);
    }
  }
}

// M rows by C vectors of outputs from lane `lane` on, in each of P neighbouring panels. Totals lie
// in memory, so that the registers are the sums'.
template <typename Dots, int Bits, bool Minimum, int M, int P, int C>
inline void IntTile(const PanelArgs& a, int64_t row, int64_t panel, int64_t lane) {
  const auto* x = static_cast<const int8_t*>(a.x) + row * a.ldx;
  const float* x_scales = a.x_scales + FactorAt(row, a.groups);
  const int32_t* x_sums = a.x_sums + FactorAt(row, a.groups);
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
    int32_t shift[M];
    for (int m = 0; m < M; ++m) shift[m] = -kOffset<Dots, Bits, Minimum> * x_sums[m];
    // The commonest length as a constant lets the compiler unroll. 4 bits know no other.
    if (Bits == 4 || length == 32) {
      IntDots<Dots, Bits, M, P, C>(w, x, a.ldx, 32, shift, acc);
    } else {
      IntDots<Dots, Bits, M, P, C>(w, x, a.ldx, length, shift, acc);
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
          const F both = V::Mul(scale, V::Set1(x_scales[m]));
          total[m][at] = V::Fma(V::ToFloat(acc[m][at]), both, total[m][at]);
        }
        if constexpr (Minimum) {
          const F least = V::LoadHalf(halves + 32);
#pragma GCC unroll 8
          for (int m = 0; m < M; ++m) {
            const float sum = x_scales[m] * static_cast<float>(x_sums[m]);
            total[m][at] = V::Fma(least, V::Set1(sum), total[m][at]);
          }
        }
      }
    }
    for (int p = 0; p < P; ++p) w[p] += a.group_bytes;
    x_scales += kRowBlock;
    x_sums += kRowBlock;
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

// All rows over P neighbouring panels: as many as `Tiling` says at once, then fewer. How rows are
// split is for speed alone.
template <typename Tiling, int Bits, bool Minimum, int P>
void IntRows(const PanelArgs& a, int64_t panel) {
  // Few registers: more rows take a part of a panel at a time.
  constexpr int C = kVecs < Tiling::kVectors ? kVecs : Tiling::kVectors;
  static_assert(kRowBlock % Tiling::kRows == 0);  // a tile's rows lie in one block
  const auto tile = [&]<int M>(std::integral_constant<int, M>, int64_t row) {
    for (int64_t lane = 0; lane < 32; lane += C * kL) {
      IntTile<typename Tiling::Dots, Bits, Minimum, M, P, C>(a, row, panel, lane);
    }
  };
  int64_t row = 0;
  for (; row + Tiling::kRows <= a.rows; row += Tiling::kRows) {
    tile(std::integral_constant<int, Tiling::kRows>(), row);
  }
  if constexpr (Tiling::kRows > 2) {
    for (; row + 2 <= a.rows; row += 2) tile(std::integral_constant<int, 2>(), row);
  }
  for (; row < a.rows; ++row) {
    for (int p = 0; p < P; ++p) {
      IntTile<typename Tiling::Dots, Bits, Minimum, 1, 1, kVecs>(a, row, panel + p, 0);
    }
  }
}

template <typename Tiling, int Bits, bool Minimum>
void IntPanels(const PanelArgs& a, int64_t begin, int64_t end) {
  int64_t panel = begin;
  if (a.rows > 1) {
    for (; panel + Tiling::kPanels <= end; panel += Tiling::kPanels) {
      IntRows<Tiling, Bits, Minimum, Tiling::kPanels>(a, panel);
    }
  } else {
    // Some memories give more where several panels are read at once.
    constexpr int P = Tiling::kOneRowPanels;
    for (; P > 1 && panel + P <= end; panel += P) {
      IntTile<typename Tiling::Dots, Bits, Minimum, 1, P, kVecs>(a, 0, panel, 0);
    }
  }
  for (; panel < end; ++panel) IntRows<Tiling, Bits, Minimum, 1>(a, panel);
}

template <typename Tiling>
constexpr IntKernel IntKernelOf(const char* name, bool (*there)() = nullptr) {
  return {name,
          there,
          1,
          &IntPanels<Tiling, 8, false>,
          &IntPanels<Tiling, 4, false>,
          &IntPanels<Tiling, 4, true>};
}
