#include "engine/abi/scanner.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "engine/abi/load.h"

extern char** environ;

namespace engine::abi {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr size_t kFilesOfChild = 256;
constexpr size_t kMostLine = 1 << 20;  // of a report
constexpr size_t kMostOutput = 16 * 1024;
constexpr size_t kOutputLines = 3;
constexpr int kReportFd = 3;

struct Pipe {
  int read = -1, write = -1;
  ~Pipe() {
    CloseRead();
    CloseWrite();
  }
  bool Open() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return false;
    read = ends[0];
    write = ends[1];
    return fcntl(read, F_SETFL, O_NONBLOCK) == 0;
  }
  void CloseRead() {
    if (read >= 0) close(read);
    read = -1;
  }
  void CloseWrite() {
    if (write >= 0) close(write);
    write = -1;
  }
};

std::string SignalName(int number) {
  const char* name = sigabbrev_np(number);
  return name == nullptr ? "signal " + std::to_string(number) : std::string("SIG") + name;
}

// One child with the files from `first` on.
class Child {
 public:
  Child(const ScanOptions& options, const std::vector<std::string>& files, size_t first,
        std::vector<Verdict>* verdicts)
      : options_(options),
        files_(files),
        first_(first),
        end_(std::min(files.size(), first + kFilesOfChild)),
        verdicts_(verdicts) {}
  ~Child() { End(); }

  // Serves it to its end; false when it could not be started or never became ready.
  bool Run(std::string* trouble) {
    if (!Start(trouble)) return false;
    Clock::time_point limit = Clock::now() + options_.start_limit;
    bool late = false;
    while (!Exited()) {
      const size_t before = events_;
      Serve();
      if (events_ != before) {
        limit = Clock::now() + options_.limit;
      } else if (Clock::now() >= limit) {
        late = true;
        break;
      }
    }
    Serve();  // what it said last
    const int status = End();
    if (!ready_) {
      *trouble = late ? "the scanner's process was not ready in time"
                      : "the scanner's process ended at once: " + Ending(status) + LastWords();
      return false;
    }
    if (current_ < end_) Blame(late, status);
    return true;
  }

  // The file to go on with.
  size_t next() const { return next_; }

 private:
  bool Start(std::string* trouble) {
    if (!report_.Open() || !output_.Open()) {
      *trouble = std::string("no pipe to the scanner's process: ") + std::strerror(errno);
      return false;
    }
    std::vector<std::string> words = options_.command;
    words.push_back(std::to_string(kReportFd));
    words.insert(words.end(), files_.begin() + static_cast<std::ptrdiff_t>(first_),
                 files_.begin() + static_cast<std::ptrdiff_t>(end_));
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);

