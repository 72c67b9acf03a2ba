// jsonl_sink: answers in the order of their requests, in a file that may be gone on with.
// Invariant: the file grows by whole lines, each written at once and in order.
#include <unistd.h>

#include "engine/util.hpp"
#include "jsonl.h"
#include "nlohmann/json.hpp"

namespace engine::text {
namespace {

constexpr uint64_t kTellEveryNs = 5'000'000'000;

// Lines of the file that hold something.
uint64_t CountRequests(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  uint64_t count = 0;
  bool something = false;
  std::vector<char> buffer(1 << 20);
  do {
    in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    for (std::streamsize i = 0; i < in.gcount(); ++i) {
      const char c = buffer[static_cast<size_t>(i)];
      if (c == '\n') {
        count += something;
        something = false;
      } else {
        something |= c != '\r' && c != ' ';
      }
    }
  } while (in);
  return count + something;
}

}  // namespace

Status JsonlSink::Open(Call&) {
  began_ns_ = told_ns_ = NowNs();
  const bool counted = options.has_requests && options.requests != kStandardStream;
  if (counted) total_ = CountRequests(options.requests);
  if (options.path == kStandardStream) {
    file_ = stdout;
    return Status();
  }
  Answered answered;
  ENGINE_RETURN_IF_ERROR(CountAnswered(options.path, &answered));
  next_ = answered.lines;
  file_ = std::fopen(options.path.c_str(), "ab");
  // A line that the last run could not finish is written again.
  if (file_ == nullptr || ftruncate(fileno(file_), static_cast<off_t>(answered.bytes)) != 0) {
    return Error(ENGINE_INVALID_ARGUMENT, "file '", options.path, "' cannot be written");
  }
  return Status();
}

void JsonlSink::Tell(bool last) {
  const uint64_t now = NowNs();
  if (!options.progress || (!last && now - told_ns_ < kTellEveryNs)) return;
  told_ns_ = now;
  const double seconds = static_cast<double>(now - began_ns_) * 1e-9;
  const double rate = seconds > 0 ? static_cast<double>(tokens_) / seconds : 0;
  if (total_ != 0) {
    std::fprintf(stderr, "%llu/%llu, %.1f tokens/s\n", static_cast<unsigned long long>(next_),
                 static_cast<unsigned long long>(total_), rate);
  } else {
    std::fprintf(stderr, "%llu, %.1f tokens/s\n", static_cast<unsigned long long>(next_), rate);
  }
}

Status JsonlSink::Process(Call& call) {
  const bool is_bad = bad.Get(call) != nullptr;
  const engine_event& event = is_bad ? *bad.Get(call) : *in.Get(call);
  const engine_token& token = *event.token;
  if (token.request < next_) return Status();  // answered by an earlier run
  Line& line = lines_[token.request];
  Answer& part = line.parts[token.choice];
  part.Add(event);
  if (event.token->id >= 0) ++tokens_;
  if (event.finish == ENGINE_FINISH_NONE) return Status();
  line.choices = std::max(1u, token.choices);
  line.done[token.choice] = ToJson(part, event, options.figures);
  line.parts.erase(token.choice);
  // Several answers become one line: a list of them under "answers".
  line.complete = line.done.size() >= line.choices;
  const Status written = Flush();
  if (!written.ok()) {
    call.FailRun(written);
    return written;
  }
  Tell(false);
  if (event.finish != ENGINE_FINISH_ERROR) return Status();
  return Error(static_cast<engine_code>(token.error_code), "request ", token.request, ": ",
               View(token.error));
}

Status JsonlSink::Flush() {
  for (auto it = lines_.begin(); it != lines_.end() && it->first == next_ && it->second.complete;
       it = lines_.erase(it), ++next_) {
    nlohmann::ordered_json j;
    j["index"] = it->first;
    auto& done = it->second.done;
    if (done.size() == 1) {
      j.update(done.begin()->second);
    } else {
      // The name stands once, in front of all answers.
      if (done.begin()->second.contains("id")) j["id"] = done.begin()->second["id"];
      for (auto& [choice, answer] : done) {
        answer.erase("id");
        j["answers"].push_back(std::move(answer));
      }
    }
    const std::string text =
        j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    if (std::fwrite(text.data(), 1, text.size(), file_) != text.size() || std::fflush(file_) != 0) {
      return Error(ENGINE_UNAVAILABLE, "file '", options.path,
                   "' cannot be written: is the disk "
                   "full?");
    }
  }
  return Status();
}

Status JsonlSink::Close(Call&) {
  if (file_ == nullptr) return Status();
  Tell(true);
  if (file_ == stdout) {
    file_ = nullptr;
    if (std::fflush(stdout) == 0) return Status();
    return Error(ENGINE_UNAVAILABLE, "standard output cannot be written");
  }
  if (std::fclose(std::exchange(file_, nullptr)) == 0) return Status();
  return Error(ENGINE_UNAVAILABLE, "file '", options.path, "' could not be written whole");
}

}  // namespace engine::text
