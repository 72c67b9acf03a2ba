#include "geometry.h"

#include <cstring>

namespace engine::kv_cache {
namespace {

uint64_t ElementBytes(uint32_t format) {
  return format == ENGINE_KV_F32 ? 4 : format == ENGINE_KV_F16 ? 2 : 1;
}

// Zeroes the columns [from, columns) of rows of elements.
void ClearColumns(char* at, uint64_t rows, uint64_t columns, uint64_t from, uint64_t element) {
  for (uint64_t r = 0; r < rows; ++r) {
    std::memset(at + (r * columns + from) * element, 0, (columns - from) * element);
  }
}

}  // namespace

const char* FormatName(uint32_t format) {
  switch (format) {
    case ENGINE_KV_F32:
      return "F32";
    case ENGINE_KV_F16:
      return "F16";
    case ENGINE_KV_INT8:
      return "INT8";
    default:
      return "unknown";
  }
}

Status Geometry::Complete() {
  if (format != ENGINE_KV_F32 && format != ENGINE_KV_F16 && format != ENGINE_KV_INT8) {
    return Error(ENGINE_INVALID_ARGUMENT, "the format of keys and values is ", format,
                 "; it can be F32 (1), F16 (2) or INT8 (3)");
  }
  if (page_tokens == 0 || page_tokens % 16 != 0 || page_tokens > 4096) {
    return Error(ENGINE_INVALID_ARGUMENT, "page_tokens is ", page_tokens,
                 "; it must be a multiple of 16, at most 4096");
  }
  if (blocks == 0 || kv_heads <= 0 || head_dim <= 0) {
    return Error(ENGINE_INVALID_ARGUMENT, "the model has ", blocks, " blocks, ", kv_heads,
                 " key-value heads of ", head_dim, "; all three must be positive");
  }
  if (format == ENGINE_KV_INT8 && head_dim % 4 != 0) {
    return Error(ENGINE_UNIMPLEMENTED,
                 "INT8 keys and values need a head dimension that 4 divides; ", "this model's is ",
                 head_dim, " (F32 and F16 would work)");
  }
  uint64_t positions = 0, each = 0;
  bool over =
      __builtin_mul_overflow(static_cast<uint64_t>(kv_heads), uint64_t{page_tokens}, &positions);
  over |= __builtin_mul_overflow(2 * ElementBytes(format), static_cast<uint64_t>(head_dim), &each);
  if (format == ENGINE_KV_INT8) over |= __builtin_add_overflow(each, uint64_t{8}, &each);
  over |= __builtin_mul_overflow(positions, each, &block_bytes);
  over |= __builtin_add_overflow(block_bytes, uint64_t{63}, &block_bytes);
  block_bytes = block_bytes / 64 * 64;
  over |= __builtin_mul_overflow(block_bytes, uint64_t{blocks}, &page_bytes);
  if (over || page_bytes > (uint64_t{1} << 40)) {
    return Error(ENGINE_OUT_OF_RANGE, "a page of ", page_tokens, " tokens over ", blocks,
                 " blocks of ", kv_heads, " heads of ", head_dim, " cannot be addressed");
  }
  return Status();
}

void Geometry::ClearPositions(char* piece, uint32_t from) const {
  const uint64_t heads = static_cast<uint64_t>(kv_heads), dim = static_cast<uint64_t>(head_dim);
  const uint64_t element = ElementBytes(format), half = heads * dim * page_tokens * element;
  const bool int8 = format == ENGINE_KV_INT8;
  // Keys: position is the inner axis (of fours, where they are int8); values: the outer one.
  ClearColumns(piece, int8 ? heads * dim / 4 : heads * dim, page_tokens, from, int8 ? 4 : element);
  ClearColumns(piece + half, heads, page_tokens, from, dim * element);
  if (int8) ClearColumns(piece + 2 * half, 2 * heads, page_tokens, from, sizeof(float));
}

}  // namespace engine::kv_cache
