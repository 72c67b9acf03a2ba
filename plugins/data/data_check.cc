// data_check: every example of a file, once and in order, as dataset would make it.
#include <algorithm>
#include <cstdio>

#include "nodes.h"

namespace engine::data {
namespace {

// Between two calls the host may end the run.
constexpr uint64_t kExamplesOfACall = 256;

}  // namespace

Status DataCheck::Begin(Call& call) {
  ReportSettings s;
  s.file = options.dataset.path;
  s.sequence = options.dataset.sequence;
  s.problems = options.problems;
  s.shown = options.show;
  report_ = Report(std::move(s));
  ENGINE_RETURN_IF_ERROR(reader_.Open(model.Get(call), options.dataset, /*any_shape=*/true));
  report_.Describe(reader_.form(), reader_.shape(), reader_.size());
  open_ = true;
  return Status();
}

Status DataCheck::Look(uint64_t i) {
  Tokens tokens;
  Fate fate = Fate::kGood;
  bool fatal = false;
  const Status status = reader_.Make(i, &tokens, &fate, &fatal);
  if (fatal) return status;
  if (status.ok()) {
    report_.Add(reader_.Where(i), tokens, fate, reader_.encoder());
  } else {
    report_.Bad(status.message());
  }
  return Status();
}

Status DataCheck::Write(const std::string& text) const {
  if (options.has_path) {
    return Status(ThisHost().model->write_text(Str(options.path), Str(text)));
  }
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) {
    return Status();
  }
  return Error(ENGINE_UNAVAILABLE,
               "the report cannot be written: the reader is gone or the disk is full");
}

Status DataCheck::Process(Call& call) {
  const bool json = options.format == DataCheckOptions::Format::JSON;
  reader_.Use(model.Get(call));
  Status status;
  if (!open_) {
    status = Begin(call);
    if (!status.ok() && json) {
      // Whoever reads objects gets one all the same.
      report_.Bad(status.message());
      const Status written = Write(report_.Json());
      if (!written.ok()) status = written;
    }
  }
  const uint64_t end = std::min(reader_.size(), next_ + kExamplesOfACall);
  for (; status.ok() && next_ < end && !call.Cancelled(); ++next_) status = Look(next_);
  if (status.ok() && next_ < reader_.size()) return Status();
  if (status.ok()) {
    status = Write(json ? report_.Json() : report_.Text());
    if (status.ok()) status = report_.Verdict();
  }
  if (status.ok()) {
    call.Finish();
  } else {
    call.FailRun(status);
  }
  return status;
}

}  // namespace engine::data
