// Integer panels on tiles (Intel AMX), bit for bit as in int_panels_inl.h: 16 rows by a strip of 16
// outputs at a time. Sums of a group come from one tile, and are scaled while the tiles work on the
// groups after it: with tiles in use the processor has one port for floats left, which is what
// limits this. Included by a road after road_inl.h; `Tiles` is the processor's, or a test's that
// computes in memory what the processor's would.
//
// Tiles offers: a configuration for the calling thread as long as an object lives; Zero, Load (rows
// `stride` apart), Dot (C += A s8 x B u8) and Store, by number of the tile. An object made with the
// length K, 32 or 64, has
//   0, 1: sums [16][16] s32
//   2, 4: 16 rows of K s8
//   3, 5: K codes of 16 outputs, [K / 4][16][4] u8

constexpr int64_t kStripWidth = 16;
// Of nibbles, this many inner positions are brought into bytes ahead of use. Rows go together by so
// many that a piece's sums stay at hand.
constexpr int64_t kPieceLength = 1024, kStripRows = 128;
constexpr int kStripVectors = static_cast<int>(kStripWidth / kL);

struct AmxSpace {
  alignas(64) char bytes[2][kPieceLength * kStripWidth];
  alignas(64) float totals[kStripRows * kStripWidth];
  alignas(64) int32_t sums[4][kRowBlock * kStripWidth];
  alignas(64) int32_t shift[kRowBlock];
};

// From nibbles to bytes: codes [4][32][4] of a group of 32, low nibbles first, for the 16 outputs
// from `lane` on, as [8][16][4].
inline void UnpackNibbles(const char* codes, int64_t lane, char* to) {
  for (int64_t k = 0; k < 4; ++k) {
    for (int64_t i = 0; i < 64; i += 4 * kL) {
      const auto both = V::LoadCodes(codes + k * 128 + lane * 4 + i);
      V::StoreCodes(to + k * 64 + i, V::LowNibbles(both));
      V::StoreCodes(to + (k + 4) * 64 + i, V::HighNibbles(both));
    }
  }
}

// Tile T += 16 rows of x times codes whose quadruples are `stride` apart.
template <typename Tiles, int K, int T>
inline void AmxDots(const int8_t* x, int64_t ldx, const char* codes, int64_t stride,
                    int64_t length) {
#pragma GCC unroll 1
  for (int64_t k = 0; k < length; k += K) {
    Tiles::template Load<2 + 2 * T>(x + k, ldx);
    Tiles::template Load<3 + 2 * T>(codes + k / 4 * stride, stride);
    Tiles::template Dot<T, 2 + 2 * T, 3 + 2 * T>();
  }
}

// Where a walk over all products of a call is: one group of one strip with one block of rows.
// Strips follow each other; a strip goes piece by piece, a piece block by block, a block group by
// group.
struct AmxCursor {
  const PanelArgs& a;
  const int64_t rows_begin, rows_end, groups_a_piece;
  int64_t panel, lane = 0;
  int64_t first = 0, last, piece = 0;  // the piece's groups, and how many came before it
  int64_t row, group = 0;

  AmxCursor(const PanelArgs& of, int64_t rows_from, int64_t rows_to, int64_t groups, int64_t begin)
      : a(of),
        rows_begin(rows_from),
        rows_end(rows_to),
        groups_a_piece(groups),
        panel(begin),
        last(Least(groups, of.groups)),
        row(rows_from) {}
  int64_t length(int64_t g) const { return g + 1 < a.groups ? a.group_size : a.last_length; }
  const char* codes(int64_t g) const {
    return a.panels + panel * a.panel_bytes + g * a.group_bytes;
  }
  void NextPiece() {
    ++piece;
    row = rows_begin;
    first = last;
    if (first == a.groups) {
      first = 0;
      lane = kStripWidth - lane;
      if (lane == 0) ++panel;
    }
    group = first;
    last = Least(first + groups_a_piece, a.groups);
  }
  // Whether a new piece begins.
  bool NextBlock() {
    group = first;
    row += kRowBlock;
    if (row < rows_end) return false;
    NextPiece();
    return true;
  }
  bool Next() { return ++group == last && NextBlock(); }
};

