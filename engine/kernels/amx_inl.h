// Integer panels on tiles (Intel AMX): 16 rows by 16 outputs at a time, the sums of a group in one
// tile; then as in int_panels_inl.h, bit for bit. Included by a road after road_inl.h; `Tiles` is
// the processor's, or a test's that computes in memory what the processor's would.
//
// Tiles offers: a configuration for the calling thread as long as an object lives; Zero, Load (rows
// `stride` apart), Dot (C += A s8 x B u8) and Store, by number of the tile:
//   0, 1: sums [16][16] s32
//   2: 16 rows of 64 s8     3: 64 codes of 16 outputs, [16][16][4] u8
//   4, 6: 16 rows of 32 s8  5, 7: 32 codes of 16 outputs, [8][16][4] u8

// From nibbles to bytes: codes [4][32][4] of a group of 32, low nibbles first, for 16 outputs from
// `lane` on, as [8][16][4].
inline void UnpackNibbles(const char* codes, int64_t lane, char* to) {
  for (int64_t k = 0; k < 4; ++k) {
    for (int64_t i = 0; i < 64; i += 4 * kL) {
      const auto both = V::LoadCodes(codes + k * 128 + lane * 4 + i);
      V::StoreCodes(to + k * 64 + i, V::LowNibbles(both));
      V::StoreCodes(to + (k + 4) * 64 + i, V::HighNibbles(both));
    }
  }
}

// Sums of one group: 16 rows of x against 16 outputs, into tile T.
template <typename Tiles, int Bits, int T>
inline void AmxGroup(const char* codes, int64_t lane, const int8_t* x, int64_t ldx, int64_t length,
                     int32_t* sums) {
  Tiles::template Zero<T>();
  if constexpr (Bits == 4) {
    alignas(64) char bytes[8 * 64];
    UnpackNibbles(codes, lane, bytes);
    Tiles::template Load<4 + 2 * T>(x, ldx);
    Tiles::template Load<5 + 2 * T>(bytes, 64);
    Tiles::template Dot<T, 4 + 2 * T, 5 + 2 * T>();
  } else {
    const char* w = codes + lane * 4;
    int64_t k = 0;
    for (; k + 64 <= length; k += 64) {
      Tiles::template Load<2>(x + k, ldx);
      Tiles::template Load<3>(w + k * 32, 128);
      Tiles::template Dot<T, 2, 3>();
    }
    if (k < length) {
      Tiles::template Load<4 + 2 * T>(x + k, ldx);
      Tiles::template Load<5 + 2 * T>(w + k * 32, 128);
      Tiles::template Dot<T, 4 + 2 * T, 5 + 2 * T>();
    }
  }
  Tiles::template Store<T>(sums, 64);
}

