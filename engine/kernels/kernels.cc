// Element-wise kernels, the rotary table and the active road.
#include "engine/kernels/kernels.h"

#include <algorithm>
#include <cmath>

#include "engine/kernels/isa.h"
#include "engine/kernels/parallel.h"

namespace engine::kernels {

const Road& ActiveRoad() {
  switch (ActiveIsa()) {
#if defined(__x86_64__)
    case Isa::kAvx512:
      return Avx512Road();
    case Isa::kAvx2:
      return Avx2Road();
#endif
    default:
      return PlainRoad();
  }
}

void RmsNorm(const float* x, int64_t rows, int64_t width, const float* weight, float eps,
             float* y) {
  const Road& road = ActiveRoad();
  ParallelFor(rows, std::max<int64_t>(1, 32768 / width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      road.rms_norm(x + r * width, width, weight, eps, y + r * width);
    }
  });
}

void SiluMultiply(float* gate, const float* up, int64_t count) {
  const Road& road = ActiveRoad();
  // Pieces end at multiples of the widest vector, so that no lane changes with the split.
  constexpr int64_t kPiece = 16;
  const int64_t pieces = (count + kPiece - 1) / kPiece;
  ParallelFor(pieces, 1024, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kPiece, last = std::min(count, end * kPiece);
    road.silu_multiply(gate + first, up + first, last - first);
  });
}

RopeTable RopeTable::Make(int64_t positions, int64_t head_dim, double theta,
                          std::span<const double> divisors) {
  RopeTable table;
  table.half = head_dim / 2;
  table.cos.resize(static_cast<size_t>(positions * table.half));
  table.sin.resize(table.cos.size());
  for (int64_t i = 0; i < table.half; ++i) {
    // The angle is a product in float, as Hugging Face computes it, so that long contexts agree.
    double exact =
        1.0 / std::pow(theta, 2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    if (!divisors.empty()) exact /= divisors[static_cast<size_t>(i)];
    const auto frequency = static_cast<float>(exact);
    for (int64_t p = 0; p < positions; ++p) {
      const double angle = static_cast<double>(static_cast<float>(p) * frequency);
      table.cos[static_cast<size_t>(p * table.half + i)] = static_cast<float>(std::cos(angle));
      table.sin[static_cast<size_t>(p * table.half + i)] = static_cast<float>(std::sin(angle));
    }
  }
  return table;
}

}  // namespace engine::kernels
