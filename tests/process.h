// Child processes of tests: arguments and environment in, text, exit code and signals out, all
// under time limits.
#ifndef TESTS_PROCESS_H_
#define TESTS_PROCESS_H_

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace engine::tests {

struct ProcessOptions {
  std::vector<std::pair<std::string, std::string>> env = {};  // on top of this process's
  std::string input = {};                                     // given on standard input
  bool keep_input = false;  // standard input stays open after `input`, until CloseInput
  double limit_s = 240;     // of its life; after it, its process group is killed
};

struct Outcome {
  int code = -1;      // exit code; -1: ended by a signal
  int signal = 0;     // that ended it
  bool late = false;  // killed at the time limit
  double seconds = 0;
  std::string out, err;
};

// One child in a process group of its own, started in the folder of the sources. Its pipes are
// served while a method of this class waits, so it may fill them between two calls and wait itself.
class Process {
 public:
  // The first word is a program, found by PATH unless it has a slash.
  Process(std::vector<std::string> words, ProcessOptions options = {});
  ~Process();  // kills what still runs
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  const std::string& out() const { return outcome_.out; }
  const std::string& err() const { return outcome_.err; }
  void Signal(int number) const;
  void Give(const std::string& text) { input_ += text; }
  void CloseInput() { keep_input_ = false; }
  void CloseOutput();  // nobody reads standard output any longer

  // Serves until `done` is true; false when the process or the time ended before.
  bool Until(const std::function<bool()>& done, double seconds = 60);
  bool UntilOut(const std::string& text, double seconds = 60);
  bool UntilErr(const std::string& text, double seconds = 60);
  // Serves until it ends.
  Outcome Wait();

 private:
  using Clock = std::chrono::steady_clock;
  void Pump(int milliseconds);
  bool Ended();
  void Close(int* fd);

  pid_t pid_ = -1;
  bool reaped_ = false;
  int in_ = -1, out_ = -1, err_ = -1;
  std::string input_;
  bool keep_input_ = false;
  Clock::time_point begin_, limit_;
  Outcome outcome_;
};

// The built binary with these arguments, OpenMP's threads waiting without spinning, since tests run
// beside other work.
std::vector<std::string> EngineWords(const std::vector<std::string>& args);
ProcessOptions EngineOptions(ProcessOptions options = {});
Outcome RunEngine(const std::vector<std::string>& args, ProcessOptions options = {});

// What text lines there are, without their ends.
std::vector<std::string> Lines(const std::string& text);

}  // namespace engine::tests

#endif  // TESTS_PROCESS_H_
