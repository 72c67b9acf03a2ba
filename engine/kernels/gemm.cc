// A slice of outputs is packed into panels by all threads; then every thread takes tiles of rows
// through the slice, a few panels at a time, so that the tile's x stays in the first cache and the
// panels in the second.
#include "engine/kernels/gemm.h"

#include <algorithm>
#include <vector>

#include "engine/kernels/kernels.h"
#include "engine/kernels/parallel.h"

namespace engine::kernels {
namespace {

constexpr int64_t kTile = 12;               // rows; a multiple of every road's
constexpr int64_t kSliceFloats = 1 << 20;   // packed at once: stays in the last cache
constexpr int64_t kNearFloats = 100 << 10;  // panels that a tile goes through: the second cache

// Panel rows [k][32] of outputs [first, first + count), k in [begin, end).
void PackPanel(const GemmTerm& t, int64_t first, int64_t count, int64_t begin, int64_t end,
               float* to) {
  if (t.transposed) {
    for (int64_t k = begin; k < end; ++k, to += kPanel) {
      const float* from = t.w + k * t.ldw + first;
      std::copy(from, from + count, to);
      std::fill(to + count, to + kPanel, 0.0f);
    }
    return;
  }
  // By squares, so that neither side jumps from line to line.
  constexpr int64_t kSquare = 16;
  for (int64_t k = begin; k < end; k += kSquare, to += kSquare * kPanel) {
    const int64_t some = std::min(kSquare, end - k);
    for (int64_t n = 0; n < kPanel; ++n) {
      const float* from = t.w + (first + n) * t.ldw + k;
      for (int64_t i = 0; i < some; ++i) to[i * kPanel + n] = n < count ? from[i] : 0.0f;
    }
  }
}

// A stretch of one term's inner dimension.
struct Piece {
  const GemmTerm* term;
  int64_t begin, end;
  int64_t at;  // of its panels in a slice, in floats for each output's panel
};

}  // namespace

void PackPanels(const GemmTerm& term, int64_t out, float* to) {
  for (int64_t n = 0; n < out; n += kPanel, to += term.in * kPanel) {
    PackPanel(term, n, std::min(kPanel, out - n), 0, term.in, to);
  }
}

void ThinProduct(const float* a, int64_t ra, const float* b, int64_t cb, int64_t rows, float* y) {
  const Road& road = ActiveRoad();
  // Rows that are read once for all panels of a thread: they stay in its second cache.
  constexpr int64_t kPiece = 128;
  const int64_t whole = cb / kPanel, rest = cb % kPanel;
  ParallelFor(whole + (rest != 0 ? 1 : 0), 4, [&](int64_t begin, int64_t end) {
    const int64_t last = std::min(end, whole);
    for (int64_t r = 0; r < ra; ++r) {
      std::fill(y + r * cb + begin * kPanel, y + r * cb + std::min(cb, end * kPanel), 0.0f);
    }
    for (int64_t first = 0; first < rows; first += kPiece) {
      const int64_t some = std::min(kPiece, rows - first);
      road.panels_across({a + first * ra, ra, ra, some, b + first * cb, cb, kPanel, y, cb}, begin,
                         last);
      if (end == last) continue;
      for (int64_t r = 0; r < ra; ++r) {
        for (int64_t c = whole * kPanel; c < cb; ++c) {
          float sum = 0;
          for (int64_t i = first; i < first + some; ++i) sum += a[i * ra + r] * b[i * cb + c];
          y[r * cb + c] += sum;
        }
      }
    }
  });
}

void Gemm(std::span<const GemmTerm> terms, int64_t rows, int64_t out, float* y, int64_t ldy,
          bool add) {
  if (rows == 0 || out == 0) return;
  std::vector<Piece> pieces;
  int64_t inner = 0;
  for (const GemmTerm& term : terms) {
    for (int64_t k = 0; k < term.in; k += kGemmInner) {
      pieces.push_back({&term, k, std::min(term.in, k + kGemmInner), 0});
      inner += pieces.back().end - k;
    }
  }
  const Road& road = ActiveRoad();
  const int64_t panels = (out + kPanel - 1) / kPanel;
  const int64_t slice = std::clamp<int64_t>(kSliceFloats / (inner * kPanel), 1, panels);
  int64_t offset = 0;
  for (Piece& piece : pieces) {
    piece.at = offset;
    offset += slice * kPanel * (piece.end - piece.begin);
  }
  thread_local std::vector<float, LineAllocator<float>> packed;
  Reserve(&packed, offset);
  float* const store = packed.data();
  const int64_t tiles = (rows + kTile - 1) / kTile;
  for (int64_t first = 0; first < panels; first += slice) {
    const int64_t count = std::min(slice, panels - first);
    ParallelFor(count * static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Piece& piece = pieces[static_cast<size_t>(i / count)];
        const int64_t panel = i % count, n = (first + panel) * kPanel;
        PackPanel(*piece.term, n, std::min(kPanel, out - n), piece.begin, piece.end,
                  store + piece.at + panel * kPanel * (piece.end - piece.begin));
      }
    });
    ParallelFor(tiles, std::clamp<int64_t>(tiles / 8, 4, 16), [&](int64_t begin, int64_t end) {
      for (int64_t p = 0; p < count;) {
        const int64_t near = std::max<int64_t>(1, kNearFloats / (inner * kPanel));
        const int64_t last = std::min(count, p + near);
        for (int64_t t = begin; t < end; ++t) {
          const int64_t row = t * kTile;
          bool more = add;
          for (const Piece& piece : pieces) {
            const GemmTerm& term = *piece.term;
            PanelArgs a = {};
            a.groups = piece.end - piece.begin;
            a.panel_bytes = a.groups * kPanel * 4;
            a.panels = reinterpret_cast<const char*>(store + piece.at);
            a.rows = std::min(kTile, rows - row);
            a.x = term.x + row * term.ldx + piece.begin;
            a.ldx = term.ldx;
            a.y = y + row * ldy + first * kPanel;
            a.ldy = ldy;
            a.out = out - first * kPanel;
            a.add = more;
            a.scale = term.scale;
            road.panels_f32(a, p, last);
            more = true;
          }
        }
        p = last;
      }
    });
  }
}

}  // namespace engine::kernels
