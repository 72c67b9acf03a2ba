#include "engine/model/perplexity.h"

#include <cmath>
#include <mutex>
#include <numeric>

#include "engine/kernels/parallel.h"
#include "engine/kernels/road.h"
#include "engine/model/extensions.h"

namespace engine::model {
namespace {

// -log of the probability that a row of logits gives `token`.
double NegativeLogLikelihood(const float* logits, int64_t vocab, int32_t token, float* scratch) {
  const kernels::Road& road = kernels::ActiveRoad();
  float top = 0, second = 0;
  int64_t best = 0;
  road.greatest(logits, vocab, &top, &second, &best);
  if (best < 0) return NAN;
  double sum = 0;
  constexpr int64_t kPiece = 1024;
  for (int64_t i = 0; i < vocab; i += kPiece) {
    sum += static_cast<double>(
        road.exp_weights(logits + i, std::min(kPiece, vocab - i), top, 1.0f, scratch));
  }
  return std::log(sum) - static_cast<double>(logits[token] - top);
}

// Pages for one window at a time, when the model keeps keys and values.
class Room {
 public:
  explicit Room(const engine_kv_pool* pool) : pool_(pool) {}
  ~Room() {
    if (sequence_ != 0) Status ignored(pool_->sequence_close(pool_->self, sequence_, 0));
  }
  Status Give(std::span<const int32_t> tokens, engine_step_sequence* s) {
    if (pool_ == nullptr) return Status();
    if (sequence_ == 0) {
      engine_kv_open open = Sized<engine_kv_open>();
      open.flags = ENGINE_KV_OPEN_NO_SHARING;
      open.tokens = tokens.data();
      open.token_count = static_cast<uint32_t>(tokens.size());
      engine_kv_match match = Sized<engine_kv_match>();
      ENGINE_RETURN_IF_ERROR(Status(pool_->sequence_open(pool_->self, &open, &sequence_, &match)));
    }
    ENGINE_RETURN_IF_ERROR(Status(pool_->sequence_reserve(pool_->self, sequence_, tokens.size())));
    return Status(pool_->sequence_blocks(pool_->self, sequence_, &s->blocks, &s->block_count));
  }

 private:
  const engine_kv_pool* const pool_;
  uint64_t sequence_ = 0;
};

}  // namespace

Status MeasurePerplexity(Model* model, std::span<const int32_t> tokens, int64_t window,
                         const std::function<void(int64_t, int64_t)>& progress, Perplexity* out) {
  const int64_t context = model->context(), vocab = model->config().vocab;
  if (window < 4 || window > context) {
    return Error(ENGINE_OUT_OF_RANGE, "a window of ", window,
                 " tokens; 4 to the model's context of ", context, " can be scored");
  }
  const auto count = static_cast<int64_t>(tokens.size());
  if (count < window) {
    return Error(ENGINE_INVALID_ARGUMENT, "the text has ", count, " tokens; one window takes ",
                 window);
  }
  const int64_t windows = count / window, first = window / 2, scored = window - 1 - first;
  std::vector<float> logits(static_cast<size_t>((scored + 1) * vocab));
  std::vector<double> losses;
  Room room(PoolOf(*model));
  for (int64_t w = 0; w < windows; ++w) {
    const int32_t* at = tokens.data() + w * window;
    engine_step_sequence s = Sized<engine_step_sequence>();
    s.request = 1;
    s.tokens = at;
    s.token_count = static_cast<uint32_t>(window);
    // Row r holds the logits after token first + r; the last one has nothing to be compared with.
    s.logits_count = static_cast<uint32_t>(scored + 1);
    ENGINE_RETURN_IF_ERROR(room.Give({at, static_cast<size_t>(window)}, &s));
    const engine_step step = {sizeof(engine_step), 1, &s};
    ENGINE_RETURN_IF_ERROR(model->Step(step, logits.data()));
    std::vector<double> mine(static_cast<size_t>(scored));
    kernels::ParallelFor(scored, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> scratch(1024);
      for (int64_t r = begin; r < end; ++r) {
        mine[static_cast<size_t>(r)] = NegativeLogLikelihood(logits.data() + r * vocab, vocab,
                                                             at[first + r + 1], scratch.data());
      }
    });
    losses.insert(losses.end(), mine.begin(), mine.end());
    if (progress) progress(w + 1, windows);
  }
  const auto n = static_cast<double>(losses.size());
  const double mean = std::accumulate(losses.begin(), losses.end(), 0.0) / n;
  if (!std::isfinite(mean)) {
    return Error(ENGINE_DATA_LOSS, "the model's logits hold a NaN or nothing finite");
  }
  double squares = 0;
  for (double loss : losses) squares += (loss - mean) * (loss - mean);
  out->value = std::exp(mean);
  out->spread = out->value * std::sqrt(squares / std::max(1.0, n - 1) / n);
  out->scored = static_cast<int64_t>(losses.size());
  out->windows = windows;
  return Status();
}

}  // namespace engine::model
