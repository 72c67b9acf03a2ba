// A child process that tries something and tells what it finds, line by line, so that its crash,
// its exit or its hanging is told with the place and harms nobody.
#ifndef ENGINE_CLI_CONFORMANCE_STAGE_H_
#define ENGINE_CLI_CONFORMANCE_STAGE_H_

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "engine/cli/conformance/check.h"

namespace engine::conformance {

// The child's voice.
class Reporter {
 public:
  explicit Reporter(int fd) : fd_(fd) {}
  // What is done now: the place of a crash.
  void At(const std::string& where);
  void Tell(const Line& line);
  void Tell(const std::string& kind, const std::string& check, Result result,
            const std::string& text, std::vector<std::string> details = {}) {
    Tell(Line{kind, check, result, text, std::move(details)});
  }
  // FAILED with what the test host found since the last time, else ok.
  void TellFindings(const std::string& kind, const std::string& check, const std::string& text);

 private:
  void Write(const std::string& json);
  int fd_;
};

struct StageResult {
  std::vector<Line> lines;
  std::string trouble;  // how the child ended, unless well: "crashed (SIGSEGV) while ..."
  std::vector<std::string> printed;  // with trouble: the last lines that it wrote
};

// Forks; the child runs `body` in `folder`, with nothing on standard input, and ends without
// running what the plugin left behind for an exit.
StageResult RunStage(const std::string& folder, std::chrono::milliseconds limit,
                     const std::function<void(Reporter&)>& body);

}  // namespace engine::conformance

#endif  // ENGINE_CLI_CONFORMANCE_STAGE_H_