// Rows [rows_begin, rows_end), of which there are at most kStripRows and a multiple of 16, against
// panels [begin, end).
template <typename Tiles, int K, int Bits, bool Minimum>
void AmxWalk(const PanelArgs& a, int64_t rows_begin, int64_t rows_end, int64_t begin, int64_t end,
             AmxSpace* space) {
  constexpr int kOver = Bits == 8 ? 128 : Minimum ? 0 : 8;
  const int64_t groups_a_piece = Bits == 8 ? a.groups : kPieceLength / 32;
  AmxCursor made(a, rows_begin, rows_end, groups_a_piece, begin);  // of what sums are made
  AmxCursor added = made;                                          // of what is added up
  AmxCursor next = made;                                           // the piece after that of `made`
  const auto unpack = [&](int64_t g) {
    if (g < next.last && next.panel < end) {
      UnpackNibbles(next.codes(g), next.lane,
                    space->bytes[next.piece & 1] + (g - next.first) * 32 * kStripWidth);
    }
  };
  for (int64_t g = 0; g < groups_a_piece && Bits == 4; ++g) unpack(g);
  next.NextPiece();
  // Makes the sums of one step.
  const auto make = [&](int64_t step) {
    if (made.panel >= end) return;
    const int64_t at = made.group - made.first, length = made.length(made.group);
    const auto* x = static_cast<const int8_t*>(a.x) + made.row * a.ldx + made.group * a.group_size;
    const char* codes = Bits == 8 ? made.codes(made.group) + made.lane * 4
                                  : space->bytes[made.piece & 1] + at * 32 * kStripWidth;
    constexpr int64_t kStride = Bits == 8 ? 128 : 64;
    int32_t* sums = space->sums[step & 3];
    if ((step & 1) == 0) {
      Tiles::template Zero<0>();
      AmxDots<Tiles, K, 0>(x, a.ldx, codes, kStride, length);
      Tiles::template Store<0>(sums, 64);
    } else {
      Tiles::template Zero<1>();
      AmxDots<Tiles, K, 1>(x, a.ldx, codes, kStride, length);
      Tiles::template Store<1>(sums, 64);
    }
    if (Bits == 4 && made.row + kRowBlock == rows_end) {
      // The next piece is made ready beside the last rows of this one.
      unpack(next.first + at);
      for (int64_t g = next.first + at + 1; made.group + 1 == made.last && g < next.last; ++g) {
        unpack(g);
      }
    }
    if (Bits == 8 && made.row == rows_begin && next.panel < end) {
      // Codes of the next strip come nearer.
      const char* from = next.codes(made.group) + next.lane * 4;
#pragma GCC unroll 4
      for (int64_t k = 0; k < length * 32; k += 128) __builtin_prefetch(from + k);
    }
    if (made.Next()) next.NextPiece();
  };
  // Two steps ahead of where sums are added up.
  make(0);
  make(1);
  int64_t step = 0;
  while (added.panel < end) {
    float* const totals = space->totals + (added.row - rows_begin) * kStripWidth;
    const char* scales = added.codes(added.first) + added.lane * 2;
    const int64_t group_bytes = a.group_bytes, last = added.last;
    const int64_t factors = added.row * a.groups + added.first * kRowBlock;
    const float* x_scales = a.x_scales + factors;
    const int32_t* x_sums = a.x_sums + factors;
    F total[16][kStripVectors];
#pragma GCC unroll 16
    for (int m = 0; m < 16; ++m) {
#pragma GCC unroll 16
      for (int c = 0; c < kStripVectors; ++c) {
        total[m][c] = added.first == 0 ? V::Zero() : V::Load(totals + m * 16 + c * kL);
      }
    }
#pragma GCC unroll 1
    for (int64_t g = added.first; g < last; ++g, ++step) {
      make(step + 2);
      const int32_t* sums = space->sums[step & 3];
      if constexpr (kOver != 0) {
        for (int64_t m = 0; m < 16; m += kL) {
          V::StoreI(space->shift + m, V::MulI(V::LoadI(x_sums + m), V::Set1I(-kOver)));
        }
        // Else the compiler takes them from the register one by one.
        asm volatile("" : : : "memory");
      }
#pragma GCC unroll 16
      for (int c = 0; c < kStripVectors; ++c) {
        const auto* halves =
            reinterpret_cast<const uint16_t*>(scales + added.length(g) * 4 * Bits) + c * kL;
        const F scale = V::LoadHalf(halves);
#pragma GCC unroll 16
        for (int m = 0; m < 16; ++m) {
          auto sum = V::LoadI(sums + m * 16 + c * kL);
          if constexpr (kOver != 0) sum = V::AddI(sum, V::Set1I(space->shift[m]));
          total[m][c] = V::Fma(V::ToFloat(sum), V::Mul(scale, V::Set1(x_scales[m])), total[m][c]);
        }
        if constexpr (Minimum) {
          const F least = V::LoadHalf(halves + 32);
#pragma GCC unroll 16
          for (int m = 0; m < 16; ++m) {
            const float sum = x_scales[m] * static_cast<float>(x_sums[m]);
            total[m][c] = V::Fma(least, V::Set1(sum), total[m][c]);
          }
        }
      }
      scales += group_bytes;
      x_scales += kRowBlock;
      x_sums += kRowBlock;
    }
#pragma GCC unroll 16
    for (int m = 0; m < 16; ++m) {
#pragma GCC unroll 16
      for (int c = 0; c < kStripVectors; ++c) V::Store(totals + m * 16 + c * kL, total[m][c]);
    }
    for (int64_t row = added.row; last == a.groups && row < Least(added.row + 16, a.rows); ++row) {
      for (int64_t i = 0; i < kStripWidth; i += kL) {
        const int64_t n = added.panel * 32 + added.lane + i;
        if (n >= a.out) break;
        StoreOutputs(a, V::Load(totals + (row - added.row) * 16 + i), row, n);
      }
    }
    added.NextBlock();
  }
}

