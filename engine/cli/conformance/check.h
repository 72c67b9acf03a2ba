// engine plugin check: whether a plugin keeps the contract of the SDK. Each check runs in a child
// process of its own, so that a crash, an exit or a hang is a finding with its place.
#ifndef ENGINE_CLI_CONFORMANCE_CHECK_H_
#define ENGINE_CLI_CONFORMANCE_CHECK_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace engine::conformance {

struct CheckOptions {
  std::string plugin;             // the file
  std::string folder;             // empty; for what is tried to write to
  std::vector<std::string> scan;  // as abi::ScanOptions.command
  uint64_t seed = 1;
  int messages = 1000;                     // of random options, for each kind
  std::chrono::milliseconds limit{60000};  // of one check
};

enum class Result { kOk, kFailed, kSkipped };

struct Line {
  std::string kind;   // empty: of the plugin as a whole
  std::string check;  // "options", "cancel", ...
  Result result = Result::kOk;
  std::string text;                  // what was done, or why it failed or was skipped
  std::vector<std::string> details;  // one finding each; then what the plugin printed
};

struct Report {
  std::string plugin, id, version;
  std::vector<Line> lines;
  int ok = 0, failed = 0, skipped = 0;
};

// REQUIRES: this process has registered no services and loaded no plugin, and has one thread.
Report Check(const CheckOptions& options);

std::string ReportText(const Report& report);
std::string ReportJson(const Report& report);

}  // namespace engine::conformance

#endif  // ENGINE_CLI_CONFORMANCE_CHECK_H_
