// What comes over a socket: the bytes of requests, the JSON of their bodies, and answers cut into
// server-sent events. Whole and byte by byte, the reader must find the same requests.
#include <cstdlib>
#include <string>

#include "plugins/http_api/ask.h"
#include "plugins/http_api/choice.h"
#include "plugins/http_api/http_message.h"
#include "plugins/http_api/json_read.h"

namespace {

using namespace engine::http_api;

void Check(bool good) {
  if (!good) std::abort();
}

// All requests of a connection, told in one text.
std::string ReadAll(std::string_view bytes, size_t step) {
  HttpReader reader(2048, 4096);
  std::string told;
  HttpReader::State state = HttpReader::State::kMore;
  for (size_t i = 0; i < bytes.size(); i += step) {
    state = reader.Feed(bytes.substr(i, step));
    while (state == HttpReader::State::kHead || state == HttpReader::State::kContinue) {
      state = reader.Feed({});
    }
    while (state == HttpReader::State::kDone) {
      const HttpRequest r = reader.Take();
      Check(r.path.empty() || r.path.find("/../") == std::string::npos);
      Check(r.body.size() <= 4096);
      told += r.method + " " + r.path + " " + r.body + "\n";
      do state = reader.Feed({});
      while (state == HttpReader::State::kHead || state == HttpReader::State::kContinue);
    }
    if (state == HttpReader::State::kBad) break;
  }
  Check(state != HttpReader::State::kBad || (reader.status() >= 400 && !reader.problem().empty()));
  return told;
}

void ReadBody(std::string_view text) {
  Json json;
  if (!ReadJson(text, {.depth = 32, .values = 5000, .members = 500}, &json).ok()) return;
  AskLimits limits;
  limits.vocab = 1000;
  limits.context = 200;
  for (const Style style : {Style::kChat, Style::kCompletion, Style::kGenerate}) {
    limits.template_has_tools = !limits.template_has_tools;
    const AskRead read = ReadAsk(style, json, limits);
    if (read.refusal.set()) {
      Check(read.refusal.status == 400 && !read.refusal.message.empty());
      Line(ToJson(read.refusal));
      continue;
    }
    Check(!read.ask.prompts.empty() && read.ask.n >= 1 && read.ask.n <= limits.max_answers);
    for (const Prompt& prompt : read.ask.prompts) {
      for (const int32_t id : prompt.ids) Check(id >= 0 && id < limits.vocab);
      if (prompt.form == ENGINE_TEXT_MESSAGES) Check(Json::parse(prompt.text).is_array());
    }
  }
}

// An answer in pieces, as the bytes cut it: nothing that was given is taken back.
void Answer(std::string_view text) {
  Ask ask;
  ask.calls_tools = !text.empty() && (text[0] & 1) != 0;
  if (text.size() > 4) ask.stops.push_back(std::string(text.substr(1, 1 + (text[0] >> 5 & 3))));
  Choice choice;
  std::string given;
  for (size_t i = 0; i < text.size() && !choice.ended();) {
    const size_t size = 1 + static_cast<unsigned char>(text[i]) % 7;
    Piece piece;
    piece.id = 1;
    piece.text = std::string(text.substr(i, size));
    i += size;
    if (i >= text.size()) piece.finish = ENGINE_FINISH_LENGTH;
    Delta delta;
    choice.Add(std::move(piece), ask, &delta);
    given += delta.text;
    // A line's end within an event would end it.
    Check(Quoted(delta.text).find_first_of("\r\n") == std::string::npos);
  }
  Check(given == choice.text());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > 1 << 16) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0:
      // Of several faults one or another may be told, and now or later; requests are the same.
      Check(ReadAll(text, text.size()) == ReadAll(text, 1));
      break;
    case 1:
      ReadBody(text);
      break;
    case 2:
      Answer(text);
      break;
  }
  return 0;
}
