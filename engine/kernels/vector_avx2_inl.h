// Eight floats of AVX2, FMA and F16C as road_inl.h's V. Included inside an anonymous namespace,
// like it. bf16 pairs are widened to float.

struct V {
  static constexpr int64_t kLanes = 8;
  static constexpr int kTileRows = 3;  // 12 accumulators of 16 registers
  static constexpr int kWide = 2;
  static constexpr int kChains = 12;  // sums at once in attention
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
  static I LoadCodes(const char* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static I LoadI(const int32_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static void StoreCodes(char* p, I v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  static I LowNibbles(I both) { return _mm256_and_si256(both, _mm256_set1_epi8(15)); }
  static I HighNibbles(I both) {
    return _mm256_and_si256(_mm256_srli_epi32(both, 4), _mm256_set1_epi8(15));
  }
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
  // By halves: lane i and i + 4, then i and i + 2, and so on.
  static float SumAcross(F v) {
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
  }
  static float MaxAcross(F v) {
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
  }
  static int32_t SumAcrossI(I v) {
    __m128i q = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(q, _mm_shuffle_epi32(q, 0xb1)));
  }
  static bool AnyNan(F v) { return _mm256_movemask_ps(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)) != 0; }
  static void StoreHalf(uint16_t* p, F v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, 0));
  }
  struct Nibbles;
  struct Dots;
};

// Sums of 32 products of a nibble and an s8, added up in int16 by pairs.
struct V::Nibbles {
  using NarrowSum = I;
  static I BeginNarrow(int32_t) { return ZeroI(); }
  static I DotNibbles(I sum, I codes, I x) {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, x));
  }
  static I EndNarrow(I sum, int32_t shift) {
    return _mm256_add_epi32(_mm256_madd_epi16(sum, _mm256_set1_epi16(1)), Set1I(shift));
  }
};

// Magnitudes of codes times x with the signs of the codes: at most 2 * 128 * 127 a pair, so that
// nothing saturates.
struct V::Dots : V::Nibbles {
  struct Codes8 {
    I magnitudes, codes;
  };
  static constexpr int32_t kOffset8 = 0;
  static I Spread(int32_t four) { return Set1I(four); }
  static Codes8 FromOffset(I codes) {
    return FromSigned(_mm256_xor_si256(codes, _mm256_set1_epi8(-128)));
  }
  static Codes8 FromSigned(I codes) { return {_mm256_abs_epi8(codes), codes}; }
  static I Dot8(I acc, const Codes8& w, I x) {
    const I pairs = _mm256_maddubs_epi16(w.magnitudes, _mm256_sign_epi8(x, w.codes));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};
