// The AVX2 road: AVX2 and FMA. bf16 pairs are widened to float, int8 quadruples to int16, so that
// no product saturates.
#include <immintrin.h>

#include <cmath>
#include <type_traits>

#include "engine/kernels/road.h"

namespace engine::kernels {
namespace {

struct V {
  static constexpr int64_t kLanes = 8;
  static constexpr int kTileRows = 3;  // 12 accumulators of 16 registers
  static constexpr int kWide = 2;
  static constexpr int kValueRows = 3;
  static constexpr int kIntRows = 4;
  static constexpr int kIntVectors = 1;
  static constexpr int kIntPanels = 1;
  static constexpr int kScoreVectors = 1;
  using F = __m256;
  using I = __m256i;
  static F Zero() { return _mm256_setzero_ps(); }
  static I ZeroI() { return _mm256_setzero_si256(); }
  static F Set1(float v) { return _mm256_set1_ps(v); }
  static I Set1I(int32_t v) { return _mm256_set1_epi32(v); }
  static F Load(const float* p) { return _mm256_loadu_ps(p); }
  static void Store(float* p, F v) { _mm256_storeu_ps(p, v); }
  static void StoreI(int32_t* p, I v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  static F Add(F a, F b) { return _mm256_add_ps(a, b); }
  static F Sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static I AddI(I a, I b) { return _mm256_add_epi32(a, b); }
  static F Mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F Div(F a, F b) { return _mm256_div_ps(a, b); }
  static F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F Max(F a, F b) { return _mm256_max_ps(a, b); }
  static F Min(F a, F b) { return _mm256_min_ps(a, b); }
  static F Round(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static I ToInt(F a) { return _mm256_cvtps_epi32(a); }
  static F ToFloat(I a) { return _mm256_cvtepi32_ps(a); }
  static F ExpBits(I n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
  }
  static F Dot2(F acc, uint32_t pair, const char* w) {
    const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w));
    const __m256 even = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
    const __m256 odd = _mm256_castsi256_ps(
        _mm256_and_si256(both, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
    const __m256 x0 = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(pair << 16)));
    const __m256 x1 = _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(pair & 0xffff0000u)));
    return Fma(x1, odd, Fma(x0, even, acc));
  }
  static I Dot4(I acc, I codes, I x) {
    // Even and odd bytes as int16, so that no pair of products saturates.
    const __m256i x_even = _mm256_srai_epi16(_mm256_slli_epi16(x, 8), 8);
    const __m256i x_odd = _mm256_srai_epi16(x, 8);
    const __m256i even = _mm256_and_si256(codes, _mm256_set1_epi16(0xff));
    const __m256i odd = _mm256_srli_epi16(codes, 8);
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(x_even, even));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(x_odd, odd));
  }
  static I LoadCodes(const char* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static I LowNibbles(I both) { return _mm256_and_si256(both, _mm256_set1_epi8(15)); }
  static I HighNibbles(I both) {
    return _mm256_and_si256(_mm256_srli_epi32(both, 4), _mm256_set1_epi8(15));
  }
  static I FlipSigns(I codes) { return _mm256_xor_si256(codes, _mm256_set1_epi8(-128)); }
  static F LoadHalf(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static I LoadI8(const int8_t* p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static void StoreI8(int8_t* p, I v) {
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
  }
  // 1 in the lanes that hold a NaN, else 0.
  static F NanOnes(F v) {
    return _mm256_and_ps(_mm256_cmp_ps(v, v, _CMP_UNORD_Q), _mm256_set1_ps(1.0f));
  }
};

#include "engine/kernels/road_inl.h"
}  // namespace

const Road& Avx2Road() { return kRoad; }

}  // namespace engine::kernels
