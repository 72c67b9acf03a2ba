// The processor's tiles (Intel AMX) in inline assembly. GCC 12's own intrinsics name 8 of the 64
// bytes of a configuration as read, so that stores to the others may vanish; here all are named.
#ifndef ENGINE_KERNELS_AMX_H_
#define ENGINE_KERNELS_AMX_H_

#include <cstdint>
#include <type_traits>

namespace engine::kernels {

// How amx_inl.h numbers its tiles for a length K; see there. As LDTILECFG reads it.
template <int K>
struct alignas(64) AmxConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, K, 64, K, 64};
  uint8_t rows[16] = {16, 16, 16, K / 4, 16, K / 4};
};
static_assert(sizeof(AmxConfig<64>) == 64);

// Whether the processor has int8 tiles and the system lets this process use them; asks for that at
// the first call.
bool HasAmx();

class AmxTiles {
 public:
  template <int K>
  explicit AmxTiles(std::integral_constant<int, K>) {
    static constexpr AmxConfig<K> config = {};
    asm volatile("ldtilecfg %0" : : "m"(config));
  }
  ~AmxTiles() { asm volatile("tilerelease"); }
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;

  template <int T>
  static void Zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(T));
  }
  template <int T>
  static void Load(const void* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(T) : "memory");
  }
  template <int C, int A, int B>
  static void Dot() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(C), "i"(A), "i"(B));
  }
  template <int T>
  static void Store(void* to, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(T) : "memory");
  }
};

}  // namespace engine::kernels

#endif  // ENGINE_KERNELS_AMX_H_
