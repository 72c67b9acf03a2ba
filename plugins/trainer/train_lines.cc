#include "train_lines.h"

#include <fstream>

#include "nlohmann/json.hpp"

namespace engine::trainer {
namespace {

constexpr size_t kLongest = 4096;  // ours have a few hundred bytes

// False at the end, and for a line that has none or is none of ours.
bool WholeLine(std::istream& in, std::string* line) {
  line->clear();
  for (char c; in.get(c) && line->size() < kLongest;) {
    if (c == '\n') return true;
    line->push_back(c);
  }
  return false;
}

}  // namespace

KeptLines LinesBefore(const std::string& path, uint32_t next) {
  KeptLines kept;
  std::ifstream in(path, std::ios::binary);
  for (std::string line; WholeLine(in, &line);) {
    const auto j = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    const auto number = [&](const char* key) {
      return j.is_object() && j.contains(key) && j[key].is_number();
    };
    if (!number("step") || !j["step"].is_number_unsigned() || !number("loss") || !number("lr")) {
      break;
    }
    const auto step = j["step"].get<uint64_t>();
    const uint32_t last = kept.points.empty() ? 0 : kept.points.back().step;
    if (step <= last || step >= next) break;
    kept.points.push_back(
        {static_cast<uint32_t>(step), j["loss"].get<double>(), j["lr"].get<double>()});
    kept.bytes += line.size() + 1;
  }
  return kept;
}

}  // namespace engine::trainer
