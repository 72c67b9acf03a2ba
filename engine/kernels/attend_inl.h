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

// Vectors that R rows take at once: enough sums to hide how long an addition takes, few enough for
// the registers. Whatever is left over takes fewer.
template <int R>
inline constexpr int kVectorsFor = R >= V::kChains      ? 1
                                   : V::kChains / R > 8 ? 8
                                                        : V::kChains / R;

template <typename Kv, int R, int C>
inline void ScoreRows(const AttendArgs& a, int64_t row, int64_t begin, int64_t position,
                      int64_t longest) {
  for (; position + (C - 1) * kL < longest; position += C * kL) {
    Scores<Kv, R, C>(a, row, position, a.scores + position - begin);
  }
  if constexpr (C > 1) ScoreRows<Kv, R, C / 2>(a, row, begin, position, longest);
}

template <typename Kv, int R, int C>
inline void ValueRows(const AttendArgs& a, int64_t begin, int64_t end, const int64_t (&rows)[R],
                      int64_t d, float* out) {
  for (; d + C * kL <= a.head_dim; d += C * kL) Values<Kv, R, C>(a, begin, end, rows, d, out);
  if constexpr (C > 1) ValueRows<Kv, R, C / 2>(a, begin, end, rows, d, out);
}

// body(R) over `count` rows, as many as possible at once: half a tile, a quarter, one.
template <typename Body>
inline void ByRows(int64_t count, const Body& body) {
  int64_t row = 0;
  const auto some = [&]<int R>(std::integral_constant<int, R> rows) {
    if constexpr (V::kChains > 1 || R == 1) {
      for (; row + R <= count; row += R) body(rows, row);
    }
  };
  some(std::integral_constant<int, kAttendRows / 2>());
  some(std::integral_constant<int, kAttendRows / 4>());
  some(std::integral_constant<int, 1>());
}

template <typename Kv>
void AttendStretch(const AttendArgs& a, int64_t begin, int64_t end, const AttendState& out) {
  int64_t longest = begin;
  for (int64_t r = 0; r < a.rows; ++r) longest = Most(longest, Least(end, a.lengths[r]));
  ByRows(a.rows, [&]<int R>(std::integral_constant<int, R>, int64_t row) {
    ScoreRows<Kv, R, kVectorsFor<R>>(a, row, begin, begin, longest);
  });

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
    out.most[r] = V::MaxAcross(most);
    const F top = V::Set1(out.most[r]);
    F sum = V::Zero();
    for (int64_t j = 0; j < padded; j += kL) {
      V::Store(s + j, Exp(V::Sub(V::Load(s + j), top)));
      if (j + kL > length) {
        for (int64_t i = length; i < j + kL; ++i) s[i] = 0;
      }
      sum = V::Add(sum, V::Load(s + j));
    }
    out.sum[r] = V::SumAcross(sum);
    // Rows of a tile are weighted together as far as the longest of them sees.
    for (int64_t j = padded; j < longest - begin; ++j) s[j] = 0;
  }
  ByRows(count, [&]<int R>(std::integral_constant<int, R>, int64_t first) {
    int64_t rows[R], last = 0;
    for (int r = 0; r < R; ++r) {
      rows[r] = seeing[first + r];
      last = Most(last, Least(end, a.lengths[rows[r]]));
    }
    ValueRows<Kv, R, kVectorsFor<R>>(a, begin, last, rows, 0, out.values);
  });
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
