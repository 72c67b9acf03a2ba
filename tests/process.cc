#include "tests/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <stdexcept>

namespace engine::tests {
namespace {

void MakePipe(int* ends) {
  if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2 failed");
}

}  // namespace

Process::Process(std::vector<std::string> words, ProcessOptions options)
    : input_(std::move(options.input)), keep_input_(options.keep_input), begin_(Clock::now()) {
  limit_ = begin_ + std::chrono::milliseconds(static_cast<int64_t>(options.limit_s * 1000));
  signal(SIGPIPE, SIG_IGN);
  int in[2], out[2], err[2];
  MakePipe(in);
  MakePipe(out);
  MakePipe(err);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, in[0], 0);
  posix_spawn_file_actions_adddup2(&files, out[1], 1);
  posix_spawn_file_actions_adddup2(&files, err[1], 2);
  posix_spawn_file_actions_addchdir_np(&files, ENGINE_SOURCE_DIR);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t defaults;
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);

  std::vector<std::string> environment;
  for (char** e = environ; *e != nullptr; ++e) {
    const std::string entry = *e;
    bool replaced = false;
    for (const auto& [name, value] : options.env) replaced |= entry.rfind(name + "=", 0) == 0;
    if (!replaced) environment.push_back(entry);
  }
  for (const auto& [name, value] : options.env) environment.push_back(name + "=" + value);
  std::vector<char*> argv, envp;
  for (std::string& word : words) argv.push_back(word.data());
  for (std::string& entry : environment) envp.push_back(entry.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  const int failed = posix_spawnp(&pid_, argv[0], &files, &attributes, argv.data(), envp.data());
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  close(in[0]);
  close(out[1]);
  close(err[1]);
  in_ = in[1];
  out_ = out[0];
  err_ = err[0];
  if (failed != 0) {
    pid_ = -1;
    reaped_ = true;
    throw std::runtime_error("cannot start " + words[0] + ": " + std::strerror(failed));
  }
  for (int fd : {in_, out_, err_}) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

Process::~Process() {
  if (!reaped_) {
    kill(-pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  for (int* fd : {&in_, &out_, &err_}) Close(fd);
}

void Process::Close(int* fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

void Process::CloseOutput() { Close(&out_); }

void Process::Signal(int number) const {
  if (!reaped_) kill(pid_, number);
}

void Process::Pump(int milliseconds) {
  if (in_ >= 0 && input_.empty() && !keep_input_) Close(&in_);
  pollfd waits[3] = {{out_, POLLIN, 0}, {err_, POLLIN, 0}, {input_.empty() ? -1 : in_, POLLOUT, 0}};
  if (poll(waits, 3, milliseconds) <= 0) return;
  const auto read_some = [&](const pollfd& wait, int* fd, std::string* text) {
    if (*fd < 0 || wait.revents == 0) return;
    char buffer[65536];
    const ssize_t got = read(*fd, buffer, sizeof buffer);
    if (got > 0) text->append(buffer, static_cast<size_t>(got));
    if (got == 0) Close(fd);
  };
  read_some(waits[0], &out_, &outcome_.out);
  read_some(waits[1], &err_, &outcome_.err);
  if (in_ < 0 || waits[2].revents == 0) return;
  const ssize_t put = write(in_, input_.data(), input_.size());
  if (put > 0) input_.erase(0, static_cast<size_t>(put));
  if (put < 0 && errno != EAGAIN) {  // it does not read on
    Close(&in_);
    input_.clear();
  }
}

// Reaps it once. At the time limit, kills it.
bool Process::Ended() {
  if (reaped_) return true;
  if (Clock::now() > limit_ && !outcome_.late) {
    outcome_.late = true;
    kill(-pid_, SIGKILL);
  }
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return false;
  reaped_ = true;
  outcome_.seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
  if (WIFEXITED(status)) outcome_.code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome_.signal = WTERMSIG(status);
  // What it wrote last is still in the pipes.
  for (size_t before = SIZE_MAX; before != outcome_.out.size() + outcome_.err.size();) {
    before = outcome_.out.size() + outcome_.err.size();
    Pump(0);
  }
  return true;
}

bool Process::Until(const std::function<bool()>& done, double seconds) {
  const auto end = Clock::now() + std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
  while (!done()) {
    if (Ended()) return done();
    if (Clock::now() > end) return false;
    Pump(5);
  }
  return true;
}

bool Process::UntilOut(const std::string& text, double seconds) {
  return Until([&] { return out().find(text) != std::string::npos; }, seconds);
}
bool Process::UntilErr(const std::string& text, double seconds) {
  return Until([&] { return err().find(text) != std::string::npos; }, seconds);
}

Outcome Process::Wait() {
  while (!Ended()) Pump(5);
  return outcome_;
}

std::vector<std::string> EngineWords(const std::vector<std::string>& args) {
  std::vector<std::string> words = {ENGINE_BINARY_DIR "/bin/engine"};
  words.insert(words.end(), args.begin(), args.end());
  return words;
}

ProcessOptions EngineOptions(ProcessOptions options) {
  options.env.insert(options.env.begin(), {"GOMP_SPINCOUNT", "1000"});
  return options;
}

Outcome RunEngine(const std::vector<std::string>& args, ProcessOptions options) {
  return Process(EngineWords(args), EngineOptions(std::move(options))).Wait();
}

std::vector<std::string> Lines(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

}  // namespace engine::tests