    // What it prints is read beside its report: a plugin may print, and its last words tell why it
    // ended. The report's descriptor is moved last, so that none of the others can be in its way.
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    const int report = fcntl(report_.write, F_DUPFD_CLOEXEC, 10);
    const int output = fcntl(output_.write, F_DUPFD_CLOEXEC, 10);
    posix_spawn_file_actions_adddup2(&actions, output, 1);
    posix_spawn_file_actions_adddup2(&actions, output, 2);
    posix_spawn_file_actions_adddup2(&actions, report, kReportFd);
    posix_spawn_file_actions_addclosefrom_np(&actions, kReportFd + 1);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(
        &attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    const int error = posix_spawn(&pid_, argv[0], &actions, &attributes, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    close(report);
    close(output);
    report_.CloseWrite();
    output_.CloseWrite();
    if (error == 0) return true;
    pid_ = -1;
    *trouble =
        "the scanner's process '" + words[0] + "' cannot be started: " + std::strerror(error);
    return false;
  }

  // Whether it has ended; it is not reaped, so that its number stays its own.
  bool Exited() const {
    siginfo_t info = {};
    return waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
           info.si_pid == pid_;
  }

  // Kills what is left of it and of what it started; answers its status.
  int End() {
    if (pid_ <= 0) return 0;
    kill(-pid_, SIGKILL);
    kill(pid_, SIGKILL);
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    return status;
  }

  void Serve() {
    pollfd fds[2] = {{report_.read, POLLIN, 0}, {output_.read, POLLIN, 0}};
    // Short: its end wakes nobody when something that it started keeps the pipes open.
    const bool closed = report_.read < 0;
    if (poll(fds, 2, closed ? 2 : 20) < 0) return;
    char bytes[4096];
    for (int round = 0; report_.read >= 0 && round < 64; ++round) {
      const ssize_t n = read(report_.read, bytes, sizeof bytes);
      if (n < 0) break;
      if (n == 0) {
        report_.CloseRead();
        break;
      }
      lines_.append(bytes, static_cast<size_t>(n));
      TakeLines();
    }
    for (int round = 0; output_.read >= 0 && round < 64; ++round) {
      const ssize_t n = read(output_.read, bytes, sizeof bytes);
      if (n < 0) break;
      if (n == 0) {
        output_.CloseRead();
        break;
      }
      text_.append(bytes, static_cast<size_t>(n));
      if (text_.size() > kMostOutput) text_.erase(0, text_.size() - kMostOutput);
    }
  }

  void TakeLines() {
    for (size_t end; (end = lines_.find('\n')) != std::string::npos;) {
      const json event = json::parse(lines_.substr(0, end), nullptr, /*allow_exceptions=*/false);
      lines_.erase(0, end + 1);
      Take(event);
    }
    if (lines_.size() > kMostLine) lines_.clear();  // not the child's
  }

  // A plugin could write into the report too: what does not fit is not taken. A file is done when
  // there is a verdict on it.
  void Take(const json& event) {
    if (!event.is_object()) return;
    if (event.contains("ready")) {
      ready_ = true;
      ++events_;
      return;
    }
    const auto file = event.find("file");
    if (!ready_ || file == event.end() || !file->is_number_unsigned() ||
        file->get<uint64_t>() != current_ - first_ || current_ >= end_) {
      return;
    }
    ++events_;
    Verdict& verdict = (*verdicts_)[current_];
    if (const auto step = event.find("step"); step != event.end() && step->is_number_integer()) {
      step_ = static_cast<Step>(step->get<int>());
      if (step_ == Step::kLoad) text_.clear();
    } else if (event.contains("harmless")) {
      verdict.kind = Verdict::Kind::kHarmless;
    } else if (const auto refused = event.find("refused"); refused != event.end()) {
      verdict.refusal.path = files_[current_];
      if (RefusalFromJson(*refused, &verdict.refusal)) verdict.kind = Verdict::Kind::kRefused;
    } else if (const auto kinds = event.find("kinds"); kinds != event.end() && kinds->is_array() &&
                                                       verdict.kind == Verdict::Kind::kRefused) {
      for (const json& kind : *kinds) {
        if (kind.is_string()) verdict.refusal.kinds.push_back(kind.get<std::string>());
      }
    } else if (event.contains("done") && verdict.kind != Verdict::Kind::kUnknown) {
      next_ = ++current_;
      step_ = Step::kLoad;
    }
  }

  static std::string Ending(int status) {
    if (WIFSIGNALED(status)) return "crashed with " + SignalName(WTERMSIG(status));
    return "called exit(" + std::to_string(WEXITSTATUS(status)) + ")";
  }

  std::vector<std::string> LastLines() const {
    std::vector<std::string> lines;
    for (size_t begin = 0; begin < text_.size();) {
      const size_t end = std::min(text_.find('\n', begin), text_.size());
      std::string line = Printable(std::string_view(text_).substr(begin, end - begin));
      if (line.find_first_not_of(' ') != std::string::npos) lines.push_back(std::move(line));
      begin = end + 1;
    }
    if (lines.size() > kOutputLines) lines.erase(lines.begin(), lines.end() - kOutputLines);
    return lines;
  }
  std::string LastWords() const {
    const std::vector<std::string> lines = LastLines();
    return lines.empty() ? "" : ": " + lines.back();
  }

  // The child ended at the file `current_`.
  void Blame(bool late, int status) {
    Verdict& verdict = (*verdicts_)[current_];
    next_ = current_ + 1;
    if (verdict.kind == Verdict::Kind::kRefused) return;  // refused already; it only was asked more
    // A crash may come from a thread that an earlier file left behind: this one gets a child of
    // its own before it is blamed.
    if (!late && current_ != first_) {
      verdict = Verdict();
      next_ = current_;
      return;
    }
    verdict.kind = Verdict::Kind::kRefused;
    verdict.refusal = Refusal();
    Refusal& refusal = verdict.refusal;
    refusal.path = files_[current_];
    refusal.output = LastLines();
    const std::string place = StepText(step_);
    if (late) {
      const auto ms = options_.limit.count();
      refusal.reason =
          "it hung: no answer within " +
          (ms % 1000 == 0 ? std::to_string(ms / 1000) + " s" : std::to_string(ms) + " ms") + " " +
          place;
      refusal.fix = "tell its author, or set ENGINE_SCAN_TIMEOUT_MS higher if it needs longer";
    } else {
      refusal.reason = "it " + Ending(status) + " " + place;
      refusal.fix = WIFSIGNALED(status)
                        ? "tell its author; it is tried again when the file changes"
                        : "tell its author that a plugin must not end its host; it is tried again "
                          "when the file changes";
    }
  }

  const ScanOptions& options_;
  const std::vector<std::string>& files_;
  const size_t first_, end_;
  std::vector<Verdict>* verdicts_;
  Pipe report_, output_;
  pid_t pid_ = -1;
  bool ready_ = false;
  size_t events_ = 0;
  size_t current_ = first_, next_ = first_;
  Step step_ = Step::kLoad;
  std::string lines_, text_;
};

}  // namespace

std::chrono::milliseconds ScanLimit() {
  constexpr int kDefault = 10000, kMost = 3600000;
  int value = 0;
  if (const char* text = std::getenv("ENGINE_SCAN_TIMEOUT_MS")) {
    const char* end = text + std::strlen(text);
    const auto read = std::from_chars(text, end, value);
    if (read.ec != std::errc() || read.ptr != end) value = 0;
  }
  return std::chrono::milliseconds(value < 1 || value > kMost ? kDefault : value);
}

std::vector<Verdict> Scan(const ScanOptions& options, const std::vector<std::string>& files,
                          std::string* trouble) {
  std::vector<Verdict> verdicts(files.size());
  for (size_t first = 0; first < files.size();) {
    Child child(options, files, first, &verdicts);
    if (!child.Run(trouble)) break;
    first = child.next();
  }
  return verdicts;
}

}  // namespace engine::abi
