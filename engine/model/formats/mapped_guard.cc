#include "engine/model/formats/mapped_guard.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <mutex>

namespace engine::model {
namespace {

// Entries are linked once and used again: whoever walks the list meets no freed one.
struct Entry {
  std::atomic<uintptr_t> begin{0};  // 0: free
  std::atomic<uintptr_t> end{0};
  std::string path;
  Entry* next = nullptr;
};

std::atomic<Entry*> g_entries{nullptr};
std::mutex& WriterMutex() {
  static auto* mutex = new std::mutex;  // mappings may be forgotten after static objects are gone
  return *mutex;
}

std::atomic<int> g_exit_code{1};
std::atomic<bool> g_told{false};
struct sigaction g_before = {};

// Text in a buffer of its own, as nothing that allocates may be called; what does not fit is lost.
class Line {
 public:
  Line& operator<<(const char* text) {
    for (; *text != '\0' && size_ < sizeof text_; ++text) text_[size_++] = *text;
    return *this;
  }
  Line& operator<<(uint64_t number) {
    char digits[24];
    char* at = digits + sizeof digits - 1;
    *at = '\0';
    do {
      *--at = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    return *this << at;
  }
  void Write() const {
    for (size_t sent = 0; sent < size_;) {
      const ssize_t n = write(STDERR_FILENO, text_ + sent, size_ - sent);
      if (n <= 0) return;
      sent += static_cast<size_t>(n);
    }
  }

 private:
  char text_[8192];
  size_t size_ = 0;
};

void OnBusError(int signal, siginfo_t* info, void*) {
  const bool fault = info->si_code > 0;  // of this thread, and not sent by somebody
  const auto at = reinterpret_cast<uintptr_t>(info->si_addr);
  for (const Entry* e = g_entries.load(std::memory_order_acquire); fault && e != nullptr;
       e = e->next) {
    const uintptr_t begin = e->begin.load(std::memory_order_acquire);
    const uintptr_t end = e->end.load(std::memory_order_relaxed);
    if (begin == 0 || at < begin || at >= end) continue;
    // All threads that compute with the file get here; one tells.
    while (g_told.exchange(true)) pause();
    Line line;
    line << "engine: error: '" << e->path.c_str() << "' was truncated while in use: it had "
         << uint64_t{end - begin} << " bytes, and byte " << uint64_t{at - begin}
         << " can no longer be read; replace model files by rename, not in place (if it has its "
            "length, its disk fails)\n";
    line.Write();
    _exit(g_exit_code.load());
  }
  sigaction(SIGBUS, &g_before, nullptr);
  if (!fault) raise(signal);  // a fault comes again by itself
}

}  // namespace

void WatchMapping(const void* begin, uint64_t size, const std::string& path) {
  const std::lock_guard lock(WriterMutex());
  Entry* entry = g_entries.load();
  while (entry != nullptr && entry->begin.load() != 0) entry = entry->next;
  if (entry == nullptr) {
    entry = new Entry;
    entry->next = g_entries.load();
    g_entries.store(entry, std::memory_order_release);
  }
  entry->path = path;
  entry->end.store(reinterpret_cast<uintptr_t>(begin) + size);
  entry->begin.store(reinterpret_cast<uintptr_t>(begin), std::memory_order_release);
}

void ForgetMapping(const void* begin) {
  const std::lock_guard lock(WriterMutex());
  for (Entry* e = g_entries.load(); e != nullptr; e = e->next) {
    if (e->begin.load() != reinterpret_cast<uintptr_t>(begin)) continue;
    e->begin.store(0);
    return;
  }
}

void ExitOnCutFile(int exit_code) {
  g_exit_code.store(exit_code);
  struct sigaction action = {};
  action.sa_sigaction = &OnBusError;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &g_before);
}

}  // namespace engine::model
