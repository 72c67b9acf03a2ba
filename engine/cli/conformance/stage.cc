#include "engine/cli/conformance/stage.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/abi/refusal.h"
#include "engine/testing/host.hpp"

namespace engine::conformance {
namespace {

using nlohmann::json;

constexpr int kChildThrew = 70;

std::string Dump(const json& j) {
  return j.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

[[noreturn]] void Child(int fd, const std::string& folder, const std::string& log,
                        const std::function<void(Reporter&)>& body) {
  const int in = open("/dev/null", O_RDONLY);
  const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (in >= 0) dup2(in, 0);
  if (out >= 0) {
    dup2(out, 1);
    dup2(out, 2);
  }
  signal(SIGPIPE, SIG_IGN);
  Reporter reporter(fd);
  if (chdir(folder.c_str()) != 0) _exit(kChildThrew);
  try {
    body(reporter);
  } catch (const std::exception& e) {
    reporter.At(std::string("an exception came out of the check: ") + e.what());
    _exit(kChildThrew);
  } catch (...) {
    _exit(kChildThrew);
  }
  fflush(nullptr);
  _exit(0);
}

std::vector<std::string> LastLines(const std::string& path) {
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) {
    lines.push_back(abi::Printable(line));
    if (lines.size() > 5) lines.erase(lines.begin());
  }
  return lines;
}

}  // namespace

void Reporter::Write(const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = write(fd_, text.data() + done, text.size() - done);
    if (n <= 0) return;
    done += static_cast<size_t>(n);
  }
}
void Reporter::At(const std::string& where) { Write(Dump({{"at", where}})); }
void Reporter::Tell(const Line& line) {
  Write(Dump({{"kind", line.kind},
              {"check", line.check},
              {"result", static_cast<int>(line.result)},
              {"text", line.text},
              {"details", line.details}}));
}
void Reporter::TellFindings(const std::string& kind, const std::string& check,
                            const std::string& text) {
  std::vector<std::string> findings = testing::TheFindings().Take();
  const bool good = findings.empty();
  Tell(kind, check, good ? Result::kOk : Result::kFailed, text, std::move(findings));
}

StageResult RunStage(const std::string& folder, std::chrono::milliseconds limit,
                     const std::function<void(Reporter&)>& body) {
  StageResult result;
  const std::string log = folder + ".log";
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    result.trouble = std::string("could not be tried: ") + strerror(errno);
    return result;
  }
  fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    setpgid(0, 0);
    close(ends[0]);
    Child(ends[1], folder, log, body);
  }
  close(ends[1]);
  if (pid < 0) {
    close(ends[0]);
    result.trouble = std::string("could not be tried: ") + strerror(errno);
    return result;
  }
  using Clock = std::chrono::steady_clock;
  const auto until = Clock::now() + limit;
  std::string text, at = "it was loaded";
  bool late = false;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
    late = left <= 0;
    if (late) break;
    pollfd p = {ends[0], POLLIN, 0};
    if (poll(&p, 1, static_cast<int>(std::min<int64_t>(left, 1000))) <= 0) continue;
    char buffer[65536];
    const ssize_t n = read(ends[0], buffer, sizeof buffer);
    if (n <= 0) break;
    text.append(buffer, static_cast<size_t>(n));
    size_t begin = 0;
    for (size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
      const json j = json::parse(text.substr(begin, end - begin), nullptr, false);
      if (!j.is_object()) continue;
      if (j.contains("at")) {
        at = j["at"].get<std::string>();
        continue;
      }
      result.lines.push_back({j.value("kind", ""), j.value("check", ""),
                              static_cast<Result>(j.value("result", 1)), j.value("text", ""),
                              j.value("details", std::vector<std::string>())});
    }
    text.erase(0, begin);
  }
  close(ends[0]);
  if (late) kill(-pid, SIGKILL);
  int status = 0;
  waitpid(pid, &status, 0);
  kill(-pid, SIGKILL);  // what it may have left behind
  if (late) {
    result.trouble = "did not end within " + std::to_string(limit.count()) + " ms, while " + at;
  } else if (WIFSIGNALED(status)) {
    const char* name = sigabbrev_np(WTERMSIG(status));
    result.trouble = std::string("crashed (SIG") + (name != nullptr ? name : "?") + ") while " + at;
  } else if (WEXITSTATUS(status) != 0) {
    result.trouble =
        "ended the process (exit code " + std::to_string(WEXITSTATUS(status)) + ") while " + at;
  }
  if (!result.trouble.empty()) result.printed = LastLines(log);
  unlink(log.c_str());
  return result;
}

}  // namespace engine::conformance
