#include "figures.h"

#include <algorithm>
#include <cstdio>

namespace engine::trainer {
namespace {

double TokensPerSecond(const engine_train_step& s) {
  return s.seconds > 0 ? static_cast<double>(s.tokens) / s.seconds : 0;
}

double MiB(uint64_t bytes) { return static_cast<double>(bytes) / 1048576.0; }

// "1:15", "2:03:04".
std::string Clock(double seconds) {
  const auto whole = static_cast<long long>(std::clamp(seconds, 0.0, 1e9));
  const long long hours = whole / 3600, minutes = whole / 60 % 60, rest = whole % 60;
  char text[40];
  if (hours > 0) {
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", hours, minutes, rest);
  } else {
    std::snprintf(text, sizeof text, "%lld:%02lld", minutes, rest);
  }
  return text;
}

}  // namespace

std::string StepLine(const engine_train_step& s, uint64_t peak_bytes, double seconds_left) {
  char text[256];
  std::snprintf(text, sizeof text,
                "step %u of %u: loss %.6f, gradient norm %.4f, lr %.3g, %.1f tokens/s, %.0f MiB, "
                "%.0f s left",
                s.step, s.steps, s.loss, s.grad_norm, s.lr, TokensPerSecond(s), MiB(peak_bytes),
                seconds_left);
  return text;
}

std::string ProgressLine(const engine_train_step& s, uint64_t peak_bytes, double seconds_left,
                         int columns) {
  char text[256];
  std::snprintf(text, sizeof text, "] %u/%u  loss %.4f  %.0f tokens/s  %.0f MiB  %s left", s.step,
                s.steps, s.loss, TokensPerSecond(s), MiB(peak_bytes), Clock(seconds_left).c_str());
  const std::string figures = text;
  // The bar takes what the figures leave; too narrow a terminal cuts the end.
  const int room = std::clamp(columns - 1 - static_cast<int>(figures.size()), 0, 20);
  const auto done = static_cast<size_t>(room * std::min(1.0, double{1} * s.step / s.steps));
  std::string line =
      "[" + std::string(done, '#') + std::string(static_cast<size_t>(room) - done, ' ') + figures;
  line.resize(std::min(line.size(), static_cast<size_t>(std::max(columns, 0))));
  return line;
}

}  // namespace engine::trainer
