// Weight matrices in the one layout that every number of rows runs on: panels of 32 outputs, the
// inner dimension grouped as the format's dot product takes it.
//   f32  [panel][k][32]         one float
//   bf16 [panel][k / 2][32][2]  two neighbours of k
//   s8   [panel][k / 4][32][4]  four neighbours of k, with one scale an output
// Invariant: outputs beyond `out` and inner positions beyond `in` hold zeros.
#ifndef ENGINE_KERNELS_PACKED_H_
#define ENGINE_KERNELS_PACKED_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/status.hpp"

namespace engine::kernels {

inline constexpr int64_t kPanel = 32;

enum class Format { kF32, kBf16, kS8 };

// Memory of its own pages, zeroed, backed by huge pages where the system has them.
class Pages {
 public:
  Pages() = default;
  static Status Make(uint64_t bytes, Pages* out);
  Pages(Pages&& other) noexcept;
  Pages& operator=(Pages&& other) noexcept;
  ~Pages();
  void* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  uint64_t bytes_ = 0;
};

class PackedMatrix {
 public:
  static Status Make(Format format, int64_t out, int64_t in, std::shared_ptr<PackedMatrix>* made);

  // Rows [first, first + count) of the logical matrix, `first` a multiple of 32 and count at most
  // 32; f32 and bf16 formats. bf16 rounds to nearest even. Thread-safe for distinct panels.
  void SetRows(int64_t first, int64_t count, const float* rows);
  // Row `row` is q * scale; s8 format. Thread-safe for distinct rows.
  void SetRowS8(int64_t row, const int8_t* q, float scale);
  // The logical row as floats.
  void GetRow(int64_t row, float* to) const;

  Format format() const { return format_; }
  int64_t out() const { return out_; }
  int64_t in() const { return in_; }
  int64_t panels() const { return (out_ + kPanel - 1) / kPanel; }
  int64_t groups() const { return groups_; }  // of the inner dimension: k, k / 2 or k / 4
  // Start of a panel; its groups follow each other, 128 bytes each.
  const void* panel(int64_t p) const {
    return static_cast<const char*>(pages_.data()) + p * groups_ * kPanel * 4;
  }
  const float* scales() const { return scales_.data(); }  // [panels * 32], s8
  const int32_t* sums() const { return sums_.data(); }    // [panels * 32], of q over k, s8
  uint64_t bytes() const;

 private:
  Format format_ = Format::kF32;
  int64_t out_ = 0, in_ = 0, groups_ = 0;
  Pages pages_;
  std::vector<float> scales_;
  std::vector<int32_t> sums_;
};

inline uint16_t ToBf16(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline float FromBf16(uint16_t value) {
  const uint32_t bits = static_cast<uint32_t>(value) << 16;
  float out;
  __builtin_memcpy(&out, &bits, 4);
  return out;
}

}  // namespace engine::kernels

#endif  // ENGINE_KERNELS_PACKED_H_
