// The AVX512 road: F, BW, VL, DQ, VNNI, BF16.
#include <immintrin.h>

#include <cmath>
#include <iterator>
#include <type_traits>

#include "engine/kernels/amx.h"
#include "engine/kernels/road.h"

namespace engine::kernels {
namespace {

struct V {
  static constexpr int64_t kLanes = 16;
  static constexpr int kTileRows = 12;  // 24 accumulators of 32 registers
  static constexpr int kWide = 4;       // panels at once for one row: 8 chains
  static constexpr int kChains = 24;    // sums at once in attention
  using F = __m512;
  using I = __m512i;
  static F Zero() { return _mm512_setzero_ps(); }
  static I ZeroI() { return _mm512_setzero_si512(); }
  static F Set1(float v) { return _mm512_set1_ps(v); }
  static I Set1I(int32_t v) { return _mm512_set1_epi32(v); }
  static F Load(const float* p) { return _mm512_loadu_ps(p); }
  static void Store(float* p, F v) { _mm512_storeu_ps(p, v); }
  static void StoreI(int32_t* p, I v) { _mm512_storeu_si512(p, v); }
  static F Add(F a, F b) { return _mm512_add_ps(a, b); }
  static F Sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static I AddI(I a, I b) { return _mm512_add_epi32(a, b); }
  static I MulI(I a, I b) { return _mm512_mullo_epi32(a, b); }
  static F Mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F Div(F a, F b) { return _mm512_div_ps(a, b); }
  static F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F Max(F a, F b) { return _mm512_max_ps(a, b); }
  static F Min(F a, F b) { return _mm512_min_ps(a, b); }
  static F Round(F a) { return _mm512_roundscale_ps(a, 8); }
  static I ToInt(F a) { return _mm512_cvtps_epi32(a); }
  static F ToFloat(I a) { return _mm512_cvtepi32_ps(a); }
  static F ExpBits(I n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
  }
  static F Dot2(F acc, uint32_t pair, const char* w) {
    const __m512i x = _mm512_set1_epi32(static_cast<int>(pair));
    return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(x),
                            reinterpret_cast<__m512bh>(_mm512_loadu_si512(w)));
  }
  static I LoadI(const int32_t* p) { return _mm512_loadu_si512(p); }
  static I LoadCodes(const char* p) { return _mm512_loadu_si512(p); }
  static void StoreCodes(char* p, I v) { _mm512_storeu_si512(p, v); }
  static I LowNibbles(I both) { return _mm512_and_si512(both, _mm512_set1_epi8(15)); }
  static I HighNibbles(I both) {
    return _mm512_and_si512(_mm512_srli_epi32(both, 4), _mm512_set1_epi8(15));
  }
  static F LoadHalf(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static I LoadI8(const int8_t* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void StoreI8(int8_t* p, I v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v));
  }
  // 1 in the lanes that hold a NaN, else 0.
  static F NanOnes(F v) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), _mm512_set1_ps(1.0f));
  }
  // By halves: lane i and i + 8, then i and i + 4, and so on.
  static float SumAcross(F v) {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
  }
  static float MaxAcross(F v) {
    const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
  }
  static int32_t SumAcrossI(I v) { return _mm512_reduce_add_epi32(v); }
  static bool AnyNan(F v) { return _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q) != 0; }
  static void StoreHalf(uint16_t* p, F v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, 0));
  }
  struct Dots;
};

struct V::Dots {
  using Codes8 = I;
  using NarrowSum = I;
  static constexpr int32_t kOffset8 = 128;
  static I Spread(int32_t four) { return Set1I(four); }
  static I FromOffset(I codes) { return codes; }
  static I FromSigned(I codes) { return _mm512_xor_si512(codes, _mm512_set1_epi8(-128)); }
  // Inline assembly: GCC 12 copies the sums of the intrinsic's loop from register to register.
  static I Dot8(I acc, I codes, I x) {
    asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(codes), "v"(x));
    return acc;
  }
  static I BeginNarrow(int32_t shift) { return Set1I(shift); }
  static I DotNibbles(I sum, I codes, I x) { return Dot8(sum, codes, x); }
  static I EndNarrow(I sum, int32_t) { return sum; }
};

// Each uses what the one before defines.
// clang-format off
#include "engine/kernels/road_inl.h"
#include "engine/kernels/amx_inl.h"
// clang-format on

template <int Rows, int Panels, int OneRowPanels>
struct Tiling {
  using Dots = V::Dots;
  static constexpr int kRows = Rows, kVectors = 2, kPanels = Panels, kOneRowPanels = OneRowPanels;
};

// By rows and panels, and by panels where there is one row.
constexpr IntKernel kIntKernels[] = {IntKernelOf<Tiling<4, 2, 1>>("vnni 4x2, 1x1"),
                                     IntKernelOf<Tiling<8, 1, 4>>("vnni 8x1, 1x4"),
                                     IntKernelOf<Tiling<4, 2, 2>>("vnni 4x2, 1x2"),
                                     AmxKernelOf<AmxTiles, Tiling<4, 2, 1>>("amx 16x1", &HasAmx)};
}  // namespace

const Road& Avx512Road() {
  static constexpr Road road = RoadWith(kIntKernels, std::size(kIntKernels));
  return road;
}

}  // namespace engine::kernels
