#include "engine/kernels/causal.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/kernels/gemm.h"
#include "engine/kernels/kernels.h"
#include "engine/kernels/parallel.h"

namespace engine::kernels {
namespace {

constexpr int64_t kRows = 48;  // query rows whose scores are there at once

int64_t Padded(int64_t n) { return (n + kPanel - 1) / kPanel * kPanel; }

using Buffer = std::vector<float, LineAllocator<float>>;

// x [rows, in] times a packed matrix [in][32] a panel, over panels [0, panels).
void Times(const float* x, int64_t ldx, int64_t rows, int64_t in, const float* panels, float* y,
           int64_t ldy, int64_t out) {
  PanelArgs a = {};
  a.panels = reinterpret_cast<const char*>(panels);
  a.groups = in;
  a.panel_bytes = in * kPanel * 4;
  a.x = x;
  a.ldx = ldx;
  a.rows = rows;
  a.y = y;
  a.ldy = ldy;
  a.out = out;
  ActiveRoad().panels_f32(a, 0, (out + kPanel - 1) / kPanel);
}

// Columns of one head over the rows of a stretch.
struct Part {
  const float* at;
  int64_t ld;
};

// Panels over positions, [positions / 32][head_dim][32]: what scores are made with.
void PackAcross(const Part& p, int64_t n, int64_t d, Buffer* to) {
  Reserve(to, Padded(n) * d);
  PackPanels({p.at, p.ld, d, p.at, p.ld, false}, n, to->data());
}
// Panels over the head's dimensions, [head_dim / 32][positions][32]; `n` positions.
void PackAlong(const Part& p, int64_t n, int64_t d, Buffer* to) {
  Reserve(to, Padded(d) * n);
  PackPanels({p.at, p.ld, n, p.at, p.ld, true}, d, to->data());
}

// Panels over dimensions of which only the first `used` positions of `n` count.
void TimesAlong(const float* x, int64_t ldx, int64_t rows, int64_t used, const Buffer& panels,
                int64_t n, int64_t d, float* y, int64_t ldy) {
  for (int64_t first = 0; first < d; first += kPanel) {
    Times(x, ldx, rows, used, panels.data() + first * n, y + first, ldy,
          std::min(kPanel, d - first));
  }
}

struct Task {
  CausalStretch stretch;
  int64_t head;  // of queries, or of keys
};

std::vector<Task> TasksOf(const CausalArgs& a, int64_t heads) {
  std::vector<Task> tasks;
  for (const CausalStretch& s : a.stretches) {
    for (int64_t h = 0; h < heads; ++h) tasks.push_back({s, h});
  }
  return tasks;
}

void ForwardOne(const CausalArgs& a, const Task& t, float* out, float* log_sums) {
  thread_local Buffer keys, values, scores;
  const int64_t d = a.head_dim, n = t.stretch.end - t.stretch.begin, first = t.stretch.begin;
  const int64_t ldq = a.heads * d, ldk = a.kv_heads * d;
  const int64_t kv = t.head / (a.heads / a.kv_heads) * d;
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  PackAcross({a.k + first * ldk + kv, ldk}, n, d, &keys);
  PackAlong({a.v + first * ldk + kv, ldk}, n, d, &values);
  const int64_t width = Padded(n);
  Reserve(&scores, kRows * width);
  float* const s = scores.data();
  const Road& road = ActiveRoad();
  for (int64_t r = 0; r < n; r += kRows) {
    const int64_t rows = std::min(kRows, n - r), seen = r + rows;
    const float* q = a.q + (first + r) * ldq + t.head * d;
    float* const to = out + (first + r) * ldq + t.head * d;
    Times(q, ldq, rows, d, keys.data(), s, width, seen);
    float sums[kRows];
    for (int64_t i = 0; i < rows; ++i) {
      sums[i] = road.softmax(s + i * width, r + i + 1, scale, rows - i - 1,
                             log_sums + (first + r + i) * a.heads + t.head);
    }
    TimesAlong(s, width, rows, seen, values, n, d, to, ldq);
    for (int64_t i = 0; i < rows; ++i) {
      const float inverse = 1.0f / sums[i];
      for (int64_t j = 0; j < d; ++j) to[i * ldq + j] *= inverse;
    }
  }
}

// All query heads of one key head, in order, so that its gradients have one order of sums.
void BackwardOne(const CausalArgs& a, const Task& t, const float* out, const float* log_sums,
                 const float* dout, float* dq, float* dk, float* dv) {
  thread_local Buffer keys, values, keys_along, queries, gradients, scores, slopes, key_sums,
      value_sums;
  const int64_t d = a.head_dim, n = t.stretch.end - t.stretch.begin, first = t.stretch.begin;
  const int64_t ldq = a.heads * d, ldk = a.kv_heads * d, kv = t.head * d, wide = Padded(d);
  const int64_t group = a.heads / a.kv_heads;
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  PackAcross({a.k + first * ldk + kv, ldk}, n, d, &keys);
  PackAcross({a.v + first * ldk + kv, ldk}, n, d, &values);
  PackAlong({a.k + first * ldk + kv, ldk}, n, d, &keys_along);
  const int64_t width = Padded(n);
  Reserve(&scores, kRows * width);
  Reserve(&slopes, kRows * width);
  key_sums.assign(static_cast<size_t>(n * wide), 0.0f);
  value_sums.assign(static_cast<size_t>(n * wide), 0.0f);
  float *const s = scores.data(), *const ds = slopes.data();
  const Road& road = ActiveRoad();
  for (int64_t h = t.head * group; h < (t.head + 1) * group; ++h) {
    for (int64_t r = 0; r < n; r += kRows) {
      const int64_t rows = std::min(kRows, n - r), seen = r + rows;
      const int64_t at = (first + r) * ldq + h * d;
      Times(a.q + at, ldq, rows, d, keys.data(), s, width, seen);
      Times(dout + at, ldq, rows, d, values.data(), ds, width, seen);
      for (int64_t i = 0; i < rows; ++i) {
        const float along = road.dot(dout + at + i * ldq, out + at + i * ldq, d);
        road.softmax_grad(s + i * width, ds + i * width, r + i + 1, scale,
                          log_sums[(first + r + i) * a.heads + h], along, rows - i - 1);
      }
      TimesAlong(ds, width, rows, seen, keys_along, n, d, dq + at, ldq);
      PackAlong({a.q + at, ldq}, rows, d, &queries);
      PackAlong({dout + at, ldq}, rows, d, &gradients);
      const int64_t panels = wide / kPanel;
      road.panels_across(
          {ds, width, seen, rows, queries.data(), kPanel, rows * kPanel, key_sums.data(), wide}, 0,
          panels);
      road.panels_across(
          {s, width, seen, rows, gradients.data(), kPanel, rows * kPanel, value_sums.data(), wide},
          0, panels);
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    const float *from_k = key_sums.data() + i * wide, *from_v = value_sums.data() + i * wide;
    std::copy(from_k, from_k + d, dk + (first + i) * ldk + kv);
    std::copy(from_v, from_v + d, dv + (first + i) * ldk + kv);
  }
}

}  // namespace

void CausalForward(const CausalArgs& a, float* out, float* log_sums) {
  const std::vector<Task> tasks = TasksOf(a, a.heads);
  ParallelFor(static_cast<int64_t>(tasks.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      ForwardOne(a, tasks[static_cast<size_t>(i)], out, log_sums);
    }
  });
}

void CausalBackward(const CausalArgs& a, const float* out, const float* log_sums, const float* dout,
                    float* dq, float* dk, float* dv) {
  const std::vector<Task> tasks = TasksOf(a, a.kv_heads);
  ParallelFor(static_cast<int64_t>(tasks.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      BackwardOne(a, tasks[static_cast<size_t>(i)], out, log_sums, dout, dq, dk, dv);
    }
  });
}

}  // namespace engine::kernels
