#include "generation.h"

#include <algorithm>
#include <cmath>

namespace engine::http_api {
namespace {

size_t CodePoints(std::string_view bytes) {
  return static_cast<size_t>(std::count_if(bytes.begin(), bytes.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

Json Bytes(const std::string& bytes) {
  Json list = Json::array();
  for (const char c : bytes) list.push_back(static_cast<unsigned char>(c));
  return list;
}

// A token's text; of one that is no UTF-8 by itself its bytes, as OpenAI tells them.
std::string TokenText(const std::string& bytes) {
  bool valid = true;
  // A lone surrogate, or what is longer than it need be, is caught by the same strict reader that
  // clients have.
  try {
    Json(bytes).dump();
  } catch (const Json::exception&) {
    valid = false;
  }
  if (valid) return bytes;
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text = "bytes:";
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    text += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return text;
}

// JSON has no infinity: a token that cannot come is told as very unlikely.
double Finite(float logprob) { return std::isfinite(logprob) ? logprob : -9999.0; }

const char* ObjectName(Style style, bool stream) {
  switch (style) {
    case Style::kChat:
      return stream ? "chat.completion.chunk" : "chat.completion";
    case Style::kCompletion:
      return "text_completion";
    default:
      return "generation";
  }
}

}  // namespace

void Exchange::Refuse(const Refusal& r) {
  std::vector<std::pair<std::string_view, std::string>> headers;
  if (r.retry_after > 0) {
    headers.emplace_back("Retry-After",
                         std::to_string(static_cast<int64_t>(std::ceil(r.retry_after))));
    headers.emplace_back("Retry-After-Ms",
                         std::to_string(static_cast<int64_t>(std::ceil(r.retry_after * 1000))));
  }
  // Clients repeat what fails by themselves: only what may do better should be.
  if (!r.retry && (r.status >= 500 || r.status == 408 || r.status == 409 || r.status == 429)) {
    headers.emplace_back("X-Should-Retry", "false");
  }
  if (r.status == 401) headers.emplace_back("WWW-Authenticate", r.challenge);
  if (!r.allow.empty()) headers.emplace_back("Allow", r.allow);
  Reply(r.status, ToJson(r), headers);
}

Json ChatScores(const std::vector<TokenScore>& scores) {
  Json content = Json::array();
  for (const TokenScore& s : scores) {
    Json top = Json::array();
    for (const auto& t : s.top) {
      top.push_back({{"token", TokenText(t.bytes)},
                     {"logprob", Finite(t.logprob)},
                     {"bytes", Bytes(t.bytes)}});
    }
    content.push_back({{"token", TokenText(s.bytes)},
                       {"logprob", Finite(s.logprob)},
                       {"bytes", Bytes(s.bytes)},
                       {"top_logprobs", std::move(top)}});
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json CompletionScores(const std::vector<TokenScore>& prompt, const std::vector<TokenScore>& scores,
                      size_t offset) {
  Json tokens = Json::array(), logprobs = Json::array(), tops = Json::array(),
       offsets = Json::array();
  const auto add = [&](const TokenScore& s) {
    tokens.push_back(TokenText(s.bytes));
    offsets.push_back(offset);
    offset += CodePoints(s.bytes);
    if (!s.scored) {
      logprobs.push_back(nullptr);
      tops.push_back(nullptr);
      return;
    }
    logprobs.push_back(Finite(s.logprob));
    Json top = Json::object();
    for (const auto& t : s.top) top[TokenText(t.bytes)] = Finite(t.logprob);
    tops.push_back(std::move(top));
  };
  for (const TokenScore& s : prompt) add(s);
  for (const TokenScore& s : scores) add(s);
  return {{"tokens", std::move(tokens)},
          {"token_logprobs", std::move(logprobs)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

Generation::Generation(std::shared_ptr<const Ask> ask, GenerationInfo info,
                       std::shared_ptr<Exchange> exchange)
    : shared_(std::move(ask)),
      ask_(*shared_),
      info_(std::move(info)),
      exchange_(std::move(exchange)) {
  slots_.resize(ask_.prompts.size() * ask_.n);
  prompt_scores_.resize(ask_.prompts.size());
  if (ask_.style == Style::kGenerate) {
    chunk_head_ = "{\"index\":";
    return;
  }
  chunk_head_ = Line(Head(true));
  chunk_head_.back() = ',';  // the object goes on
  chunk_head_ += "\"choices\":[{\"index\":";
}

// What every answer, and every event of one, begins with.
Json Generation::Head(bool stream) const {
  return {{"id", info_.id},
          {"object", ObjectName(ask_.style, stream)},
          {"created", info_.created},
          {"model", info_.model},
          {"system_fingerprint", info_.fingerprint}};
}

// The call number `number` of a choice, as it is told in both forms.
Json Generation::CallOf(const ToolCall& call, size_t index, size_t number) const {
  Json json;
  if (ask_.stream) json["index"] = number;
  json["id"] = "call_" + info_.id + "_" + std::to_string(index) + "_" + std::to_string(number);
  json["type"] = "function";
  json["function"] = {{"name", call.name}, {"arguments", call.arguments}};
  return json;
}

uint64_t Generation::generated() const {
  uint64_t sum = 0;
  for (const Slot& slot : slots_) sum += slot.choice.tokens();
  return sum;
}

bool Generation::AllEnded() const {
  return std::all_of(slots_.begin(), slots_.end(),
                     [](const Slot& s) { return s.choice.ended() && s.choice.has_usage(); });
}

void Generation::Begin() {
  if (began_ || !ask_.stream) return;
  began_ = true;
  exchange_->StartEvents({});
}

void Generation::Ping() {
  if (done_ || !ask_.stream) return;
  Begin();
  exchange_->Comment("ping");
}

void Generation::Fail(const Refusal& refusal) {
  if (done_) return;
  done_ = true;
  if (!began_) return exchange_->Refuse(refusal);
  exchange_->Event(Line(ToJson(refusal)));
  exchange_->Event("[DONE]");
  exchange_->EndEvents();
}

void Generation::OnPiece(size_t prompt, Piece piece, Wanted* wanted) {
  if (done_ || prompt >= ask_.prompts.size() || piece.choice >= ask_.n) return;
  const bool failed = piece.finish == ENGINE_FINISH_ERROR ||
                      piece.finish == ENGINE_FINISH_TIMEOUT ||
                      piece.finish == ENGINE_FINISH_CANCELLED;
  Slot& slot = At(prompt, piece.choice);
  if (failed && !slot.choice.ended()) {
    wanted->cancel_all = true;
    if (piece.finish == ENGINE_FINISH_CANCELLED) {
      piece.code = ENGINE_UNAVAILABLE;
      piece.error = "the server ended the request before it was answered";
    }
    return Fail(FromStatus(piece.code, piece.error, piece.retry_after_us));
  }
  if (failed) piece.finish = ENGINE_FINISH_STOP;  // of what had said enough
  if (piece.id >= 0) {
    if (first_ns_ == 0) first_ns_ = piece.made_ns;
    last_ns_ = piece.made_ns;
  }
  if (!piece.prompt.empty()) prompt_scores_[prompt] = std::move(piece.prompt);
  const uint32_t number = piece.choice;
  Delta delta;
  if (slot.choice.Add(std::move(piece), ask_, &delta)) wanted->enough.emplace_back(prompt, number);
  if (ask_.stream) {
    Begin();
    wanted->sent = Send(prompt * ask_.n + number, &slot, delta);
  }
  if (AllEnded()) Finish();
}

void Generation::SendChunk(size_t index, const std::string& rest) {
  std::string frame = chunk_head_ + std::to_string(index) + rest;
  if (ask_.style == Style::kGenerate) {
    frame += '}';
  } else {
    frame += ask_.include_usage ? "}],\"usage\":null}" : "}]}";
  }
  exchange_->Event(frame);
}

// What is new of a choice, in the shape of its API.
bool Generation::Send(size_t index, Slot* slot, const Delta& delta) {
  const auto scores = [&]() -> std::string {
    if (delta.scores.empty()) return "null";
    if (ask_.style != Style::kCompletion) return Line(ChatScores(delta.scores));
    const size_t offset = slot->scored;
    for (const TokenScore& s : delta.scores) slot->scored += CodePoints(s.bytes);
    return Line(CompletionScores({}, delta.scores, offset));
  };
  std::string ids;
  if (!delta.ids.empty()) ids = ",\"token_ids\":" + Line(Json(delta.ids));
  const bool first = !std::exchange(slot->begun, true);
  const std::string reason =
      delta.ended ? Quoted(slot->choice.finish_reason()) : std::string("null");
  switch (ask_.style) {
    case Style::kChat: {
      if (first) {
        SendChunk(index,
                  ",\"delta\":{\"role\":\"assistant\",\"content\":null},\"logprobs\":null,"
                  "\"finish_reason\":null");
      }
      if (!delta.text.empty() || !delta.scores.empty() || !delta.ids.empty()) {
        SendChunk(index, ",\"delta\":{\"content\":" + Quoted(delta.text) +
                             "},\"logprobs\":" + scores() + ids + ",\"finish_reason\":null");
      }
      const size_t before = slot->choice.calls().size() - delta.calls.size();
      for (size_t i = 0; i < delta.calls.size(); ++i) {
        const Json call = CallOf(delta.calls[i], index, before + i);
        SendChunk(index, ",\"delta\":{\"tool_calls\":" + Line(Json::array({call})) +
                             "},\"logprobs\":null,\"finish_reason\":null");
      }
      if (delta.ended) {
        SendChunk(index, ",\"delta\":{},\"logprobs\":null,\"finish_reason\":" + reason);
      }
      return first || !delta.text.empty() || !delta.calls.empty() || delta.ended;
    }
    case Style::kCompletion: {
      std::string text = delta.text;
      if (first && ask_.echo) text = EchoText(index / ask_.n) + text;
      if (text.empty() && delta.scores.empty() && delta.ids.empty() && !delta.ended) {
        return false;
      }
      SendChunk(index, ",\"text\":" + Quoted(text) + ",\"logprobs\":" + scores() + ids +
                           ",\"finish_reason\":" + reason);
      return true;
    }
    case Style::kGenerate:
      if (delta.text.empty() && !delta.ended) return false;
      SendChunk(index, ",\"text\":" + Quoted(delta.text) +
                           (delta.ended ? ",\"finish_reason\":" + reason : std::string()));
      return true;
  }
  return false;
}

std::string Generation::EchoText(size_t prompt) const {
  const Prompt& p = ask_.prompts[prompt];
  if (p.form != ENGINE_TEXT_IDS) return p.text;
  std::string text;
  for (const TokenScore& s : prompt_scores_[prompt]) text += s.bytes;
  return text;
}

Json Generation::Usage() const {
  uint64_t prompt = 0, cached = 0;
  for (size_t i = 0; i < slots_.size(); i += ask_.n) {
    prompt += slots_[i].choice.usage().prompt_tokens;
    cached += slots_[i].choice.usage().cached_tokens;
  }
  return {{"prompt_tokens", prompt},
          {"completion_tokens", generated()},
          {"total_tokens", prompt + generated()},
          {"prompt_tokens_details", {{"cached_tokens", cached}}}};
}

Json Generation::ChoiceJson(size_t index) const {
  const Choice& c = slots_[index].choice;
  Json json = {{"index", index}};
  switch (ask_.style) {
    case Style::kChat: {
      Json message = {{"role", "assistant"}, {"content", c.text()}, {"refusal", nullptr}};
      if (!c.calls().empty()) {
        if (c.text().empty()) message["content"] = nullptr;
        Json calls = Json::array();
        for (size_t i = 0; i < c.calls().size(); ++i) {
          calls.push_back(CallOf(c.calls()[i], index, i));
        }
        message["tool_calls"] = std::move(calls);
      }
      json["message"] = std::move(message);
      json["logprobs"] = ask_.logprobs ? ChatScores(c.scores()) : Json(nullptr);
      break;
    }
    case Style::kCompletion: {
      const size_t prompt = index / ask_.n;
      json["text"] = ask_.echo ? EchoText(prompt) + c.text() : c.text();
      static const std::vector<TokenScore> kNone;
      json["logprobs"] =
          ask_.logprobs
              ? CompletionScores(ask_.echo ? prompt_scores_[prompt] : kNone, c.scores(), 0)
              : Json(nullptr);
      break;
    }
    case Style::kGenerate:
      json["text"] = c.text();
      break;
  }
  if (ask_.return_ids) json["token_ids"] = c.ids();
  json["finish_reason"] = c.finish_reason();
  return json;
}

void Generation::Finish() {
  done_ = true;
  if (ask_.stream) {
    if (ask_.style == Style::kGenerate) {
      exchange_->Event(Line({{"usage", Usage()}}));
    } else if (ask_.include_usage) {
      Json last = Head(true);
      last["choices"] = Json::array();
      last["usage"] = Usage();
      exchange_->Event(Line(last));
    }
    exchange_->Event("[DONE]");
    exchange_->EndEvents();
    return;
  }
  const Json usage = Usage();
  Json body = Head(false);
  Json choices = Json::array();
  for (size_t i = 0; i < slots_.size(); ++i) choices.push_back(ChoiceJson(i));
  if (ask_.style == Style::kGenerate) {
    body["text"] = slots_[0].choice.text();
    body["finish_reason"] = slots_[0].choice.finish_reason();
    if (!ask_.session.empty()) body["session"] = ask_.session;
  }
  body["choices"] = std::move(choices);
  body["usage"] = usage;
  if (ask_.style == Style::kGenerate) {
    const auto seconds = [&](uint64_t at) {
      return at > info_.arrived_ns ? static_cast<double>(at - info_.arrived_ns) * 1e-9 : 0.0;
    };
    body["timings"] = {{"first_token_s", seconds(first_ns_)}, {"last_token_s", seconds(last_ns_)}};
  }
  exchange_->Reply(200, "application/json", Line(body) + "\n",
                   {{"X-Cache-Tokens", Line(usage["prompt_tokens_details"]["cached_tokens"])}});
}

}  // namespace engine::http_api
