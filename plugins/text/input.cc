// prompt and tokenize: text in, ids out.
#include <poll.h>
#include <unistd.h>

#include <iostream>

#include "engine/util.hpp"
#include "nodes.h"
#include "payloads.h"

namespace engine::text {
namespace {

constexpr size_t kMostPrompt = 64u << 20;

}  // namespace

Status Prompt::Open(Call&) {
  if (options.has_text && options.has_file) {
    return Error(ENGINE_INVALID_ARGUMENT, "prompt takes text or file, not both");
  }
  if (!options.has_file) return Status();
  file_.open(options.file);
  if (!file_) return Error(ENGINE_NOT_FOUND, "prompt file '", options.file, "' cannot be read");
  return Status();
}

Status Prompt::Give(Call& call, std::string text) {
  auto payload = std::make_unique<Text>();
  payload->owned = std::move(text);
  payload->text = Str(payload->owned);
  payload->arrived_ns = NowNs();
  return out.Emit(call, std::move(payload));
}

// A line of standard input; false at its end or when the run is cancelled.
bool Prompt::NextLine(Call& call, std::string* line) {
  for (;;) {
    const size_t end = pending_.find('\n');
    if (end != std::string::npos || (at_end_ && !pending_.empty())) {
      *line = pending_.substr(0, end);
      pending_.erase(0, end == std::string::npos ? end : end + 1);
      return true;
    }
    if (at_end_ || call.Cancelled() || pending_.size() > kMostPrompt) return false;
    // Waits in short turns, so that a cancel is seen while nobody types.
    pollfd wait{STDIN_FILENO, POLLIN, 0};
    if (poll(&wait, 1, 100) == 0) continue;
    char buffer[65536];
    const ssize_t got = read(STDIN_FILENO, buffer, sizeof buffer);
    if (got <= 0) {
      at_end_ = true;
    } else {
      pending_.append(buffer, static_cast<size_t>(got));
    }
  }
}

Status Prompt::Process(Call& call) {
  if (options.has_text && options.text != "-") {
    call.Finish();
    return Give(call, options.text);
  }
  if (options.text == "-") {
    std::string all, line;
    while (NextLine(call, &line)) {
      all += line;
      if (!at_end_ || !pending_.empty()) all += '\n';
    }
    call.Finish();
    return Give(call, std::move(all));
  }
  std::string line;
  do {
    const bool more = options.has_file ? static_cast<bool>(std::getline(file_, line))
                                       : NextLine(call, &line);
    if (!more) {
      call.Finish();
      return Status();
    }
    if (!line.empty() && line.back() == '\r') line.pop_back();
  } while (line.empty());
  return Give(call, std::move(line));
}

Status Tokenize::Process(Call& call) {
  const engine_text* text = in.Get(call);
  engine_model* m = model.Get(call);
  const engine_model_host* api = ThisHost().model;
  std::string prompt(View(text->text));
  uint32_t flags = 0;
  if (options.special) flags |= ENGINE_ENCODE_SPECIAL;
  if (options.chat) {
    std::string formatted;
    ENGINE_RETURN_IF_ERROR(Status(api->chat(m, text->text, &AppendTo, &formatted)));
    prompt = std::move(formatted);
    flags |= ENGINE_ENCODE_SPECIAL;
  } else {
    flags |= ENGINE_ENCODE_BOS;
  }
  auto payload = std::make_unique<Tokens>();
  payload->owned.resize(prompt.size() + 16);
  uint64_t count = 0;
  ENGINE_RETURN_IF_ERROR(Status(api->encode(m, Str(prompt), flags, payload->owned.data(),
                                            payload->owned.size(), &count)));
  if (count > payload->owned.size()) {
    payload->owned.resize(count);
    ENGINE_RETURN_IF_ERROR(
        Status(api->encode(m, Str(prompt), flags, payload->owned.data(), count, &count)));
  }
  payload->owned.resize(count);
  engine_model_info info = {};
  info.struct_size = sizeof info;
  api->info(m, &info);
  if (count == 0) return Error(ENGINE_INVALID_ARGUMENT, "the prompt is empty");
  if (count >= static_cast<uint64_t>(info.context)) {
    return Error(ENGINE_OUT_OF_RANGE, "the prompt has ", count, " tokens; the context of the model "
                 "holds ", info.context, ", the answer included");
  }
  payload->ids = payload->owned.data();
  payload->count = count;
  payload->arrived_ns = text->arrived_ns;
  return out.Emit(call, std::move(payload));
}

}  // namespace engine::text
