// train_log: what a run of training tells, step by step.
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "engine/util.hpp"
#include "figures.h"
#include "nlohmann/json.hpp"
#include "nodes.h"
#include "train_lines.h"

namespace engine::trainer {
namespace {

int TerminalColumns() {
  winsize size = {};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

Status TrainLog::Open(Call&) {
  terminal_ = isatty(STDERR_FILENO) != 0;
  if (!options.has_path) return Status();
  // What is in it stays until the first step tells where this run begins.
  file_.open(options.path, std::ios::app);
  if (!file_) return Error(ENGINE_INVALID_ARGUMENT, "'", options.path, "' cannot be written");
  return Status();
}

Status TrainLog::Begin(uint32_t step) {
  KeptLines kept = LinesBefore(options.path, step);
  if (options.has_svg) curve_ = std::move(kept.points);
  std::error_code error;
  // A device has no lines to drop.
  if (std::filesystem::is_regular_file(options.path, error)) {
    std::filesystem::resize_file(options.path, kept.bytes, error);
  }
  if (!error) return Status();
  return Error(ENGINE_UNAVAILABLE, "'", options.path, "' cannot be written: ", error.message());
}

Status TrainLog::Process(Call& call) {
  const engine_train_step& s = *in.Get(call);
  if (seen_ == 0 && options.has_path) ENGINE_RETURN_IF_ERROR(Begin(s.step));
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
