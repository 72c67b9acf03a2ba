#include "estimate.h"

#include <cstdio>

#include "engine/host.hpp"
#include "engine/util.hpp"

namespace engine::trainer {
namespace {

// Share of a step that is not products: norms, losses, the optimizer, memory.
constexpr double kBeside = 0.3;
// LibTorch's code and small heaps that a first step touches; 14 to 25 MiB were measured.
constexpr uint64_t kFirstTouched = 20 << 20;

long long MiB(uint64_t bytes) { return static_cast<long long>(bytes >> 20); }

}  // namespace

void Estimate::Begin(engine_model* model, int64_t batch, int64_t tokens, uint64_t gradient_bytes,
                     uint64_t batches) {
  engine_train_estimate e = Sized<engine_train_estimate>();
  begin_ns_ = NowNs();
  const Status status(ThisHost().model->train_estimate(model, batch, tokens, &e));
  made_ = status.ok();
  if (!made_) {
    Log(ENGINE_LOG_INFO, "trainer", "no estimate: ", status.message());
    return;
  }
  peak_bytes_ = ProcessBytes("VmRSS:") + e.weight_bytes + gradient_bytes + e.kept_bytes +
                e.working_bytes + kFirstTouched;
  batch_seconds_ = e.flops / e.flops_per_second * (1 + kBeside);
  std::fprintf(
      stderr,
      "estimate: at most %lld MiB (activations %lld), %.1f s a batch of %lld x %lld, %.0f s "
      "in all\n",
      MiB(peak_bytes_), MiB(e.kept_bytes), batch_seconds_, static_cast<long long>(batch),
      static_cast<long long>(tokens), batch_seconds_ * static_cast<double>(batches));
  begin_ns_ = NowNs();
}

void Estimate::End(uint64_t batches) const {
  if (!made_ || batches == 0) return;
  const double seconds = static_cast<double>(NowNs() - begin_ns_) * 1e-9;
  std::fprintf(stderr, "took %lld MiB and %.1f s a batch; estimated were %lld MiB and %.1f s\n",
               MiB(PeakBytes()), seconds / static_cast<double>(batches), MiB(peak_bytes_),
               batch_seconds_);
}

}  // namespace engine::trainer
