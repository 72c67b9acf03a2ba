// Attention over pages, over a road's vector type V (see road_inl.h): scores with lanes across
// positions and one chain over the head's dimensions, values with lanes across dimensions and one
// chain over positions.

// How a road reads keys and values of each format. Key(page, d, position): the vector of kL
// positions at dimension d.
struct KvF32 {
  static F Key(const char* keys, int64_t d, int64_t page_tokens, int64_t slot) {
    return V::Load(reinterpret_cast<const float*>(keys) + d * page_tokens + slot);
  }
  static F Value(const char* values, int64_t at) {
    return V::Load(reinterpret_cast<const float*>(values) + at);
  }
};
struct KvF16 {
  static F Key(const char* keys, int64_t d, int64_t page_tokens, int64_t slot) {
    return V::LoadHalf(reinterpret_cast<const uint16_t*>(keys) + d * page_tokens + slot);
  }
  static F Value(const char* values, int64_t at) {
    return V::LoadHalf(reinterpret_cast<const uint16_t*>(values) + at);
  }
};
struct KvInt8 {
  static F Value(const char* values, int64_t at) {
    return V::ToFloat(V::LoadI8(reinterpret_cast<const int8_t*>(values) + at));
  }
};

inline const char* PageOf(const AttendArgs& a, int64_t position) {
  return a.base + a.blocks[position / a.page_tokens] * a.stride;
}

// Scores of R rows against C vectors of positions from `position` on.
template <typename Kv, int R, int C>
inline void Scores(const AttendArgs& a, int64_t row, int64_t position, float* scores) {
  const char* keys[C];
  int64_t slot[C];
  for (int c = 0; c < C; ++c) {
    keys[c] = PageOf(a, position + c * kL) + a.keys;
    slot[c] = (position + c * kL) % a.page_tokens;
  }
  const F scale = V::Set1(a.softmax_scale);
  if constexpr (std::is_same_v<Kv, KvInt8>) {
    typename V::I acc[R][C];
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < C; ++c) acc[r][c] = V::Set1I(-V::Dots::kOffset8 * a.q_sums[row + r]);
    }
    for (int64_t d = 0; d < a.head_dim; d += 4) {
      for (int c = 0; c < C; ++c) {
        const auto codes =
            V::Dots::FromSigned(V::LoadCodes(keys[c] + (d / 4 * a.page_tokens + slot[c]) * 4));
        for (int r = 0; r < R; ++r) {
          int32_t four;
          __builtin_memcpy(&four, a.q8 + (row + r) * a.head_dim + d, 4);
          acc[r][c] = V::Dots::Dot8(acc[r][c], codes, V::Dots::Spread(four));
        }
      }
    }
    for (int c = 0; c < C; ++c) {
      const auto* scales =
          reinterpret_cast<const float*>(keys[c] - a.keys + a.key_scales) + slot[c];
      const F k = V::Mul(V::Load(scales), scale);
      for (int r = 0; r < R; ++r) {
        V::Store(scores + (row + r) * kStretch + c * kL,
                 V::Mul(V::ToFloat(acc[r][c]), V::Mul(k, V::Set1(a.q_scales[row + r]))));
      }
    }
  } else {
    F acc[R][C];
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < C; ++c) acc[r][c] = V::Zero();
    }
    const float* q = a.q + row * a.head_dim;
    for (int64_t d = 0; d < a.head_dim; ++d) {
      for (int c = 0; c < C; ++c) {
        const F k = Kv::Key(keys[c], d, a.page_tokens, slot[c]);
        for (int r = 0; r < R; ++r)
          acc[r][c] = V::Fma(V::Set1(q[r * a.head_dim + d]), k, acc[r][c]);
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int c = 0; c < C; ++c) {
        V::Store(scores + (row + r) * kStretch + c * kL, V::Mul(acc[r][c], scale));
      }
    }
  }
}

