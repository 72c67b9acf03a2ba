// Weight matrices in the one layout that every number of rows runs on: panels of 32 outputs, within
// them the inner dimension in order.
//   f32   [panel][k][32]          one float
//   bf16  [panel][k / 2][32][2]   two neighbours of k
//   int   [panel][group]{ codes, scales [32], minimums [32] }, see IntScheme:
//         8 bits: codes [group / 4][32][4], four neighbours of k, each plus 128
//         4 bits: codes [group / 8][32][4], low nibbles are k = 4 j + i, high nibbles group / 2
//         more
// Invariant: outputs beyond `out` and inner positions beyond `in` hold weights of zero.
#ifndef ENGINE_KERNELS_PACKED_H_
#define ENGINE_KERNELS_PACKED_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/kernels/pages.h"
#include "engine/status.hpp"

namespace engine::kernels {

inline constexpr int64_t kPanel = 32;

enum class Format { kF32, kBf16, kInt };

// How an integer matrix is scaled: w = scale * (code - offset) + minimum, with one scale for each
// output and group. Activations are quantized by the same groups.
struct IntScheme {
  int bits = 8;  // 8: codes 0..255, offset 128; 4: codes 0..15, offset 8, or 0 with a minimum
  bool minimum = false;  // ggml's Q4_1; 4 bits only
  int64_t group = 0;  // a multiple of 32, scales in half precision; 0: the whole row, scale in f32
  bool operator==(const IntScheme&) const = default;
};

class PackedMatrix {
 public:
  // Of 8-bit elements that share a scale: a group's products add up to at most 255 * 127 * length,
  // which has to fit 31 bits.
  static constexpr int64_t kLongestGroup = 65536;
  // f32 or bf16.
  static Status Make(Format format, int64_t out, int64_t in, std::shared_ptr<PackedMatrix>* made);
  static Status MakeInt(const IntScheme& scheme, int64_t out, int64_t in,
                        std::shared_ptr<PackedMatrix>* made);

  // Rows [first, first + count) of the logical matrix, `first` a multiple of 32 and count at most
  // 32; f32 and bf16. bf16 rounds to nearest even. Thread-safe for distinct panels.
  void SetRows(int64_t first, int64_t count, const float* rows);
  // Row `row` is q * scale of its group, 8 bits; scales [groups()] are representable in half
  // precision unless the group is the whole row. Thread-safe for distinct rows.
  void SetRowInt8(int64_t row, const int8_t* q, const float* scales);
  // As SetRows from ggml's blocks of 32 (Q8_0, Q4_0, Q4_1, as the scheme is, group 32): row i
  // begins at rows[i]. Thread-safe for distinct panels.
  void SetRowsBlocks(int64_t first, int64_t count, const uint8_t* const* rows);
  // Integer matrices: `scales` [in], finite and above zero, multiply the inputs before those are
  // quantized; the rows that were set are the logical ones divided by them. Equal scales of several
  // matrices are one object, by which products know that they share quantized inputs.
  void SetInputScales(std::span<const float> scales);
  // Null: none.
  const std::vector<float>* input_scales() const { return input_scales_.get(); }
  // The logical row as floats.
  void GetRow(int64_t row, float* to) const;

  Format format() const { return format_; }
  const IntScheme& scheme() const { return scheme_; }
  int64_t out() const { return out_; }
  int64_t in() const { return in_; }
  int64_t panels() const { return (out_ + kPanel - 1) / kPanel; }
  // Groups of an integer matrix's row; every one but the last is group_size() long.
  int64_t groups() const { return groups_; }
  int64_t group_size() const { return group_size_; }
  int64_t group_bytes() const { return group_bytes_; }  // from one group to the next
  int64_t last_length() const { return GroupLength(groups_ - 1); }
  int64_t panel_bytes() const { return panel_bytes_; }
  const char* panel(int64_t p) const {
    return static_cast<const char*>(pages_.data()) + p * panel_bytes_;
  }
  uint64_t bytes() const { return pages_.bytes(); }

 private:
  char* panel(int64_t p) { return static_cast<char*>(pages_.data()) + p * panel_bytes_; }
  Status Allocate(int64_t out, int64_t in);
  // Where the codes of a group begin within a panel, and how long the group is.
  int64_t GroupOffset(int64_t group) const { return group * group_bytes_; }
  int64_t GroupLength(int64_t group) const;
  int64_t CodeBytes(int64_t length) const { return length * kPanel * scheme_.bits / 8; }

  Format format_ = Format::kF32;
  IntScheme scheme_;
  int64_t out_ = 0, in_ = 0, groups_ = 0, group_size_ = 0, group_bytes_ = 0, panel_bytes_ = 0;
  std::shared_ptr<const std::vector<float>> input_scales_;
  Pages pages_;
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
