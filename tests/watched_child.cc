#include "tests/watched_child.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <new>
#include <thread>

namespace engine::tests {
namespace {

uint64_t ResidentBytes() {
  uint64_t size = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> size >> resident;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

[[noreturn]] void RunChild(ChildBody* body, uint64_t begin, uint64_t count, ChildNotes* notes) {
  // No core file where a crash is what one looks for.
  const rlimit none = {0, 0};
  setrlimit(RLIMIT_CORE, &none);
  int exit_code = 0;
  try {
    body->Prepare();
    notes->rss_begin = ResidentBytes();
    for (uint64_t i = begin; i < count && notes->failure[0] == '\0'; ++i) {
      notes->at = i;
      body->Case(i, notes);
    }
    rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    notes->rss_peak = static_cast<uint64_t>(usage.ru_maxrss) * 1024;
  } catch (const std::exception& e) {
    std::strncpy(notes->failure, e.what(), sizeof notes->failure - 1);
    exit_code = 1;
  }
  _exit(exit_code);
}

}  // namespace

ChildNotes RunWatched(ChildBody* body, uint64_t count, int seconds) {
  using Clock = std::chrono::steady_clock;
  auto* notes = static_cast<ChildNotes*>(
      mmap(nullptr, sizeof(ChildNotes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (notes == MAP_FAILED) throw std::bad_alloc();
  uint64_t begin = 0;
  for (int bad = 0; begin < count && bad < 5; ++bad) {
    const pid_t pid = fork();
    if (pid == 0) RunChild(body, begin, count, notes);
    int status = 0;
    uint64_t last = notes->at;
    Clock::time_point since = Clock::now();
    // Loading comes before the first case and may take long on a busy machine.
    std::chrono::seconds limit(seconds + 120);
    bool hung = false;
    while (waitpid(pid, &status, WNOHANG) == 0) {
      if (notes->at != last) {
        last = notes->at;
        since = Clock::now();
        limit = std::chrono::seconds(seconds);
      } else if (Clock::now() - since > limit) {
        hung = true;
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        break;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && notes->failure[0] == '\0') break;
    const uint64_t at = notes->at;
    ADD_FAILURE() << "case " << at << " "
                  << (hung                        ? "hung"
                      : notes->failure[0] != '\0' ? notes->failure
                      : WIFSIGNALED(status)       ? strsignal(WTERMSIG(status))
                                                  : "ended the process")
                  << ": " << body->Name(at);
    notes->failure[0] = '\0';
    begin = at + 1;
  }
  const ChildNotes out = *notes;
  munmap(notes, sizeof *notes);
  return out;
}

double TestScale() {
  const char* text = std::getenv("ENGINE_TEST_SCALE");
  const double scale = text == nullptr ? 1 : std::atof(text);
  return scale > 0 ? std::min(scale, 1e6) : 1;
}

}  // namespace engine::tests
