// detokenize and text_sink: tokens in, text out.

#include "engine/util.hpp"
#include "nlohmann/json.hpp"
#include "nodes.h"
#include "payloads.h"

namespace engine::text {
namespace {

// Length of the longest prefix that does not end inside a code point. Bytes that can never become
// one count as ended: they are replaced later.
size_t WholeCodePoints(std::string_view s) {
  for (size_t back = 1; back <= 3 && back <= s.size(); ++back) {
    const auto byte = static_cast<unsigned char>(s[s.size() - back]);
    if ((byte & 0xc0) == 0x80) continue;
    const size_t need = byte >= 0xf0 && byte < 0xf5 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc2 ? 2 : 1;
    return need > back && byte < 0xf5 ? s.size() - back : s.size();
  }
  return s.size();
}

// Invalid bytes as U+FFFD.
std::string Valid(std::string_view s) {
  std::string out;
  for (size_t i = 0; i < s.size();) {
    const auto b = static_cast<unsigned char>(s[i]);
    const size_t n = b < 0x80                ? 1
                     : b >= 0xc2 && b < 0xe0 ? 2
                     : b >= 0xe0 && b < 0xf0 ? 3
                     : b >= 0xf0 && b < 0xf5 ? 4
                                             : 0;
    bool good = n != 0 && i + n <= s.size();
    for (size_t k = 1; good && k < n; ++k) {
      const auto c = static_cast<unsigned char>(s[i + k]);
      const unsigned char low = k > 1 ? 0x80 : b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80;
      const unsigned char high = k > 1 ? 0xbf : b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
      good = c >= low && c <= high;
    }
    out += good ? std::string(s.substr(i, n)) : std::string("\xef\xbf\xbd");
    i += good ? n : 1;
  }
  return out;
}

}  // namespace

Status Detokenize::Process(Call& call) {
  const engine_token* t = in.Get(call);
  auto payload = std::make_unique<Event>();
  const std::pair<uint64_t, uint32_t> whose(t->request, t->choice);
  std::string& held = held_[whose];
  // The end token is not part of the text.
  if (t->id >= 0 && t->finish != ENGINE_FINISH_STOP) {
    engine_str bytes = {};
    ENGINE_RETURN_IF_ERROR(Status(ThisHost().model->token_bytes(model.Get(call), t->id, &bytes)));
    held += View(bytes);
  }
  const bool ends = t->finish != ENGINE_FINISH_NONE;
  const size_t whole = ends ? held.size() : WholeCodePoints(held);
  payload->owned = Valid(std::string_view(held).substr(0, whole));
  held.erase(0, whole);
  if (ends) held_.erase(whose);
  payload->text = Str(payload->owned);
  payload->finish = t->finish;
  payload->token = t;
  payload->keep = Share(in.Raw(call));
  return out.Emit(call, std::move(payload));
}

Status TextSink::Open(Call&) {
  if (!options.has_path) return Status();
  file_ = std::fopen(options.path.c_str(), "w");
  if (file_ == nullptr) {
    return Error(ENGINE_INVALID_ARGUMENT, "file '", options.path, "' cannot be written");
  }
  return Status();
}

Status TextSink::Write(std::string_view text) {
  std::FILE* to = file_ != nullptr ? file_ : stdout;
  if (std::fwrite(text.data(), 1, text.size(), to) != text.size() || std::fflush(to) != 0) {
    return Error(ENGINE_UNAVAILABLE,
                 "the text cannot be written: the reader is gone or the disk is "
                 "full");
  }
  return Status();
}

Status TextSink::Process(Call& call) {
  const engine_event& event = *in.Get(call);
  const std::pair<uint64_t, uint32_t> whose(event.token->request, event.token->choice);
  Answer& answer = answers_[whose];
  answer.Add(event);
  Status status;
  if (options.format == TextSinkOptions::Format::TEXT) status = Write(View(event.text));
  if (!status.ok()) {
    // Nobody reads any longer: there is no use in going on.
    call.FailRun(status);
    return status;
  }
  if (event.finish == ENGINE_FINISH_NONE) return Status();
  const Answer done = std::move(answer);
  answers_.erase(whose);
  return Finish(event, done);
}

Status TextSink::Finish(const engine_event& event, const Answer& answer) {
  if (options.format == TextSinkOptions::Format::JSONL) {
    const nlohmann::ordered_json j = ToJson(answer, event, /*figures=*/true);
    ENGINE_RETURN_IF_ERROR(
        Write(j.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"));
  } else {
    ENGINE_RETURN_IF_ERROR(Write("\n"));
    char line[256];
    std::snprintf(line, sizeof line,
                  "[%zu prompt tokens, %zu generated (%s), first after %.3f s, then %.1f tokens/s, "
                  "peak memory %.0f MiB]\n",
                  answer.prompt_ids.size(), answer.ids.size(), FinishName(event.finish),
                  answer.FirstAfter(), answer.Rate(), static_cast<double>(PeakBytes()) / 1048576.0);
    if (event.finish != ENGINE_FINISH_ERROR) std::fputs(line, stderr);
  }
  if (event.finish == ENGINE_FINISH_ERROR) {
    return Error(ENGINE_ABORTED, View(event.token->error));
  }
  return Status();
}

Status TextSink::Close(Call&) {
  if (file_ != nullptr && std::fclose(std::exchange(file_, nullptr)) != 0) {
    return Error(ENGINE_UNAVAILABLE, "file '", options.path, "' could not be written whole");
  }
  return Status();
}

}  // namespace engine::text
