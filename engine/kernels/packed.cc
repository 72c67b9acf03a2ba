#include "engine/kernels/packed.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "engine/util.hpp"

namespace engine::kernels {

Status PackedMatrix::Allocate(int64_t out, int64_t in) {
  out_ = out;
  in_ = in;
  return Pages::Make(static_cast<uint64_t>(panels() * panel_bytes_), &pages_);
}

namespace {

Status CheckShape(int64_t out, int64_t in) {
  constexpr int64_t kMost = int64_t{1} << 31;
  if (out <= 0 || in <= 0 || out > kMost || in > kMost || out > (int64_t{1} << 40) / in) {
    return Error(ENGINE_INVALID_ARGUMENT, "a matrix of ", out, " x ", in, " cannot be packed");
  }
  return Status();
}

}  // namespace

Status PackedMatrix::Make(Format format, int64_t out, int64_t in,
                          std::shared_ptr<PackedMatrix>* made) {
  ENGINE_RETURN_IF_ERROR(CheckShape(out, in));
  auto matrix = std::make_shared<PackedMatrix>();
  matrix->format_ = format;
  const int64_t width = format == Format::kF32 ? 1 : 2;
  matrix->groups_ = (in + width - 1) / width;
  matrix->panel_bytes_ = matrix->groups_ * kPanel * 4;
  ENGINE_RETURN_IF_ERROR(matrix->Allocate(out, in));
  *made = std::move(matrix);
  return Status();
}

Status PackedMatrix::MakeInt(const IntScheme& scheme, int64_t out, int64_t in,
                             std::shared_ptr<PackedMatrix>* made) {
  ENGINE_RETURN_IF_ERROR(CheckShape(out, in));
  constexpr int64_t kLongest = kLongestGroup;
  const int64_t longest = scheme.group == 0 ? in : scheme.group;
  if ((scheme.bits != 8 && scheme.bits != 4) || (scheme.minimum && scheme.bits != 4) ||
      scheme.group < 0 || scheme.group % 32 != 0 || longest > kLongest ||
      (scheme.bits == 4 && (scheme.group != 32 || in % 32 != 0))) {
    return Error(ENGINE_INVALID_ARGUMENT, "a matrix of ", out, " x ", in, " cannot be packed in ",
                 scheme.bits, " bits with groups of ", scheme.group,
                 "; 8 bits take groups of a multiple of 32 up to ", kLongest,
                 " or whole rows that long, 4 bits take groups of 32");
  }
  auto matrix = std::make_shared<PackedMatrix>();
  matrix->format_ = Format::kInt;
  matrix->scheme_ = scheme;
  matrix->in_ = in;
  const int64_t padded = (in + 3) / 4 * 4;
  matrix->group_size_ = scheme.group == 0 ? padded : scheme.group;
  matrix->groups_ = (padded + matrix->group_size_ - 1) / matrix->group_size_;
  const int64_t scale_bytes = kPanel * (scheme.group == 0 ? 4 : 2) * (scheme.minimum ? 2 : 1);
  matrix->group_bytes_ = matrix->CodeBytes(matrix->group_size_) + scale_bytes;
  matrix->panel_bytes_ = (matrix->groups_ - 1) * matrix->group_bytes_ +
                         matrix->CodeBytes(matrix->GroupLength(matrix->groups_ - 1)) + scale_bytes;
  ENGINE_RETURN_IF_ERROR(matrix->Allocate(out, in));
  *made = std::move(matrix);
  return Status();
}

int64_t PackedMatrix::GroupLength(int64_t group) const {
  const int64_t padded = (in_ + 3) / 4 * 4;
  return std::min(group_size_, padded - group * group_size_);
}

void PackedMatrix::SetRows(int64_t first, int64_t count, const float* rows) {
  char* const at = panel(first / kPanel);
  if (format_ == Format::kF32) {
    auto* to = reinterpret_cast<float*>(at);
    // Blocks of k keep the 32 rows that are read at once within the first-level cache.
    for (int64_t k0 = 0; k0 < in_; k0 += 64) {
      const int64_t k1 = std::min(in_, k0 + 64);
      for (int64_t r = 0; r < count; ++r) {
        const float* from = rows + r * in_;
        for (int64_t k = k0; k < k1; ++k) to[k * kPanel + r] = from[k];
      }
    }
    return;
  }
  auto* to = reinterpret_cast<uint16_t*>(at);
  for (int64_t k0 = 0; k0 < in_; k0 += 64) {
    const int64_t k1 = std::min(in_, k0 + 64);
    for (int64_t r = 0; r < count; ++r) {
      const float* from = rows + r * in_;
      for (int64_t k = k0; k < k1; ++k) {
        to[(k / 2) * kPanel * 2 + r * 2 + (k & 1)] = ToBf16(from[k]);
      }
    }
  }
}

void PackedMatrix::SetRowInt8(int64_t row, const int8_t* q, const float* scales) {
  const int64_t lane = row % kPanel;
  for (int64_t g = 0; g < groups_; ++g) {
    char* const at = panel(row / kPanel) + GroupOffset(g);
    const int64_t length = GroupLength(g), first = g * group_size_;
    auto* codes = reinterpret_cast<uint8_t*>(at);
    for (int64_t k = 0; k < length && first + k < in_; ++k) {
      codes[(k / 4) * kPanel * 4 + lane * 4 + (k & 3)] = static_cast<uint8_t>(q[first + k] + 128);
    }
    char* const scale = at + CodeBytes(length);
    if (scheme_.group == 0) {
      reinterpret_cast<float*>(scale)[lane] = scales[g];
    } else {
      reinterpret_cast<uint16_t*>(scale)[lane] = FloatToHalf(scales[g]);
    }
  }
}

void PackedMatrix::SetRowsBlocks(int64_t first, int64_t count, const uint8_t* const* rows) {
  const int64_t data = scheme_.bits == 8 ? 32 : 16;
  const int64_t head = scheme_.minimum ? 4 : 2;
  const int64_t words = data / 4;
  for (int64_t g = 0; g < groups_; ++g) {
    char* const at = panel(first / kPanel) + GroupOffset(g);
    auto* codes = reinterpret_cast<uint32_t*>(at);
    auto* scales = reinterpret_cast<uint16_t*>(at + CodeBytes(32));
    for (int64_t r = 0; r < count; ++r) {
      const uint8_t* block = rows[r] + g * (data + head);
      __builtin_memcpy(scales + r, block, 2);
      if (scheme_.minimum) __builtin_memcpy(scales + kPanel + r, block + 2, 2);
      // A word of four bytes holds four neighbours (8 bits), or the low and high nibbles that lie
      // 16 apart (4 bits), as the layout has them.
      for (int64_t w = 0; w < words; ++w) {
        uint32_t word;
        __builtin_memcpy(&word, block + head + 4 * w, 4);
        codes[w * kPanel + r] = scheme_.bits == 8 ? word ^ 0x80808080u : word;
      }
    }
  }
}

void PackedMatrix::SetInputScales(std::span<const float> scales) {
  static std::mutex mutex;
  static std::vector<std::weak_ptr<const std::vector<float>>> known;  // guarded by mutex
  std::lock_guard lock(mutex);
  std::erase_if(known, [](const auto& weak) { return weak.expired(); });
  for (const auto& weak : known) {
    const auto same = weak.lock();
    if (same != nullptr && std::equal(same->begin(), same->end(), scales.begin(), scales.end())) {
      input_scales_ = same;
      return;
    }
  }
  input_scales_ = std::make_shared<const std::vector<float>>(scales.begin(), scales.end());
  known.push_back(input_scales_);
}

void PackedMatrix::GetRow(int64_t row, float* to) const {
  const char* at = panel(row / kPanel);
  const int64_t lane = row % kPanel;
  switch (format_) {
    case Format::kF32:
      for (int64_t k = 0; k < in_; ++k) {
        to[k] = reinterpret_cast<const float*>(at)[k * kPanel + lane];
      }
      return;
    case Format::kBf16:
      for (int64_t k = 0; k < in_; ++k) {
        to[k] = FromBf16(
            reinterpret_cast<const uint16_t*>(at)[(k / 2) * kPanel * 2 + lane * 2 + (k & 1)]);
      }
      return;
    case Format::kInt:
      break;
  }
  const int offset = scheme_.bits == 8 ? 128 : scheme_.minimum ? 0 : 8;
  for (int64_t g = 0; g < groups_; ++g) {
    const char* const group = at + GroupOffset(g);
    const int64_t length = GroupLength(g), first = g * group_size_;
    const auto* codes = reinterpret_cast<const uint8_t*>(group);
    const char* const scales = group + CodeBytes(length);
    const auto* halves = reinterpret_cast<const uint16_t*>(scales);
    const float scale = scheme_.group == 0 ? reinterpret_cast<const float*>(scales)[lane]
                                           : HalfToFloat(halves[lane]);
    const float minimum = scheme_.minimum ? HalfToFloat(halves[kPanel + lane]) : 0.0f;
    for (int64_t k = 0; k < length && first + k < in_; ++k) {
      int code;
      if (scheme_.bits == 8) {
        code = codes[(k / 4) * kPanel * 4 + lane * 4 + (k & 3)];
      } else {
        const int64_t half = k % (length / 2);
        const uint8_t byte = codes[(half / 4) * kPanel * 4 + lane * 4 + (half & 3)];
        code = k < length / 2 ? byte & 15 : byte >> 4;
      }
      to[first + k] = scale * static_cast<float>(code - offset) + minimum;
    }
  }
  if (input_scales_ == nullptr) return;
  for (int64_t k = 0; k < in_; ++k) to[k] *= (*input_scales_)[static_cast<size_t>(k)];
}

}  // namespace engine::kernels