// The same where the group is the whole row.
template <typename Tiles, int K>
void AmxWhole(const PanelArgs& a, int64_t rows_begin, int64_t rows_end, int64_t panel, int64_t lane,
              AmxSpace* space) {
  const char* w = a.panels + panel * a.panel_bytes;
  const auto totals = [&](int64_t row) {
    return reinterpret_cast<int32_t*>(space->totals) + (row - rows_begin) * kStripWidth;
  };
  for (int64_t k = 0; k < a.last_length; k += kPieceLength) {
    const int64_t length = Least(a.last_length - k, kPieceLength);
    for (int64_t row = rows_begin; row < rows_end; row += kRowBlock) {
      if (k == 0) {
        Tiles::template Zero<0>();
      } else {
        Tiles::template Load<0>(totals(row), 64);
      }
      AmxDots<Tiles, K, 0>(static_cast<const int8_t*>(a.x) + row * a.ldx + k, a.ldx,
                           w + k * 32 + lane * 4, 128, length);
      Tiles::template Store<0>(totals(row), 64);
    }
  }
  const auto* scales = reinterpret_cast<const float*>(w + a.last_length * 32) + lane;
  for (int64_t row = rows_begin; row < Least(rows_end, a.rows); ++row) {
    const int64_t at = FactorAt(row, a.groups);
    const F x_scale = V::Set1(a.x_scales[at]);
    for (int c = 0; c < kStripVectors; ++c) {
      const int64_t n = panel * 32 + lane + c * kL;
      if (n >= a.out) break;
      const F sum =
          V::ToFloat(V::AddI(V::LoadI(totals(row) + c * kL), V::Set1I(-128 * a.x_sums[at])));
      StoreOutputs(a, V::Mul(sum, V::Mul(V::Load(scales + c * kL), x_scale)), row, n);
    }
  }
}

template <typename Tiles, int K, int Bits, bool Minimum>
void AmxStrips(const PanelArgs& a, int64_t rows, int64_t begin, int64_t end) {
  AmxSpace space;
  const Tiles configured{std::integral_constant<int, K>()};
  for (int64_t row = 0; row < rows; row += kStripRows) {
    const int64_t last = Least(rows, row + kStripRows);
    if (!a.whole) {
      AmxWalk<Tiles, K, Bits, Minimum>(a, row, last, begin, end, &space);
      continue;
    }
    for (int64_t panel = begin; panel < end; ++panel) {
      AmxWhole<Tiles, K>(a, row, last, panel, 0, &space);
      AmxWhole<Tiles, K>(a, row, last, panel, kStripWidth, &space);
    }
  }
}

// A few rows beyond the last 16 go to the road's own tiles, and so does what no tile is as long as.
template <typename Tiles, typename Tiling, int Bits, bool Minimum>
void AmxPanels(const PanelArgs& a, int64_t begin, int64_t end) {
  const int64_t rest = a.rows % 16;
  // Rows that are not there are computed and dropped where that is faster.
  const int64_t whole = rest > 6 ? a.rows + 16 - rest : a.rows - rest;
  if (whole == 0 || a.group_size % 32 != 0 || a.last_length % 32 != 0) {
    return IntPanels<Tiling, Bits, Minimum>(a, begin, end);
  }
  if (Bits == 8 && a.group_size % 64 == 0 && a.last_length % 64 == 0) {
    AmxStrips<Tiles, 64, Bits, Minimum>(a, whole, begin, end);
  } else {
    AmxStrips<Tiles, 32, Bits, Minimum>(a, whole, begin, end);
  }
  if (whole >= a.rows) return;
  PanelArgs few = a;
  few.rows -= whole;
  few.x = static_cast<const int8_t*>(a.x) + whole * a.ldx;
  few.y += whole * a.ldy;
  few.x_scales += whole * a.groups;
  few.x_sums += whole * a.groups;
  IntPanels<Tiling, Bits, Minimum>(few, begin, end);
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
