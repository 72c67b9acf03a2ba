// The AVX2 road: AVX2, FMA and F16C.
#include <immintrin.h>

#include <cmath>
#include <iterator>
#include <type_traits>

#include "engine/kernels/road.h"

namespace engine::kernels {
namespace {

// Each uses what the one before defines.
// clang-format off
#include "engine/kernels/vector_avx2_inl.h"
#include "engine/kernels/road_inl.h"
// clang-format on

// Even and odd bytes widened to int16: dearer for each row, cheaper for each vector of codes.
struct SplitDots : V::Nibbles {
  using I = V::I;
  struct Halves {
    I even, odd;
  };
  using Codes8 = Halves;
  static constexpr int32_t kOffset8 = 128;
  static Halves Spread(int32_t four) {
    const I x = V::Set1I(four);
    return {_mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8), _mm256_srai_epi16(x, 8)};
  }
  static Codes8 FromOffset(I codes) {
    return {_mm256_and_si256(codes, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(codes, 8)};
  }
  static I Dot8(I acc, const Codes8& w, const Halves& x) {
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(x.even, w.even));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(x.odd, w.odd));
  }
};

// AVX-VNNI, as client processors without AVX512 have it. Inline assembly, so that this file is
// compiled for AVX2 alone.
struct VnniDots : V::Nibbles {
  using I = V::I;
  using Codes8 = I;
  static constexpr int32_t kOffset8 = 128;
  static I Spread(int32_t four) { return V::Set1I(four); }
  static I FromOffset(I codes) { return codes; }
  static I Dot8(I acc, I codes, I x) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(codes), "x"(x));
    return acc;
  }
};
bool HasVnni() { return __builtin_cpu_supports("avxvnni") != 0; }

template <typename Way, int Rows, int Vectors, int OneRowPanels = 1>
struct Tiling {
  using Dots = Way;
  static constexpr int kRows = Rows, kVectors = Vectors, kPanels = 1;
  static constexpr int kOneRowPanels = OneRowPanels;
};

constexpr IntKernel kIntKernels[] = {IntKernelOf<Tiling<V::Dots, 4, 2>>("signs 4x16"),
                                     IntKernelOf<Tiling<V::Dots, 2, 4, 2>>("signs 2x32, 2 panels"),
                                     IntKernelOf<Tiling<SplitDots, 4, 1>>("halves 4x8"),
                                     IntKernelOf<Tiling<SplitDots, 2, 2>>("halves 2x16"),
                                     IntKernelOf<Tiling<VnniDots, 4, 2>>("vnni 4x16", &HasVnni)};
}  // namespace

const Road& Avx2Road() {
  static constexpr Road road = RoadWith(kIntKernels, std::size(kIntKernels));
  return road;
}

}  // namespace engine::kernels