// Values of R rows for C vectors of the head's dimensions, weighted by the scores.
template <typename Kv, int R, int C>
inline void Values(const AttendArgs& a, int64_t begin, int64_t end, const int64_t (&rows)[R],
                   int64_t d, float* out) {
  F acc[R][C];
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) acc[r][c] = V::Zero();
  }
  for (int64_t j = begin; j < end;) {
    const char* page = PageOf(a, j);
    const char* values = page + a.values;
    const auto* scales = reinterpret_cast<const float*>(page + a.value_scales);
    const int64_t stop = Least(end, (j / a.page_tokens + 1) * a.page_tokens);
    for (int64_t slot = j % a.page_tokens; j < stop; ++j, ++slot) {
      F weight[R];
      for (int r = 0; r < R; ++r) {
        float w = a.scores[rows[r] * kStretch + j - begin];
        if constexpr (std::is_same_v<Kv, KvInt8>) w *= scales[slot];
        weight[r] = V::Set1(w);
      }
      for (int c = 0; c < C; ++c) {
        const F v = Kv::Value(values, slot * a.head_dim + d + c * kL);
        for (int r = 0; r < R; ++r) acc[r][c] = V::Fma(weight[r], v, acc[r][c]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int c = 0; c < C; ++c) V::Store(out + rows[r] * a.head_dim + d + c * kL, acc[r][c]);
  }
}

template <typename Kv, int R>
inline void ValueRows(const AttendArgs& a, int64_t begin, int64_t end, const int64_t (&rows)[R],
                      float* out) {
  int64_t d = 0;
  for (; d + 4 * kL <= a.head_dim; d += 4 * kL) Values<Kv, R, 4>(a, begin, end, rows, d, out);
  for (; d < a.head_dim; d += kL) Values<Kv, R, 1>(a, begin, end, rows, d, out);
}

template <typename Kv>
void AttendStretch(const AttendArgs& a, int64_t begin, int64_t end, const AttendState& out) {
  int64_t longest = begin;
  for (int64_t r = 0; r < a.rows; ++r) longest = Most(longest, Least(end, a.lengths[r]));
  int64_t position = begin;
  const auto scores = [&]<int C>(std::integral_constant<int, C>) {
    float* to = a.scores + position - begin;
    int64_t r = 0;
    for (; r + 6 <= a.rows && V::kLanes > 1; r += 6) Scores<Kv, 6, C>(a, r, position, to);
    for (; r + 3 <= a.rows; r += 3) Scores<Kv, 3, C>(a, r, position, to);
    for (; r < a.rows; ++r) Scores<Kv, 1, C>(a, r, position, to);
    position += C * kL;
  };
  while (position + kL < longest && V::kScoreVectors == 2) {
    scores(std::integral_constant<int, V::kScoreVectors>());
  }
  while (position < longest) scores(std::integral_constant<int, 1>());

  int64_t seeing[kAttendRows], count = 0;
  for (int64_t r = 0; r < a.rows; ++r) {
    out.most[r] = -INFINITY;
    out.sum[r] = 0;
    const int64_t length = Least(end, a.lengths[r]) - begin;
    if (length <= 0) continue;
    seeing[count++] = r;
    float* s = a.scores + r * kStretch;
    const int64_t padded = (length + kL - 1) / kL * kL;
    for (int64_t j = length; j < padded; ++j) s[j] = -INFINITY;
    F most = V::Set1(-INFINITY);
    for (int64_t j = 0; j < padded; j += kL) most = V::Max(most, V::Load(s + j));
    out.most[r] = MaxLanes(most);
    const F top = V::Set1(out.most[r]);
    F sum = V::Zero();
    for (int64_t j = 0; j < padded; j += kL) {
      V::Store(s + j, Exp(V::Sub(V::Load(s + j), top)));
      if (j + kL > length) {
        for (int64_t i = length; i < j + kL; ++i) s[i] = 0;
      }
      sum = V::Add(sum, V::Load(s + j));
    }
    out.sum[r] = SumLanes(sum);
    // Rows of a tile are weighted together as far as the longest of them sees.
    for (int64_t j = padded; j < longest - begin; ++j) s[j] = 0;
  }
  int64_t i = 0;
  for (; i + V::kValueRows <= count; i += V::kValueRows) {
    int64_t rows[V::kValueRows], last = 0;
    for (int r = 0; r < V::kValueRows; ++r) {
      rows[r] = seeing[i + r];
      last = Most(last, Least(end, a.lengths[rows[r]]));
    }
    ValueRows<Kv, V::kValueRows>(a, begin, last, rows, out.values);
  }
  for (; i < count; ++i) {
    const int64_t rows[1] = {seeing[i]};
    ValueRows<Kv, 1>(a, begin, Least(end, a.lengths[rows[0]]), rows, out.values);
  }
}

void Attend(const AttendArgs& a, int64_t begin, int64_t end, const AttendState& out) {
  switch (a.format) {
    case KvFormat::kF32:
      return AttendStretch<KvF32>(a, begin, end, out);
    case KvFormat::kF16:
      return AttendStretch<KvF16>(a, begin, end, out);
    case KvFormat::kInt8:
      return AttendStretch<KvInt8>(a, begin, end, out);
  }
}

void AttendFold(const AttendState& state, const AttendState& more, int64_t rows, int64_t head_dim) {
  for (int64_t r = 0; r < rows; ++r) {
    if (more.most[r] == -INFINITY && more.sum[r] == 0) continue;
    const float top = state.most[r] > more.most[r] ? state.most[r] : more.most[r];
    alignas(64) float lanes[kL];
    V::Store(lanes, Exp(V::Set1(state.most[r] - top)));
    const float keep = lanes[0];
    V::Store(lanes, Exp(V::Set1(more.most[r] - top)));
    const float join = lanes[0];
    state.most[r] = top;
    const float kept = state.sum[r] * keep;
    state.sum[r] = kept + more.sum[r] * join;
    float* to = state.values + r * head_dim;
    const float* from = more.values + r * head_dim;
    for (int64_t d = 0; d < head_dim; d += kL) {
      V::Store(to + d,
               V::Fma(V::Load(from + d), V::Set1(join), V::Mul(V::Load(to + d), V::Set1(keep))));
    }
  }
}

void AttendFinish(const float* values, float sum, int64_t head_dim, float* y) {
  const F inverse = V::Set1(1.0f / sum);
  for (int64_t d = 0; d < head_dim; d += kL) {
    V::Store(y + d, V::Mul(V::Load(values + d), inverse));
  }
}
