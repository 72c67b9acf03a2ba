// prompt and tokenize: text in, ids out.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "engine/transform.hpp"
#include "engine/util.hpp"
#include "nodes.h"
#include "payloads.h"

namespace engine::text {
namespace {

constexpr size_t kMostPrompt = 64u << 20;

}  // namespace

Status Prompt::Open(Call& call) {
  if (options.has_text && options.has_file) {
    return Error(ENGINE_INVALID_ARGUMENT, "prompt takes text or file, not both");
  }
  // Else whoever makes the first step finds it out, with the same words.
  if (const engine_model* m = model.Get(call); m != nullptr && options.has_adapter) {
    uint32_t number = 0;
    ENGINE_RETURN_IF_ERROR(
        Status(ThisHost().model->adapter_find(m, Str(options.adapter), &number)));
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
  if (options.has_adapter) {
    payload->owned_request.adapter = options.adapter;
    payload->request = payload->owned_request.Finish(/*with_sampling=*/false);
  }
  return out.Emit(call, std::move(payload));
}

// Waits a short turn for standard input; `came` says whether something did, its end included.
Status Prompt::Read(bool* came) {
  *came = false;
  pollfd wait{STDIN_FILENO, POLLIN, 0};
  if (poll(&wait, 1, 100) <= 0) return Status();  // nothing yet, or a signal
  char buffer[65536];
  const ssize_t got = read(STDIN_FILENO, buffer, sizeof buffer);
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return Status();
  *came = true;
  if (got <= 0) {
    at_end_ = true;
  } else {
    pending_.append(buffer, static_cast<size_t>(got));
  }
  if (pending_.size() <= kMostPrompt) return Status();
  return Error(ENGINE_OUT_OF_RANGE, "a prompt on standard input has more than ", kMostPrompt,
               " bytes");
}

// Takes a line of what was read; false when none is whole and the input goes on.
bool Prompt::TakeLine(std::string* line) {
  const size_t end = pending_.find('\n', searched_);
  searched_ = pending_.size();
  if (end == std::string::npos && (!at_end_ || pending_.empty())) return false;
  *line = pending_.substr(0, end);
  pending_.erase(0, end == std::string::npos ? end : end + 1);
  searched_ = 0;
  return true;
}

Status Prompt::Process(Call& call) {
  if (options.has_text && options.text != "-") {
    call.Finish();
    return Give(call, options.text);
  }
  const bool whole = options.text == "-";
  for (std::string line;;) {
    const bool took =
        options.has_file ? static_cast<bool>(std::getline(file_, line)) : !whole && TakeLine(&line);
    if (took) {
      if (!line.empty() && line.back() == '\r') line.pop_back();
      if (line.empty()) continue;
      return Give(call, std::move(line));
    }
    if (options.has_file || at_end_) {
      call.Finish();
      return whole ? Give(call, std::move(pending_)) : Status();
    }
    bool came = false;
    Status status = Read(&came);
    if (!status.ok()) {
      call.Finish();
      return status;
    }
    // A source that gave nothing is called again, but not in a drain: so both a drain and a cancel
    // are seen while nobody types.
    if (!came) return Status();
  }
}

// Ids of a prompt; with `continues`, as it goes on after an answer of its session.
Status Tokenize::Encode(const engine_model* m, const engine_text& text, bool continues,
                        std::vector<int32_t>* ids) {
  const engine_model_host* api = ThisHost().model;
  std::string prompt;
  uint32_t flags = ENGINE_ENCODE_SPECIAL;
  uint32_t form = text.form;
  if (form == ENGINE_TEXT_AS_NODE) {
    form = options.chat ? ENGINE_TEXT_TURN : ENGINE_TEXT_PLAIN;
    if (!options.chat && !options.special) flags = 0;
  }
  switch (form) {
    case ENGINE_TEXT_IDS: {
      engine_model_info info = Sized<engine_model_info>();
      api->info(m, &info);
      ids->assign(text.ids, text.ids + text.id_count);
      for (const int32_t id : *ids) {
        if (id >= 0 && id < info.vocab) continue;
        return Error(ENGINE_OUT_OF_RANGE, "token id ", id,
                     " is none of the model's, which are 0 to ", info.vocab - 1);
      }
      return Status();
    }
    case ENGINE_TEXT_MESSAGES:
      ENGINE_RETURN_IF_ERROR(Status(
          api->chat_render(m, text.text, text.tools, ENGINE_CHAT_GENERATE, &AppendTo, &prompt)));
      break;
    case ENGINE_TEXT_TURN:
      ENGINE_RETURN_IF_ERROR(Status(
          api->chat(m, text.text, continues ? ENGINE_CHAT_CONTINUE : 0, &AppendTo, &prompt)));
      break;
    default:
      prompt = std::string(View(text.text));
      if (!continues) flags |= ENGINE_ENCODE_BOS;
  }
  ENGINE_RETURN_IF_ERROR(Fits(m, prompt.size()));
  return engine::Model(m).Encode(prompt, flags, ids);
}

// Encoding takes time by the length of a text: one that cannot fit, whatever its tokens, is refused
// before that.
Status Tokenize::Fits(const engine_model* m, size_t bytes) {
  const engine_model_host* api = ThisHost().model;
  engine_model_info info = Sized<engine_model_info>();
  api->info(m, &info);
  if (measured_ != m) {
    measured_ = m;
    longest_ = 32;  // names of special tokens have no bytes of their own
    for (int32_t id = 0; id < info.vocab; ++id) {
      engine_str piece = {};
      const Status status(api->token_bytes(m, id, &piece));
      if (status.ok()) longest_ = std::max(longest_, piece.size);
    }
  }
  const size_t most = static_cast<size_t>(info.context) * longest_;
  if (bytes <= most) return Status();
  return Error(ENGINE_OUT_OF_RANGE, "the prompt has ", bytes, " bytes, which are more than ",
               info.context, " tokens; the context of the model holds ", info.context,
               ", the answer included");
}

Status Tokenize::Process(Call& call) {
  const engine_text known = Known(*in.Get(call));
  const engine_text* text = &known;
  engine_model* m = model.Get(call);
  auto payload = std::make_unique<Tokens>();
  ENGINE_RETURN_IF_ERROR(Encode(m, known, false, &payload->owned));
  const uint64_t count = payload->owned.size();
  engine_model_info info = Sized<engine_model_info>();
  ThisHost().model->info(m, &info);
  if (count == 0) return Error(ENGINE_INVALID_ARGUMENT, "the prompt is empty");
  if (count >= static_cast<uint64_t>(info.context)) {
    return Error(ENGINE_OUT_OF_RANGE, "the prompt has ", count,
                 " tokens; the context of the model "
                 "holds ",
                 info.context, ", the answer included");
  }
  if (text->request != nullptr) {
    payload->request = payload->owned_request.Copy(*text->request);
    if (text->request->session.size != 0) {
      ENGINE_RETURN_IF_ERROR(Encode(m, known, true, &payload->owned_continued));
    }
  }
  payload->ids = payload->owned.data();
  payload->count = count;
  payload->continued_ids = payload->owned_continued.data();
  payload->continued_count = payload->owned_continued.size();
  payload->arrived_ns = text->arrived_ns;
  return out.Emit(call, std::move(payload));
}

}  // namespace engine::text
