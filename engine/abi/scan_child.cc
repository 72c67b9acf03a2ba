#include "engine/abi/scan_child.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <nlohmann/json.hpp>

#include "engine/abi/judge.h"
#include "engine/abi/verdict.h"

namespace engine::abi {
namespace {

using nlohmann::json;

class Reporter {
 public:
  explicit Reporter(int fd) : fd_(fd) {}

  void Tell(const json& event) const {
    const std::string line = JsonLine(event);
    for (size_t sent = 0; sent < line.size();) {
      const ssize_t n = write(fd_, line.data() + sent, line.size() - sent);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) _exit(1);  // nobody listens any longer
      sent += static_cast<size_t>(n);
    }
  }
  void Tell(size_t file, const char* name, json value) const {
    Tell(json{{"file", file}, {name, std::move(value)}});
  }

 private:
  int fd_;
};

void ScanFile(const std::string& path, size_t file, const Reporter& reporter, SchemaCheck check) {
  const auto watch = [&](Step step) { reporter.Tell(file, "step", static_cast<int>(step)); };
  ElfFacts facts;
  Refusal refusal;
  Candidate candidate;
  Status status = JudgeFile(path, &facts, &refusal);
  if (status.ok()) status = LoadCandidate(path, facts, watch, &candidate, &refusal);
  if (status.ok() && check) {
    watch(Step::kSchema);
    status = check(candidate.plugin, candidate.kinds);
    if (!status.ok()) status = RefuseSchema(&refusal, status);
  }
  if (candidate.loaded != nullptr) {
    watch(Step::kClose);
    Refusal of_close = refusal;
    const Status closed = CloseCandidate(&candidate, &of_close);
    if (status.ok() && !closed.ok()) {
      status = closed;
      refusal = of_close;
    }
  }
  // What its open() answers may depend on what the host finds later: it does no harm, and the host
  // asks again.
  if (status.ok() || status.code() == ENGINE_UNAVAILABLE) {
    reporter.Tell(file, "harmless", true);
  } else {
    reporter.Tell(file, "refused", RefusalToJson(refusal));
    // Built for another host: may crash, and nothing is lost then but the names of its kinds.
    if (refusal.kinds.empty() && !refusal.differs.empty() && candidate.manifest != nullptr &&
        SameLayout(candidate.manifest)) {
      watch(Step::kLearn);
      reporter.Tell(file, "kinds", LearnKinds(candidate.manifest));
    }
  }
}

}  // namespace

void RunScanChild(int fd, const std::vector<std::string>& files,
                  const std::function<SchemaCheck()>& new_check) {
  // Ends with its parent, and leaves no core file where a crash is what one looks for.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  // The signal itself tells what happened; a handler, a sanitizer's for instance, would exit.
  for (const int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP}) {
    signal(number, SIG_DFL);
  }
  const Reporter reporter(fd);
  reporter.Tell(json{{"ready", true}});
  for (size_t i = 0; i < files.size(); ++i) {
    ScanFile(files[i], i, reporter, new_check ? new_check() : SchemaCheck());
    reporter.Tell(i, "done", true);
  }
  _exit(0);
}

}  // namespace engine::abi
