// A low-rank branch as doubles, added to rows of the weight beside it: what merging writes and what
// serving measures. Invariant: a row's result depends on that row alone and is the same bits
// whatever runs beside it.
#ifndef ENGINE_MODEL_LOW_RANK_H_
#define ENGINE_MODEL_LOW_RANK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/ext/model.h"
#include "engine/status.hpp"

namespace engine::model {

struct LowRank {
  int64_t rank = 0, in = 0, out = 0;
  double scale = 0;
  std::vector<double> a, b;       // [rank, in], [out, rank]
  std::vector<double> magnitude;  // [out]; empty: rows keep the length that they get

  // The branch of the linear `site`. DATA_LOSS names a value that is not finite.
  static Status Read(const engine_low_rank& low, const std::string& site, int64_t in, int64_t out,
                     LowRank* to);
  // Adds row `row` of scale * B·A to w [in]; gives what the magnitude then multiplies the row by, 1
  // without one. A row of length 0 gives a factor that is not finite.
  double AddTo(int64_t row, double* w) const;
};

}  // namespace engine::model

#endif  // ENGINE_MODEL_LOW_RANK_H_
