#include "engine/kernels/packed.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

namespace engine::kernels {

Status Pages::Make(uint64_t bytes, Pages* out) {
  constexpr uint64_t kHuge = 2u << 20;
  const uint64_t size = (bytes + 4095) / 4096 * 4096;
  void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    return Error(ENGINE_RESOURCE_EXHAUSTED, "no memory for ", bytes, " bytes of weights");
  }
  if (size >= kHuge) madvise(data, size, MADV_HUGEPAGE);
  Pages pages;
  pages.data_ = data;
  pages.bytes_ = size;
  *out = std::move(pages);
  return Status();
}

Pages::Pages(Pages&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
Pages& Pages::operator=(Pages&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}
Pages::~Pages() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

Status PackedMatrix::Make(Format format, int64_t out, int64_t in,
                          std::shared_ptr<PackedMatrix>* made) {
  constexpr int64_t kMost = int64_t{1} << 31;
  if (out <= 0 || in <= 0 || out > kMost || in > kMost || out > (int64_t{1} << 40) / in) {
    return Error(ENGINE_INVALID_ARGUMENT, "a matrix of ", out, " x ", in, " cannot be packed");
  }
  auto matrix = std::make_shared<PackedMatrix>();
  const int64_t width = format == Format::kF32 ? 1 : format == Format::kBf16 ? 2 : 4;
  matrix->format_ = format;
  matrix->out_ = out;
  matrix->in_ = in;
  matrix->groups_ = (in + width - 1) / width;
  const int64_t panels = (out + kPanel - 1) / kPanel;
  ENGINE_RETURN_IF_ERROR(
      Pages::Make(static_cast<uint64_t>(panels * matrix->groups_ * kPanel * 4), &matrix->pages_));
  if (format == Format::kS8) {
    matrix->scales_.resize(static_cast<size_t>(panels * kPanel));
    matrix->sums_.resize(static_cast<size_t>(panels * kPanel));
  }
  *made = std::move(matrix);
  return Status();
}

uint64_t PackedMatrix::bytes() const { return pages_.bytes() + scales_.size() * 8; }

void PackedMatrix::SetRows(int64_t first, int64_t count, const float* rows) {
  void* const at = const_cast<void*>(panel(first / kPanel));
  if (format_ == Format::kF32) {
    auto* to = static_cast<float*>(at);
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
  auto* to = static_cast<uint16_t*>(at);
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

void PackedMatrix::SetRowS8(int64_t row, const int8_t* q, float scale) {
  auto* to = static_cast<int8_t*>(const_cast<void*>(panel(row / kPanel)));
  const int64_t lane = row % kPanel;
  int32_t sum = 0;
  for (int64_t k = 0; k < in_; ++k) {
    to[(k / 4) * kPanel * 4 + lane * 4 + (k & 3)] = q[k];
    sum += q[k];
  }
  scales_[static_cast<size_t>(row)] = scale;
  sums_[static_cast<size_t>(row)] = sum;
}

void PackedMatrix::GetRow(int64_t row, float* to) const {
  const void* at = panel(row / kPanel);
  const int64_t lane = row % kPanel;
  switch (format_) {
    case Format::kF32:
      for (int64_t k = 0; k < in_; ++k) to[k] = static_cast<const float*>(at)[k * kPanel + lane];
      return;
    case Format::kBf16:
      for (int64_t k = 0; k < in_; ++k) {
        to[k] =
            FromBf16(static_cast<const uint16_t*>(at)[(k / 2) * kPanel * 2 + lane * 2 + (k & 1)]);
      }
      return;
    case Format::kS8: {
      const float scale = scales_[static_cast<size_t>(row)];
      for (int64_t k = 0; k < in_; ++k) {
        to[k] = scale * static_cast<float>(static_cast<const int8_t*>(
                            at)[(k / 4) * kPanel * 4 + lane * 4 + (k & 3)]);
      }
      return;
    }
  }
}

}  // namespace engine::kernels