// 16 rows by 16 outputs from lane `lane` of a panel on.
template <typename Tiles, int Bits, bool Minimum>
inline void AmxTile(const PanelArgs& a, int64_t row, int64_t panel, int64_t lane) {
  constexpr int kOver = Bits == 8 ? 128 : Minimum ? 0 : 8;
  constexpr int kVectors = static_cast<int>(16 / kL);
  const auto* x = static_cast<const int8_t*>(a.x) + row * a.ldx;
  const float* x_scales = a.x_scales + row * a.groups;
  const int32_t* x_sums = a.x_sums + row * a.groups;
  const char* w = a.panels + panel * a.panel_bytes;
  alignas(64) int32_t sums[2][16 * 16];
  F total[16][kVectors];
  for (int m = 0; m < 16; ++m) {
    for (int c = 0; c < kVectors; ++c) total[m][c] = V::Zero();
  }
  const auto add = [&](const int32_t* of, const char* codes, int64_t g, int64_t length) {
    const char* scales = codes + length * 32 * Bits / 8;
    for (int c = 0; c < kVectors; ++c) {
      const int64_t n = lane + c * kL;
      const auto* halves = reinterpret_cast<const uint16_t*>(scales) + n;
      const F scale =
          a.whole ? V::Load(reinterpret_cast<const float*>(scales) + n) : V::LoadHalf(halves);
      const F least = Minimum ? V::LoadHalf(halves + 32) : V::Zero();
#pragma GCC unroll 16
      for (int m = 0; m < 16; ++m) {
        const int64_t at = m * a.groups + g;
        const auto acc = V::AddI(V::LoadI(of + m * 16 + c * kL), V::Set1I(-kOver * x_sums[at]));
        const F both = V::Mul(scale, V::Set1(x_scales[at]));
        if (a.whole) {
          total[m][c] = V::Mul(V::ToFloat(acc), both);
        } else {
          total[m][c] = V::Fma(V::ToFloat(acc), both, total[m][c]);
          if constexpr (Minimum) {
            const float sum = x_scales[at] * static_cast<float>(x_sums[at]);
            total[m][c] = V::Fma(least, V::Set1(sum), total[m][c]);
          }
        }
      }
    }
  };
  const auto length = [&](int64_t g) { return g + 1 < a.groups ? a.group_size : a.last_length; };
  // Two groups at a time, so that the tiles of one are at work while the other is added up.
  int64_t g = 0;
  for (; g + 2 <= a.groups; g += 2) {
    const char* next = w + a.group_bytes;
    const int8_t* next_x = x + a.group_size;
    AmxGroup<Tiles, Bits, 0>(w, lane, x, a.ldx, a.group_size, sums[0]);
    AmxGroup<Tiles, Bits, 1>(next, lane, next_x, a.ldx, length(g + 1), sums[1]);
    add(sums[0], w, g, a.group_size);
    add(sums[1], next, g + 1, length(g + 1));
    w = next + a.group_bytes;
    x = next_x + a.group_size;
  }
  if (g < a.groups) {
    AmxGroup<Tiles, Bits, 0>(w, lane, x, a.ldx, length(g), sums[0]);
    add(sums[0], w, g, length(g));
  }
  for (int m = 0; m < 16; ++m) {
    for (int c = 0; c < kVectors; ++c) {
      const int64_t n = panel * 32 + lane + c * kL;
      if (n >= a.out) break;
      StoreOutputs(a, total[m][c], row + m, n);
    }
  }
}

// Rows beyond the last 16 go to the road's own tiles, and so does what no tile is as long as.
template <typename Tiles, typename Tiling, int Bits, bool Minimum>
void AmxPanels(const PanelArgs& a, int64_t begin, int64_t end) {
  const int64_t whole = a.rows / 16 * 16;
  if (whole == 0 || a.group_size % 32 != 0 || a.last_length % 32 != 0) {
    return IntPanels<Tiling, Bits, Minimum>(a, begin, end);
  }
  {
    const Tiles configured;
    for (int64_t panel = begin; panel < end; ++panel) {
      for (int64_t row = 0; row < whole; row += 16) {
        AmxTile<Tiles, Bits, Minimum>(a, row, panel, 0);
        AmxTile<Tiles, Bits, Minimum>(a, row, panel, 16);
      }
    }
  }
  if (whole == a.rows) return;
  PanelArgs rest = a;
  rest.rows -= whole;
  rest.x = static_cast<const int8_t*>(a.x) + whole * a.ldx;
  rest.y += whole * a.ldy;
  rest.x_scales += whole * a.groups;
  rest.x_sums += whole * a.groups;
  IntPanels<Tiling, Bits, Minimum>(rest, begin, end);
}

template <typename Tiles, typename Tiling>
constexpr IntKernel AmxKernelOf(const char* name, bool (*there)()) {
  return {name,
          there,
          16,
          &AmxPanels<Tiles, Tiling, 8, false>,
          &AmxPanels<Tiles, Tiling, 4, false>,
          &AmxPanels<Tiles, Tiling, 4, true>};
}
