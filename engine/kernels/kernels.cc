// Splits each kernel's work over the compute pool and calls the active road.
#include "engine/kernels/kernels.h"

#include <algorithm>
#include <cmath>

#include "engine/kernels/isa.h"
#include "engine/kernels/parallel.h"
#include "engine/kernels/road.h"

namespace engine::kernels {
namespace {

const Road& ActiveRoad() {
  switch (ActiveIsa()) {
#if defined(__x86_64__)
    case Isa::kAvx512:
      return Avx512Road();
    case Isa::kAvx2:
      return Avx2Road();
#endif
    default:
      return PlainRoad();
  }
}

template <typename T>
void Reserve(std::vector<T>* v, int64_t size) {
  if (v->size() < static_cast<size_t>(size)) v->resize(static_cast<size_t>(size));
}

// Least work that is worth another thread: about 20 µs of multiplying.
constexpr int64_t kGrainFlops = 1 << 18;

}  // namespace

void Multiply(const float* x, int64_t ldx, int64_t rows, std::span<const Product> products,
              Scratch* scratch) {
  if (rows == 0 || products.empty()) return;
  const Road& road = ActiveRoad();
  bool bf16 = false, s8 = false;
  const int64_t in = products[0].w->in();
  const int64_t padded = (in + 3) / 4 * 4;
  int64_t panels = 0;
  for (const Product& p : products) {
    bf16 |= p.w->format() == Format::kBf16;
    s8 |= p.w->format() == Format::kS8;
    panels += p.w->panels();
  }
  // Positions beyond `in` meet weights of zero; their bytes only have to be defined.
  if (bf16) {
    Reserve(&scratch->bf16, rows * padded);
    ParallelFor(rows, std::max<int64_t>(1, 16384 / in), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        uint16_t* to = scratch->bf16.data() + r * padded;
        for (int64_t k = 0; k < in; ++k) to[k] = ToBf16(x[r * ldx + k]);
        std::fill(to + in, to + padded, uint16_t{0});
      }
    });
  }
  if (s8) {
    Reserve(&scratch->u8, rows * padded);
    Reserve(&scratch->scales, rows);
    ParallelFor(rows, std::max<int64_t>(1, 16384 / in), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        uint8_t* to = scratch->u8.data() + r * padded;
        scratch->scales[static_cast<size_t>(r)] = road.quantize_row(x + r * ldx, in, to);
        std::fill(to + in, to + padded, uint8_t{128});
      }
    });
  }
  // Panels of all products are one range, so that one parallel region serves them.
  const int64_t flops = 2 * rows * in * kPanel;
  ParallelFor(panels, std::max<int64_t>(1, kGrainFlops / flops), [&](int64_t begin, int64_t end) {
    for (const Product& p : products) {
      const int64_t count = p.w->panels();
      const int64_t from = std::max<int64_t>(0, begin), to = std::min(count, end);
      begin -= count;
      end -= count;
      if (from >= to) continue;
      PanelArgs a = {};
      a.panels = static_cast<const char*>(p.w->panel(0));
      a.groups = p.w->groups();
      a.rows = rows;
      a.y = p.y;
      a.ldy = p.ldy;
      a.out = p.w->out();
      a.add = p.add;
      a.scale = p.scale;
      switch (p.w->format()) {
        case Format::kF32:
          a.x = x;
          a.ldx = ldx;
          road.panels_f32(a, from, to);
          break;
        case Format::kBf16:
          a.x = scratch->bf16.data();
          a.ldx = padded;
          road.panels_bf16(a, from, to);
          break;
        case Format::kS8:
          a.x = scratch->u8.data();
          a.ldx = padded;
          a.row_scales = scratch->scales.data();
          a.scales = p.w->scales();
          a.sums = p.w->sums();
          road.panels_s8(a, from, to);
          break;
      }
    }
  });
}

void RmsNorm(const float* x, int64_t rows, int64_t width, const float* weight, float eps,
             float* y) {
  const Road& road = ActiveRoad();
  ParallelFor(rows, std::max<int64_t>(1, 32768 / width), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      road.rms_norm(x + r * width, width, weight, eps, y + r * width);
    }
  });
}

void SiluMultiply(float* gate, const float* up, int64_t count) {
  const Road& road = ActiveRoad();
  // Pieces end at multiples of the widest vector, so that no lane changes with the split.
  constexpr int64_t kPiece = 16;
  const int64_t pieces = (count + kPiece - 1) / kPiece;
  ParallelFor(pieces, 1024, [&](int64_t begin, int64_t end) {
    const int64_t first = begin * kPiece, last = std::min(count, end * kPiece);
    road.silu_multiply(gate + first, up + first, last - first);
  });
}

