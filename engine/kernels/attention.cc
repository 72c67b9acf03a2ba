// Attention over pages: rotation, writing of keys and values, and the work items. An item is a tile
// of some tokens of one sequence with all query heads of one key head, so that keys and values are
// read once for the group. Invariant: stretches of the context are folded in order, whoever
// computed them, so that no split changes a bit.
#include <algorithm>
#include <cmath>

#include "engine/kernels/kernels.h"
#include "engine/kernels/parallel.h"
#include "engine/kernels/pool.h"
#include "engine/util.hpp"

namespace engine::kernels {
namespace {

// Where a key head's things lie in a page, in bytes.
struct Offsets {
  int64_t keys, values, key_scales, value_scales;
};

int64_t ElementBytes(KvFormat format) {
  return format == KvFormat::kF32 ? 4 : format == KvFormat::kF16 ? 2 : 1;
}

Offsets OffsetsOf(const PagedKv& kv, int64_t head) {
  const int64_t element = ElementBytes(kv.format);
  const int64_t each = kv.head_dim * kv.page_tokens * element, all = kv.kv_heads * each;
  return {head * each, all + head * each, 2 * all + head * kv.page_tokens * 4,
          2 * all + (kv.kv_heads + head) * kv.page_tokens * 4};
}

struct TileState {
  alignas(64) float most[kAttendRows], sum[kAttendRows];
  alignas(64) float values[kAttendRows * kMostHeadDim];
  AttendState view() { return {most, sum, values}; }
};

// All that one item's rows need, on the stack of whoever works on it.
struct Tile {
  alignas(64) float q[kAttendRows * kMostHeadDim];
  alignas(64) float scores[kAttendRows * kStretch];
  int8_t q8[kAttendRows * kMostHeadDim];
  float q_scales[kAttendRows];
  int32_t q_sums[kAttendRows];
  int64_t lengths[kAttendRows];
  AttendArgs args;
};

struct Problem {
  const PagedKv& kv;
  int64_t heads;
  std::span<const AttentionJob> jobs;
  const RopeTable& rope;
  bool write;  // items write their keys and values themselves
};

void WriteRow(const Problem& p, const AttentionJob& job, int64_t token, int64_t first_head,
              int64_t heads) {
  const int64_t dim = p.kv.head_dim, position = job.start + token;
  const int64_t at = (token * p.kv.kv_heads + first_head) * dim;
  const float* cos = p.rope.cos.data() + position * p.rope.half;
  const float* sin = p.rope.sin.data() + position * p.rope.half;
  const Road& road = ActiveRoad();
  alignas(64) float key[kMostHeadDim];
  const int32_t block = job.blocks[position / p.kv.page_tokens];
  const int64_t slot = position % p.kv.page_tokens, tokens = p.kv.page_tokens;
  char* const page = p.kv.base + block * p.kv.stride;
  for (int64_t h = 0; h < heads; ++h) {
    const float* value = job.v + at + h * dim;
    road.rope(job.k + at + h * dim, 1, dim, cos, sin, key);
    const Offsets o = OffsetsOf(p.kv, first_head + h);
    switch (p.kv.format) {
      case KvFormat::kF32: {
        auto* keys = reinterpret_cast<float*>(page + o.keys);
        for (int64_t d = 0; d < dim; ++d) keys[d * tokens + slot] = key[d];
        std::copy(value, value + dim, reinterpret_cast<float*>(page + o.values) + slot * dim);
        break;
      }
      case KvFormat::kF16: {
        auto* keys = reinterpret_cast<uint16_t*>(page + o.keys);
        uint16_t halves[kMostHeadDim];
        road.to_half(key, dim, halves);
        for (int64_t d = 0; d < dim; ++d) keys[d * tokens + slot] = halves[d];
        road.to_half(value, dim, reinterpret_cast<uint16_t*>(page + o.values) + slot * dim);
        break;
      }
      case KvFormat::kInt8: {
        int8_t codes[kMostHeadDim];
        int32_t sum = 0;
        road.quantize(key, dim, dim, codes, reinterpret_cast<float*>(page + o.key_scales) + slot,
                      &sum, 1);
        auto* keys = reinterpret_cast<int8_t*>(page + o.keys);
        for (int64_t d = 0; d < dim; ++d) keys[(d / 4 * tokens + slot) * 4 + d % 4] = codes[d];
        road.quantize(value, dim, dim, reinterpret_cast<int8_t*>(page + o.values) + slot * dim,
                      reinterpret_cast<float*>(page + o.value_scales) + slot, &sum, 1);
        break;
      }
    }
  }
}

// Fills `tile` with the rows of an item: query heads [first, first + heads) of the item's group.
void SetTile(const Problem& p, const AttentionScratch::Item& item, int64_t first, int64_t heads,
             Tile* tile) {
  const AttentionJob& job = p.jobs[static_cast<size_t>(item.job)];
  const Road& road = ActiveRoad();
  const int64_t dim = p.kv.head_dim, group = p.heads / p.kv.kv_heads;
  int64_t rows = 0;
  for (int64_t t = item.token; t < item.token + item.tokens; ++t) {
    const int64_t position = job.start + t;
    road.rope(job.q + (t * p.heads + item.kv_head * group + first) * dim, heads, dim,
              p.rope.cos.data() + position * p.rope.half,
              p.rope.sin.data() + position * p.rope.half, tile->q + rows * dim);
    for (int64_t h = 0; h < heads; ++h) tile->lengths[rows++] = position + 1;
  }
  const Offsets o = OffsetsOf(p.kv, item.kv_head);
  AttendArgs& a = tile->args;
  a.format = p.kv.format;
  a.base = p.kv.base;
  a.stride = p.kv.stride;
  a.blocks = job.blocks;
  a.page_tokens = p.kv.page_tokens;
  a.head_dim = dim;
  a.keys = o.keys;
  a.values = o.values;
  a.key_scales = o.key_scales;
  a.value_scales = o.value_scales;
  a.q = tile->q;
  a.lengths = tile->lengths;
  a.rows = rows;
  a.softmax_scale = 1.0f / std::sqrt(static_cast<float>(dim));
  a.scores = tile->scores;
  if (a.format == KvFormat::kInt8) {
    for (int64_t r = 0; r < rows; ++r) {
      road.quantize(tile->q + r * dim, dim, dim, tile->q8 + r * dim, tile->q_scales + r,
                    tile->q_sums + r, 1);
    }
    a.q8 = tile->q8;
    a.q_scales = tile->q_scales;
    a.q_sums = tile->q_sums;
  }
}

void Finish(const Problem& p, const AttentionScratch::Item& item, int64_t first, int64_t heads,
            const AttendState& state) {
  const AttentionJob& job = p.jobs[static_cast<size_t>(item.job)];
  const int64_t dim = p.kv.head_dim, group = p.heads / p.kv.kv_heads;
  int64_t row = 0;
  for (int64_t t = item.token; t < item.token + item.tokens; ++t) {
    for (int64_t h = 0; h < heads; ++h, ++row) {
      float* out = job.out + (t * p.heads + item.kv_head * group + first + h) * dim;
      ActiveRoad().attend_finish(state.values + row * dim, state.sum[row], dim, out);
    }
  }
}

int64_t LastPosition(const Problem& p, const AttentionScratch::Item& item) {
  const AttentionJob& job = p.jobs[static_cast<size_t>(item.job)];
  return job.start + item.token + item.tokens - 1;
}

// An item whole: all stretches, folded as they come.
void RunItem(const Problem& p, const AttentionScratch::Item& item) {
  const Road& road = ActiveRoad();
  if (p.write) {
    WriteRow(p, p.jobs[static_cast<size_t>(item.job)], item.token, item.kv_head, 1);
  }
  Tile tile;
  TileState state, more;
  const int64_t group = p.heads / p.kv.kv_heads, end = LastPosition(p, item) + 1;
  // A group of more query heads than a tile holds takes several turns.
  for (int64_t first = 0; first < group; first += kAttendRows) {
    const int64_t heads = std::min(kAttendRows, group - first);
    SetTile(p, item, first, heads, &tile);
    road.attend(tile.args, 0, std::min(end, kStretch), state.view());
    for (int64_t begin = kStretch; begin < end; begin += kStretch) {
      road.attend(tile.args, begin, std::min(end, begin + kStretch), more.view());
      road.attend_fold(state.view(), more.view(), tile.args.rows, p.kv.head_dim);
    }
    Finish(p, item, first, heads, state.view());
  }
}

// One stretch of an item; the last of them to be ready folds all.
void RunPart(const Problem& p, AttentionScratch* scratch, size_t index) {
  const AttentionScratch::Part part = scratch->parts[index];
  const AttentionScratch::Item& item = scratch->items[static_cast<size_t>(part.item)];
  const Road& road = ActiveRoad();
  const int64_t end = LastPosition(p, item) + 1, begin = part.stretch * kStretch;
  if (p.write && part.stretch == item.parts - 1) {
    WriteRow(p, p.jobs[static_cast<size_t>(item.job)], item.token, item.kv_head, 1);
  }
  const int64_t size = kAttendRows * (2 + p.kv.head_dim);
  const auto state = [&](int64_t i) -> AttendState {
    float* at = scratch->states.data() + i * size;
    return {at, at + kAttendRows, at + 2 * kAttendRows};
  };
  const int64_t heads = p.heads / p.kv.kv_heads;
  Tile tile;
  SetTile(p, item, 0, heads, &tile);
  road.attend(tile.args, begin, std::min(end, begin + kStretch),
              state(static_cast<int64_t>(index)));
  if (scratch->left[static_cast<size_t>(part.item)].fetch_sub(1, std::memory_order_acq_rel) != 1) {
    return;
  }
  for (int64_t i = 1; i < item.parts; ++i) {
    road.attend_fold(state(item.first_part), state(item.first_part + i), tile.args.rows,
                     p.kv.head_dim);
  }
  Finish(p, item, 0, heads, state(item.first_part));
}

}  // namespace

int64_t PagedKv::PageBytes(KvFormat format, int64_t page_tokens, int64_t kv_heads,
                           int64_t head_dim) {
  const int64_t codes = 2 * kv_heads * head_dim * page_tokens * ElementBytes(format);
  return codes + (format == KvFormat::kInt8 ? 2 * kv_heads * page_tokens * 4 : 0);
}

void KvRead(const PagedKv& kv, const int32_t* blocks, int64_t position, float* key, float* value) {
  const char* page = kv.base + blocks[position / kv.page_tokens] * kv.stride;
  const int64_t slot = position % kv.page_tokens, dim = kv.head_dim;
  for (int64_t h = 0; h < kv.kv_heads; ++h) {
    const Offsets o = OffsetsOf(kv, h);
    const float k_scale = kv.format == KvFormat::kInt8
                              ? reinterpret_cast<const float*>(page + o.key_scales)[slot]
                              : 1.0f;
    const float v_scale = kv.format == KvFormat::kInt8
                              ? reinterpret_cast<const float*>(page + o.value_scales)[slot]
                              : 1.0f;
    for (int64_t d = 0; d < dim; ++d, ++key, ++value) {
      const int64_t k = d * kv.page_tokens + slot, v = slot * dim + d;
      switch (kv.format) {
        case KvFormat::kF32:
          *key = reinterpret_cast<const float*>(page + o.keys)[k];
          *value = reinterpret_cast<const float*>(page + o.values)[v];
          break;
        case KvFormat::kF16:
          *key = HalfToFloat(reinterpret_cast<const uint16_t*>(page + o.keys)[k]);
          *value = HalfToFloat(reinterpret_cast<const uint16_t*>(page + o.values)[v]);
          break;
        case KvFormat::kInt8:
          *key = k_scale * static_cast<float>(reinterpret_cast<const int8_t*>(
                               page + o.keys)[(d / 4 * kv.page_tokens + slot) * 4 + d % 4]);
          *value =
              v_scale * static_cast<float>(reinterpret_cast<const int8_t*>(page + o.values)[v]);
          break;
      }
    }
  }
}

void Attention(const PagedKv& kv, int64_t heads, std::span<const AttentionJob> jobs,
               const RopeTable& rope, AttentionScratch* scratch) {
  const int64_t group = heads / kv.kv_heads;
  const int64_t tile = std::max<int64_t>(1, kAttendRows / group);
  bool single = true;
  int64_t rows = 0, stretches = 0;
  for (const AttentionJob& job : jobs) {
    single &= job.tokens == 1;
    rows += job.tokens;
    stretches += (job.start + job.tokens + kStretch - 1) / kStretch;
  }
  const Problem problem{kv, heads, jobs, rope, single};
  if (!single) {
    // Later tokens of a sequence see the keys of earlier ones: all are written first.
    ParallelFor(rows, 8, [&](int64_t begin, int64_t end) {
      int64_t row = 0;
      for (const AttentionJob& job : jobs) {
        const int64_t from = std::max(begin - row, int64_t{0});
        const int64_t to = std::min(end - row, job.tokens);
        for (int64_t t = from; t < to; ++t) WriteRow(problem, job, t, 0, kv.kv_heads);
        row += job.tokens;
      }
    });
  }
  scratch->items.clear();
  scratch->parts.clear();
  const auto job_count = static_cast<int64_t>(jobs.size());
  // Few items with long contexts are split by stretches, so that all threads have work.
  const bool split = single && group <= kAttendRows && stretches > job_count &&
                     job_count * kv.kv_heads < 4 * PoolThreads();
  for (int32_t j = 0; j < job_count; ++j) {
    const AttentionJob& job = jobs[static_cast<size_t>(j)];
    for (int64_t t = 0; t < job.tokens; t += tile) {
      for (int32_t h = 0; h < kv.kv_heads; ++h) {
        AttentionScratch::Item item{j,
                                    h,
                                    static_cast<int32_t>(t),
                                    static_cast<int32_t>(std::min(tile, job.tokens - t)),
                                    static_cast<int32_t>(scratch->parts.size()),
                                    0};
        if (split) {
          item.parts = static_cast<int32_t>((job.start + 1 + kStretch - 1) / kStretch);
          for (int32_t s = 0; s < item.parts; ++s) {
            scratch->parts.push_back({static_cast<int32_t>(scratch->items.size()), s});
          }
        }
        scratch->items.push_back(item);
      }
    }
  }
  if (!split) {
    const auto count = static_cast<int64_t>(scratch->items.size());
    // Later tokens see more: they are begun first.
    ParallelFor(count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        RunItem(problem, scratch->items[static_cast<size_t>(count - 1 - i)]);
      }
    });
    return;
  }
  const auto parts = static_cast<int64_t>(scratch->parts.size());
  Reserve(&scratch->states, parts * kAttendRows * (2 + kv.head_dim));
  if (scratch->left.size() < scratch->items.size()) {
    scratch->left = std::vector<std::atomic<int32_t>>(scratch->items.size());
  }
  for (size_t i = 0; i < scratch->items.size(); ++i) {
    scratch->left[i].store(scratch->items[i].parts, std::memory_order_relaxed);
  }
  ParallelFor(parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) RunPart(problem, scratch, static_cast<size_t>(i));
  });
}

}  // namespace engine::kernels
