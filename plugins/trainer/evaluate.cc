// evaluate and train_log: what a run of training tells.
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "engine/util.hpp"
#include "figures.h"
#include "nlohmann/json.hpp"
#include "nodes.h"

namespace engine::trainer {
namespace {

int TerminalColumns() {
  winsize size = {};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

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

Status TrainLog::Open(Call&) {
  terminal_ = isatty(STDERR_FILENO) != 0;
  if (!options.has_path) return Status();
  file_.open(options.path);
  if (!file_) return Error(ENGINE_INVALID_ARGUMENT, "'", options.path, "' cannot be written");
  return Status();
}

Status TrainLog::Process(Call& call) {
  const engine_train_step& s = *in.Get(call);
  seconds_ += s.seconds;
  ++seen_;
  if (options.has_svg) curve_.push_back({s.step, s.loss, s.lr});
  const double left = seconds_ / seen_ * (s.steps - s.step);
  if (terminal_) {
    // The last column stays free: some terminals wrap there. What was longer is erased.
    std::fprintf(stderr, "\r%s\x1b[K",
                 ProgressLine(s, PeakBytes(), left, TerminalColumns() - 1).c_str());
    std::fflush(stderr);
  }
  if (!options.has_path) {
    if (!terminal_) std::fprintf(stderr, "%s\n", StepLine(s, PeakBytes(), left).c_str());
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

Status TrainLog::Close(Call&) {
  if (terminal_ && seen_ > 0) std::fputs("\n", stderr);
  if (curve_.empty()) return Status();
  const std::string svg = LossSvg("Training", curve_);
  return Status(ThisHost().model->write_text(Str(options.svg), Str(svg)));
}

}  // namespace engine::trainer