RopeTable RopeTable::Make(int64_t positions, int64_t head_dim, double theta,
                          std::span<const double> divisors) {
  RopeTable table;
  table.half = head_dim / 2;
  table.cos.resize(static_cast<size_t>(positions * table.half));
  table.sin.resize(table.cos.size());
  for (int64_t i = 0; i < table.half; ++i) {
    // The angle is a product in float, as Hugging Face computes it, so that long contexts agree.
    double exact =
        1.0 / std::pow(theta, 2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    if (!divisors.empty()) exact /= divisors[static_cast<size_t>(i)];
    const auto frequency = static_cast<float>(exact);
    for (int64_t p = 0; p < positions; ++p) {
      const double angle = static_cast<double>(static_cast<float>(p) * frequency);
      table.cos[static_cast<size_t>(p * table.half + i)] = static_cast<float>(std::cos(angle));
      table.sin[static_cast<size_t>(p * table.half + i)] = static_cast<float>(std::sin(angle));
    }
  }
  return table;
}

void Rope(float* x, int64_t heads, int64_t head_dim, int64_t position, const RopeTable& table) {
  const float* c = table.cos.data() + position * table.half;
  const float* s = table.sin.data() + position * table.half;
  for (int64_t h = 0; h < heads; ++h) {
    float* a = x + h * head_dim;
    float* b = a + table.half;
    for (int64_t i = 0; i < table.half; ++i) {
      const float u = a[i], v = b[i];
      a[i] = u * c[i] - v * s[i];
      b[i] = v * c[i] + u * s[i];
    }
  }
}

void KvWrite(const PagedKv& kv, int64_t position, const float* key, const float* value) {
  float* page = kv.pages[static_cast<size_t>(position / kv.page_tokens)];
  const int64_t slot = position % kv.page_tokens;
  float* values = page + kv.kv_heads * kv.head_dim * kv.page_tokens;
  for (int64_t h = 0; h < kv.kv_heads; ++h) {
    for (int64_t d = 0; d < kv.head_dim; ++d) {
      page[(h * kv.head_dim + d) * kv.page_tokens + slot] = key[h * kv.head_dim + d];
      values[(h * kv.page_tokens + slot) * kv.head_dim + d] = value[h * kv.head_dim + d];
    }
  }
}

void Attention(std::span<const AttentionJob> jobs, std::vector<float>* scratch) {
  const Road& road = ActiveRoad();
  // Items are tiles of some tokens of one key head: all query heads of its group, so that keys and
  // values are read once for the group.
  struct Item {
    const AttentionJob* job;
    int64_t kv_head, token, tokens;
  };
  std::vector<Item> items;
  int64_t longest = 0;
  for (const AttentionJob& job : jobs) {
    const int64_t group = job.heads / job.kv.kv_heads;
    const int64_t tile = std::max<int64_t>(1, kAttendRows / group);
    longest = std::max(longest, job.start + job.tokens);
    for (int64_t t = 0; t < job.tokens; t += tile) {
      for (int64_t h = 0; h < job.kv.kv_heads; ++h) {
        items.push_back({&job, h, t, std::min(tile, job.tokens - t)});
      }
    }
  }
  const int64_t stride = (longest + 31) / 16 * 16;
  const int64_t space = kAttendRows * stride;
  Reserve(scratch, space * static_cast<int64_t>(items.size() < 64 ? items.size() : 64));
  // Each item of a range of at most 64 works in its own space; ranges are split so.
  const int64_t ranges = std::min<int64_t>(static_cast<int64_t>(items.size()), 64);
  ParallelFor(ranges, 1, [&](int64_t begin, int64_t end) {
    for (int64_t range = begin; range < end; ++range) {
      for (size_t i = static_cast<size_t>(range); i < items.size();
           i += static_cast<size_t>(ranges)) {
        const Item& item = items[i];
        const AttentionJob& job = *item.job;
        const int64_t dim = job.kv.head_dim;
        const int64_t group = job.heads / job.kv.kv_heads;
        const float* q[kAttendRows];
        float* out[kAttendRows];
        int64_t lengths[kAttendRows];
        // A group of more query heads than a tile holds takes several turns.
        for (int64_t first = 0; first < group; first += kAttendRows) {
          const int64_t heads = std::min(kAttendRows, group - first);
          AttendArgs a = {};
          for (int64_t t = 0; t < item.tokens; ++t) {
            for (int64_t h = 0; h < heads; ++h) {
              const int64_t head = item.kv_head * group + first + h;
              q[a.rows] = job.q + (item.token + t) * job.ldq + head * dim;
              out[a.rows] = job.out + (item.token + t) * job.ldo + head * dim;
              lengths[a.rows++] = job.start + item.token + t + 1;
            }
          }
          a.pages = job.kv.pages.data();
          a.page_tokens = job.kv.page_tokens;
          a.head_dim = dim;
          a.key_offset = item.kv_head * dim * a.page_tokens;
          a.value_offset = (job.kv.kv_heads + item.kv_head) * dim * a.page_tokens;
          a.q = q;
          a.out = out;
          a.lengths = lengths;
          a.scores = scratch->data() + range * space;
          a.score_stride = stride;
          a.softmax_scale = 1.0f / std::sqrt(static_cast<float>(dim));
          road.attend(a);
        }
      }
    }
  });
}

float QuantizeRow(const float* x, int64_t count, int8_t* q) {
  auto* bytes = reinterpret_cast<uint8_t*>(q);
  const float scale = ActiveRoad().quantize_row(x, count, bytes);
  for (int64_t i = 0; i < count; ++i) q[i] = static_cast<int8_t>(bytes[i] - 128);
  return scale;
}

}  // namespace engine::kernels
