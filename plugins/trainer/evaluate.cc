// evaluate: the mean loss over batches.
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
  const Status status = BatchTensors(batch).Loss(model.Get(call), /*train=*/nullptr, &sum, &count);
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

}  // namespace engine::trainer
