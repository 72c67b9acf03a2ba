// One float at a time as road_inl.h's V. Included inside an anonymous namespace, like it.

struct V {
  static constexpr int64_t kLanes = 1;
  static constexpr int kTileRows = 1;
  static constexpr int kWide = 1;
  static constexpr int kChains = 1;
  using F = float;
  using I = int32_t;
  static F Zero() { return 0; }
  static I ZeroI() { return 0; }
  static F Set1(float v) { return v; }
  static I Set1I(int32_t v) { return v; }
  static F Load(const float* p) { return *p; }
  static void Store(float* p, F v) { *p = v; }
  static void StoreI(int32_t* p, I v) { *p = v; }
  static F Add(F a, F b) { return a + b; }
  static F Sub(F a, F b) { return a - b; }
  static I AddI(I a, I b) { return a + b; }
  static I MulI(I a, I b) { return a * b; }
  static F Mul(F a, F b) { return a * b; }
  static F Div(F a, F b) { return a / b; }
  static F Fma(F a, F b, F c) { return std::fma(a, b, c); }
  static F Max(F a, F b) { return a > b ? a : b; }
  static F Min(F a, F b) { return a < b ? a : b; }
  static F Round(F a) { return __builtin_rintf(a); }
  static I ToInt(F a) { return static_cast<I>(a); }
  static F ToFloat(I a) { return static_cast<F>(a); }
  static F ExpBits(I n) { return std::ldexp(1.0f, n); }
  static F Dot2(F acc, uint32_t pair, const char* w) {
    uint16_t weights[2];
    __builtin_memcpy(weights, w, 4);
    acc = Fma(FromBf16(static_cast<uint16_t>(pair)), FromBf16(weights[0]), acc);
    return Fma(FromBf16(static_cast<uint16_t>(pair >> 16)), FromBf16(weights[1]), acc);
  }
  static I LoadCodes(const char* p) {
    I out;
    __builtin_memcpy(&out, p, 4);
    return out;
  }
  static I LoadI(const int32_t* p) { return *p; }
  static void StoreCodes(char* p, I v) { __builtin_memcpy(p, &v, 4); }
  static I LowNibbles(I both) { return both & 0x0f0f0f0f; }
  static I HighNibbles(I both) {
    return static_cast<I>((static_cast<uint32_t>(both) >> 4) & 0x0f0f0f0f);
  }
  static F LoadHalf(const uint16_t* p) { return HalfToFloat(*p); }
  static I LoadI8(const int8_t* p) { return *p; }
  static void StoreI8(int8_t* p, I v) { *p = static_cast<int8_t>(v); }
  static float SumAcross(F v) { return v; }
  static float MaxAcross(F v) { return v; }
  static int32_t SumAcrossI(I v) { return v; }
  static bool AnyNan(F v) { return v != v; }
  static void StoreHalf(uint16_t* p, F v) { *p = FloatToHalf(v); }
  static F NanOnes(F v) { return v != v ? 1.0f : 0.0f; }
  struct Dots;
};

struct V::Dots {
  using Codes8 = I;
  using NarrowSum = I;
  static constexpr int32_t kOffset8 = 128;
  static I Spread(int32_t four) { return four; }
  static I FromOffset(I codes) { return codes; }
  static I FromSigned(I codes) { return codes ^ static_cast<I>(0x80808080u); }
  static I Dot8(I acc, I codes, I x) {
    for (int i = 0; i < 4; ++i) {
      const auto code = static_cast<I>((static_cast<uint32_t>(codes) >> (8 * i)) & 0xff);
      acc += code * static_cast<I>(static_cast<int8_t>(static_cast<uint32_t>(x) >> (8 * i)));
    }
    return acc;
  }
  static I BeginNarrow(int32_t shift) { return shift; }
  static I DotNibbles(I sum, I codes, I x) { return Dot8(sum, codes, x); }
  static I EndNarrow(I sum, int32_t) { return sum; }
};

struct PlainTiling {
  using Dots = V::Dots;
  static constexpr int kRows = 1, kVectors = 1, kPanels = 1, kOneRowPanels = 1;
};
