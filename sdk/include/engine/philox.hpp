// Counter-based random numbers: the value at an index depends on the key and that index alone, so
// replay, restart and layout change nothing. Philox4x32-10: Salmon et al., "Parallel Random
// Numbers: As Easy as 1, 2, 3", SC 2011.
#ifndef ENGINE_PHILOX_HPP_
#define ENGINE_PHILOX_HPP_

#include <array>
#include <cstdint>
#include <string_view>

namespace engine {

class Philox {
 public:
  // Streams of different (seed, stream) are independent.
  Philox(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}
  // A stream named by text (FNV-1a).
  Philox(uint64_t seed, std::string_view name) : Philox(seed, Hash(name)) {}

  std::array<uint32_t, 4> Block(uint64_t index) const {
    std::array<uint32_t, 4> c = {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                                 static_cast<uint32_t>(stream_),
                                 static_cast<uint32_t>(stream_ >> 32)};
    uint32_t k0 = static_cast<uint32_t>(seed_), k1 = static_cast<uint32_t>(seed_ >> 32);
    for (int round = 0; round < 10; ++round) {
      const uint64_t a = uint64_t{0xD2511F53} * c[0], b = uint64_t{0xCD9E8D57} * c[2];
      c = {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(b),
           static_cast<uint32_t>(a >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(a)};
      k0 += 0x9E3779B9;
      k1 += 0xBB67AE85;
    }
    return c;
  }
  // In [0, 1), 53 bits.
  double Uniform(uint64_t index) const {
    const auto b = Block(index);
    return static_cast<double>(((uint64_t{b[0]} << 32) | b[1]) >> 11) * 0x1p-53;
  }

  static constexpr uint64_t Hash(std::string_view text) {
    uint64_t h = 0xcbf29ce484222325u;
    for (char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    return h;
  }

 private:
  uint64_t seed_, stream_;
};

}  // namespace engine

#endif  // ENGINE_PHILOX_HPP_
