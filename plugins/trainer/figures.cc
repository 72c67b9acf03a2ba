// evaluate and train_log: what a run of training tells.
#include <cmath>
#include <cstdio>

#include "engine/util.hpp"
#include "nlohmann/json.hpp"
#include "nodes.h"

namespace engine::trainer {

Status Evaluate::Process(Call& call) {
  const engine_train_batch& batch = *in.Get(call);
  if (batch.valid == 0) return Status();
  const uint64_t begin = NowNs();
  double sum = 0;
  int64_t count = 0;
  const Status status = BatchTensors(batch).Loss(model.Get(call), /*train=*/false, &sum, &count);
  if (!status.ok()) {
    call.FailRun(status);  // figures over a part would look like those over all
    return status;
  }
  sum_ += sum;
  count_ += count;
  ++batches_;
  seconds_ += static_cast<double>(NowNs() - begin) * 1e-9;
  return Status();
}

Status Evaluate::Close(Call&) {
  if (count_ == 0) {
    return Error(ENGINE_FAILED_PRECONDITION, "no label counted in what was to be evaluated on");
  }
  const double loss = sum_ / static_cast<double>(count_);
  if (!options.has_path) {
    std::fprintf(stderr, "loss %.6f, perplexity %.4f over %lld tokens, %.1f tokens/s\n", loss,
                 std::exp(loss), static_cast<long long>(count_),
                 static_cast<double>(count_) / seconds_);
    return Status();
  }
  nlohmann::ordered_json j;
  j["loss"] = loss;
  j["perplexity"] = std::exp(loss);
  j["tokens"] = count_;
  j["batches"] = batches_;
  j["seconds"] = seconds_;
  const std::string text = j.dump() + "\n";
  return Status(ThisHost().model->write_text(Str(options.path), Str(text)));
}

Status TrainLog::Open(Call&) {
  if (!options.has_path) return Status();
  file_.open(options.path);
  if (!file_) return Error(ENGINE_INVALID_ARGUMENT, "'", options.path, "' cannot be written");
  return Status();
}

Status TrainLog::Process(Call& call) {
  const engine_train_step& s = *in.Get(call);
  seconds_ += s.seconds;
  ++seen_;
  if (!options.has_path) {
    const double left = seconds_ / seen_ * (s.steps - s.step);
    std::fprintf(stderr,
                 "step %u of %u: loss %.6f, gradient norm %.4f, lr %.3g, %.1f tokens/s, %.0f MiB, "
                 "%.0f s left\n",
                 s.step, s.steps, s.loss, s.grad_norm, s.lr,
                 static_cast<double>(s.tokens) / s.seconds,
                 static_cast<double>(PeakBytes()) / 1048576.0, left);
    return Status();
  }
  nlohmann::ordered_json j;
  j["step"] = s.step;
  j["loss"] = s.loss;
  j["lr"] = s.lr;
  j["tokens"] = s.tokens;
  j["seconds"] = s.seconds;
  j["grad_norm"] = s.grad_norm;
  j["peak_bytes"] = PeakBytes();
  file_ << j.dump() << std::endl;
  if (!file_) return Error(ENGINE_UNAVAILABLE, "'", options.path, "' could not be written");
  return Status();
}

}  // namespace engine::trainer
