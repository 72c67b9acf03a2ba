#include "tensorboard.h"

#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "engine/util.hpp"
#include "event_file.h"

namespace engine::trainer {
namespace {

double WallTime() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

// A run that goes on writes a further file beside the first: TensorBoard reads a folder's files as
// one run.
Status TensorBoard::Open(Call&) {
  if (!options.has_dir) return Status();
  std::error_code error;
  std::filesystem::create_directories(options.dir, error);
  char host[256] = "localhost";
  if (gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
  const auto seconds = static_cast<long long>(WallTime());
  const std::string stem = options.dir + "/events.out.tfevents." + std::to_string(seconds) + "." +
                           host + "." + std::to_string(getpid());
  int number = 0;
  do {
    path_ = stem + "." + std::to_string(number++);
  } while (std::filesystem::exists(path_, error));
  file_.open(path_, std::ios::binary);
  if (!file_) return Error(ENGINE_INVALID_ARGUMENT, "'", path_, "' cannot be written");
  return Append(VersionEvent(WallTime()));
}

Status TensorBoard::Process(Call& call) {
  if (!options.has_dir) return Status();
  const engine_train_step& s = *in.Get(call);
  return Append(ScalarEvent(WallTime(), s.step,
                            {{"train/loss", s.loss},
                             {"train/grad_norm", s.grad_norm},
                             {"train/learning_rate", s.lr},
                             {"train/tokens_per_second", static_cast<double>(s.tokens) / s.seconds},
                             {"mem/peak_bytes", static_cast<double>(PeakBytes())}}));
}

Status TensorBoard::Append(const std::string& event) {
  file_ << Record(event) << std::flush;
  if (!file_) return Error(ENGINE_UNAVAILABLE, "'", path_, "' could not be written");
  return Status();
}

}  // namespace engine::trainer
