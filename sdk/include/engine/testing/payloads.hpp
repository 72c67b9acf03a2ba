// Payloads of engine/types.h from text and as text, for tests. What is zero or empty is not shown;
// times are never shown, since no test can foresee them.
//   engine.Text/1     TEXT: "hello"     TEXT { text: "hello" request { id: "a" max_tokens: 3 } }
//   engine.Tokens/1   TOKENS { ids: [1, 2] }
//   engine.Event/1    EVENT { text: "hi" finish: STOP token { request: 7 } }
// A payload of your own is made known by AddPayload.
#ifndef ENGINE_TESTING_PAYLOADS_HPP_
#define ENGINE_TESTING_PAYLOADS_HPP_

#include <charconv>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/growth.hpp"
#include "engine/node.hpp"
#include "engine/testing/text.hpp"
#include "engine/types.h"

namespace engine::testing {

// A payload as text: `body` is "text: \"a\" finish: STOP"; `brief`, where there is nothing else to
// say, what may stand behind "PORT:".
struct Shown {
  std::string body = {}, brief = {};
};

// How one payload type is read and shown.
struct PayloadText {
  std::function<Status(const Field&, std::shared_ptr<void>*)> make;
  std::function<Shown(const void*)> show;
};

// The payload types that are known, by id. Leaked, so that a test may add some from a static
// constructor.
inline std::map<std::string, PayloadText, std::less<>>& PayloadTexts() {
  static auto* texts = new std::map<std::string, PayloadText, std::less<>>;
  return *texts;
}

// Makes a payload type known to tests. `Holder` derives from the payload struct P and owns what it
// points to; read(field, holder) fills it, show(payload) tells it.
template <typename P, typename Holder, typename Read, typename Show>
void AddPayload(std::string_view type, Read read, Show show) {
  PayloadTexts()[std::string(type)] = {
      [read](const Field& field, std::shared_ptr<void>* out) {
        auto holder = std::make_shared<Holder>();
        if constexpr (requires(P p) { p.struct_size = 0; }) holder->P::struct_size = sizeof(P);
        ENGINE_RETURN_IF_ERROR(read(field, holder.get()));
        *out = std::shared_ptr<void>(holder, static_cast<P*>(holder.get()));
        return Status();
      },
      [show](const void* payload) { return show(*static_cast<const P*>(payload)); }};
}

// The shortest text that reads back as the number.
template <typename T>
std::string Digits(T value) {
  char buffer[64];
  return std::string(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
}

// Gathers the fields of a payload that are not zero.
class Body {
 public:
  template <typename T>
  Body& Add(const char* name, T value) {
    if (value != T{}) Put(name, Digits(value));
    return *this;
  }
  Body& Text(const char* name, engine_str text) {
    if (text.size != 0) Put(name, Quoted(View(text)));
    return *this;
  }
  Body& Word(const char* name, std::string_view word) {
    if (!word.empty()) Put(name, word);
    return *this;
  }
  template <typename T>
  Body& List(const char* name, const T* values, size_t count) {
    if (values == nullptr || count == 0) return *this;
    std::string text = "[";
    for (size_t i = 0; i < count; ++i) text += (i == 0 ? "" : ", ") + Digits(values[i]);
    Put(name, text + "]");
    return *this;
  }
  Body& Block(const char* name, const std::string& inner, bool even_if_empty = false) {
    if (!inner.empty() || even_if_empty)
      Sep() += name + (inner.empty() ? " { }" : " { " + inner + " }");
    return *this;
  }
  const std::string& str() const { return text_; }

 private:
  std::string& Sep() { return text_ += text_.empty() ? "" : " "; }
  void Put(const char* name, std::string_view value) {
    Sep().append(name).append(": ").append(value);
  }
  std::string text_;
};

// Values from the fields of a payload's text; a name that nobody took is an error.
class Take {
 public:
  explicit Take(const Field& field) : field_(field), taken_(field.fields.size(), false) {
    // What belongs to the packet and not to its payload.
    Mark("group");
    Mark("type");
  }
  template <typename T>
  Take& Number(std::string_view name, T* out) {
    for (const Field* f : All(name)) Convert(*f, out);
    return *this;
  }
  Take& Text(std::string_view name, std::string* out) {
    for (const Field* f : All(name)) *out = f->value;
    return *this;
  }
  template <typename T>
  Take& List(std::string_view name, std::vector<T>* out) {
    for (const Field* f : All(name)) Convert(*f, &out->emplace_back());
    return *this;
  }
  std::vector<const Field*> All(std::string_view name) {
    std::vector<const Field*> found;
    for (size_t i = 0; i < field_.fields.size(); ++i) {
      if (field_.fields[i].name != name) continue;
      taken_[i] = true;
      found.push_back(&field_.fields[i]);
    }
    return found;
  }
  // One of the words, whose number is its place.
  template <typename T>
  Take& Word(std::string_view name, const std::vector<std::string_view>& words, T* out) {
    for (const Field* f : All(name)) {
      size_t i = 0;
      while (i < words.size() && words[i] != f->value) ++i;
      if (i == words.size()) Wrong(*f, "is no value of it");
      *out = static_cast<T>(i);
    }
    return *this;
  }
  Status Done() const {
    if (!problem_.empty()) return Status(ENGINE_INVALID_ARGUMENT, problem_);
    for (size_t i = 0; i < taken_.size(); ++i) {
      if (taken_[i]) continue;
      const Field& f = field_.fields[i];
      return Error(ENGINE_INVALID_ARGUMENT, "line ", f.line, ": '", field_.name, "' has no field '",
                   f.name, "'");
    }
    return Status();
  }

 private:
  void Mark(std::string_view name) { All(name); }
  void Wrong(const Field& f, std::string_view what) {
    if (problem_.empty()) {
      problem_ = "line " + std::to_string(f.line) + ": '" + f.name + "' " + std::string(what) +
                 ": " + f.value;
    }
  }
  template <typename T>
  void Convert(const Field& f, T* out) {
    const char *begin = f.value.data(), *end = begin + f.value.size();
    const auto [at, error] = std::from_chars(begin, end, *out);
    if (f.quoted || f.message || error != std::errc() || at != end) Wrong(f, "is no such number");
  }
  const Field& field_;
  std::vector<bool> taken_;
  std::string problem_;
};

namespace internal {

inline const std::vector<std::string_view>& FinishWords() {
  static const std::vector<std::string_view> words = {"NONE",  "STOP",    "LENGTH",
                                                      "ERROR", "TIMEOUT", "CANCELLED"};
  return words;
}
inline const std::vector<std::string_view>& CodeWords() {
  static const std::vector<std::string_view> words = {"OK",
                                                      "CANCELLED",
                                                      "UNKNOWN",
                                                      "INVALID_ARGUMENT",
                                                      "DEADLINE_EXCEEDED",
                                                      "NOT_FOUND",
                                                      "ALREADY_EXISTS",
                                                      "PERMISSION_DENIED",
                                                      "RESOURCE_EXHAUSTED",
                                                      "FAILED_PRECONDITION",
                                                      "ABORTED",
                                                      "OUT_OF_RANGE",
                                                      "UNIMPLEMENTED",
                                                      "INTERNAL",
                                                      "UNAVAILABLE",
                                                      "DATA_LOSS"};
  return words;
}
inline std::string WordOf(const std::vector<std::string_view>& words, uint64_t i) {
  return i < words.size() ? std::string(words[i]) : std::to_string(i);
}

struct HeldRequest {
  engine_request value = Sized<engine_request>();
  engine_sampling sampling = Sized<engine_sampling>();
  std::string id, session, salt, key, adapter;

  Status Read(const Field& field) {
    Take take(field);
    take.Number("max_tokens", &value.max_tokens)
        .Number("priority", &value.priority)
        .Number("n", &value.n)
        .Number("timeout_us", &value.timeout_us)
        .Text("id", &id)
        .Text("session", &session)
        .Text("salt", &salt)
        .Text("key", &key)
        .Text("adapter", &adapter);
    sampling.top_p = 1;
    for (const Field* s : take.All("sampling")) {
      Take inner(*s);
      inner.Number("top_k", &sampling.top_k)
          .Number("temperature", &sampling.temperature)
          .Number("top_p", &sampling.top_p)
          .Number("seed", &sampling.seed);
      ENGINE_RETURN_IF_ERROR(inner.Done());
      value.sampling = &sampling;
    }
    value.id = Str(id);
    value.session = Str(session);
    value.salt = Str(salt);
    value.key = Str(key);
    value.adapter = Str(adapter);
    return take.Done();
  }
};

inline std::string ShowRequest(const engine_request& r) {
  Body body;
  body.Text("id", r.id).Add("max_tokens", r.max_tokens).Add("priority", r.priority).Add("n", r.n);
  body.Add("timeout_us", r.timeout_us).Text("session", r.session).Text("salt", r.salt);
  body.Text("key", r.key).Text("adapter", r.adapter);
  if (r.sampling != nullptr) {
    Body s;
    s.Add("top_k", r.sampling->top_k).Add("temperature", r.sampling->temperature);
    s.Add("top_p", r.sampling->top_p == 1 ? 0.0 : r.sampling->top_p).Add("seed", r.sampling->seed);
    body.Block("sampling", s.str());
  }
  return body.str();
}

struct HeldText : engine_text {
  std::string owned;
  HeldRequest asked;
};
struct HeldTokens : engine_tokens {
  std::vector<int32_t> owned, owned_continued;
  HeldRequest asked;
};
template <typename Held>
Status ReadRequest(Take* take, Held* held) {
  for (const Field* f : take->All("request")) {
    ENGINE_RETURN_IF_ERROR(held->asked.Read(*f));
    held->request = &held->asked.value;
  }
  return Status();
}

struct HeldToken : engine_token {
  std::vector<int32_t> owned_prompt;
  std::string owned_error;
  engine_usage owned_usage = Sized<engine_usage>();

  // The end of an answer comes with what it cost.
  void Ends(uint32_t how) {
    finish = how;
    usage = how == ENGINE_FINISH_NONE ? nullptr : &owned_usage;
  }
};
inline Status ReadToken(const Field& field, HeldToken* t) {
  t->struct_size = sizeof(engine_token);
  t->choices = 1;
  Take take(field);
  take.Number("id", &t->id).Number("request", &t->request).Number("index", &t->index);
  take.Word("finish", FinishWords(), &t->finish).Number("margin", &t->margin);
  take.List("prompt_ids", &t->owned_prompt).Text("error", &t->owned_error);
  take.Word("error_code", CodeWords(), &t->error_code).Number("choice", &t->choice);
  take.Number("choices", &t->choices);
  t->prompt_ids = t->owned_prompt.data();
  t->prompt_count = static_cast<uint32_t>(t->owned_prompt.size());
  t->error = Str(t->owned_error);
  t->Ends(t->finish);
  return take.Done();
}
inline std::string ShowToken(const engine_token& t) {
  Body body;
  body.Add("id", t.id).Add("request", t.request).Add("index", t.index);
  if (t.finish != 0) body.Word("finish", WordOf(FinishWords(), t.finish));
  body.Add("margin", t.margin).List("prompt_ids", t.prompt_ids, t.prompt_count);
  body.Text("error", t.error);
  if (t.error_code != 0)
    body.Word("error_code", WordOf(CodeWords(), static_cast<uint64_t>(t.error_code)));
  body.Add("choice", t.choice).Add("choices", t.choices == 1 ? 0u : t.choices);
  return body.str();
}

struct HeldEvent : engine_event {
  std::string owned;
  HeldToken owned_token;
};
struct HeldStep : engine_step {
  struct Sequence {
    std::vector<int32_t> tokens, blocks, history;
  };
  std::vector<Sequence> owned;
  std::vector<engine_step_sequence> owned_sequences;
};
struct HeldLogits : engine_logits {
  std::vector<float> values;
  std::vector<uint64_t> owned_requests;
  std::vector<uint32_t> owned_positions;
  std::vector<int32_t> owned_inputs;
};
struct HeldSampled : engine_sampled {
  std::vector<uint64_t> owned_requests;
  std::vector<int32_t> owned_ids, owned_inputs;
  std::vector<float> owned_margins;
  std::vector<uint32_t> owned_positions;
};
struct HeldBatch : engine_train_batch {
  std::vector<int32_t> owned_ids, owned_labels;
};
struct HeldError : engine_error_payload {
  std::string owned_message, owned_plugin, owned_node;
};

inline Status ReadStep(const Field& field, HeldStep* step) {
  Take take(field);
  const auto sequences = take.All("sequence");
  step->owned.resize(sequences.size());
  for (size_t i = 0; i < sequences.size(); ++i) {
    HeldStep::Sequence& own = step->owned[i];
    auto& s = step->owned_sequences.emplace_back(Sized<engine_step_sequence>());
    s.logits_count = 1;
    Take inner(*sequences[i]);
    inner.List("tokens", &own.tokens).List("blocks", &own.blocks).List("history", &own.history);
    inner.Number("request", &s.request).Number("start", &s.start).Number("adapter", &s.adapter);
    inner.Number("logits_count", &s.logits_count).Number("room", &s.room);
    ENGINE_RETURN_IF_ERROR(inner.Done());
    s.tokens = own.tokens.data();
    s.token_count = static_cast<uint32_t>(own.tokens.size());
    s.blocks = own.blocks.empty() ? nullptr : own.blocks.data();
    s.block_count = static_cast<uint32_t>(own.blocks.size());
    if (!own.history.empty() && own.history.size() != s.start) {
      return Error(ENGINE_INVALID_ARGUMENT, "line ", sequences[i]->line, ": 'history' has ",
                   own.history.size(), " tokens; 'start' says ", s.start);
    }
    s.history = own.history.empty() ? nullptr : own.history.data();
  }
  step->sequences = step->owned_sequences.data();
  step->count = static_cast<uint32_t>(step->owned_sequences.size());
  return take.Done();
}
inline Shown ShowStep(const engine_step& step) {
  Body body;
  for (uint32_t i = 0; i < step.count; ++i) {
    const engine_step_sequence& s = At(step.sequences, i);
    Body one;
    one.Add("request", s.request).List("tokens", s.tokens, s.token_count).Add("start", s.start);
    one.List("blocks", s.blocks, s.block_count);
    one.Add("logits_count", s.logits_count == 1 ? 0u : s.logits_count).Add("adapter", s.adapter);
    body.Block("sequence", one.Add("room", s.room).str(), true);
  }
  return {body.str()};
}

inline Status ReadLogits(const Field& field, HeldLogits* l) {
  Take take(field);
  for (const Field* row : take.All("row")) {
    Take inner(*row);
    std::vector<float> values;
    inner.Number("request", &l->owned_requests.emplace_back());
    inner.Number("position", &l->owned_positions.emplace_back());
    inner.Number("input", &l->owned_inputs.emplace_back()).List("values", &values);
    ENGINE_RETURN_IF_ERROR(inner.Done());
    if (values.empty() || (l->vocab != 0 && l->vocab != values.size())) {
      return Error(ENGINE_INVALID_ARGUMENT, "line ", row->line, ": the row has ", values.size(),
                   " values; all rows have as many, and at least one");
    }
    l->vocab = values.size();
    l->values.insert(l->values.end(), values.begin(), values.end());
  }
  l->rows = static_cast<uint32_t>(l->owned_requests.size());
  l->data = l->values.data();
  l->requests = l->owned_requests.data();
  l->positions = l->owned_positions.data();
  l->inputs = l->owned_inputs.data();
  return take.Done();
}
inline Shown ShowLogits(const engine_logits& l) {
  Body body;
  for (uint32_t i = 0; i < l.rows; ++i) {
    Body row;
    row.Add("request", l.requests[i]).Add("position", l.positions[i]);
    body.Block("row", row.List("values", l.data + i * l.vocab, l.vocab).str(), true);
  }
  return {body.str()};
}

inline Status ReadSampled(const Field& field, HeldSampled* s) {
  Take take(field);
  for (const Field* row : take.All("row")) {
    Take inner(*row);
    inner.Number("request", &s->owned_requests.emplace_back());
    inner.Number("id", &s->owned_ids.emplace_back());
    inner.Number("margin", &s->owned_margins.emplace_back());
    inner.Number("position", &s->owned_positions.emplace_back());
    inner.Number("input", &s->owned_inputs.emplace_back());
    ENGINE_RETURN_IF_ERROR(inner.Done());
  }
  s->rows = static_cast<uint32_t>(s->owned_ids.size());
  s->requests = s->owned_requests.data();
  s->ids = s->owned_ids.data();
  s->margins = s->owned_margins.data();
  s->positions = s->owned_positions.data();
  return take.Done();
}
inline Shown ShowSampled(const engine_sampled& s) {
  Body body;
  for (uint32_t i = 0; i < s.rows; ++i) {
    Body row;
    row.Add("request", s.requests[i]).Add("id", s.ids[i]).Add("position", s.positions[i]);
    body.Block("row", row.Add("margin", s.margins[i]).str(), true);
  }
  return {body.str()};
}

inline Status ReadBatch(const Field& field, HeldBatch* b) {
  Take take(field);
  take.Number("start", &b->start).Number("next", &b->next);
  for (const Field* row : take.All("row")) {
    Take inner(*row);
    std::vector<int32_t> ids, labels;
    inner.List("ids", &ids).List("labels", &labels);
    ENGINE_RETURN_IF_ERROR(inner.Done());
    if (ids.size() != labels.size() || (b->rows != 0 && b->length != ids.size())) {
      return Error(ENGINE_INVALID_ARGUMENT, "line ", row->line, ": the row has ", ids.size(),
                   " ids and ", labels.size(), " labels; all rows have as many of both");
    }
    b->length = static_cast<uint32_t>(ids.size());
    ++b->rows;
    for (const int32_t label : labels) b->valid += label != -100;
    b->owned_ids.insert(b->owned_ids.end(), ids.begin(), ids.end());
    b->owned_labels.insert(b->owned_labels.end(), labels.begin(), labels.end());
  }
  b->ids = b->owned_ids.data();
  b->labels = b->owned_labels.data();
  return take.Done();
}
inline Shown ShowBatch(const engine_train_batch& b) {
  Body body;
  for (uint32_t i = 0; i < b.rows; ++i) {
    Body row;
    row.List("ids", b.ids + size_t{i} * b.length, b.length);
    body.Block("row", row.List("labels", b.labels + size_t{i} * b.length, b.length).str(), true);
  }
  return {body.Add("start", b.start).Add("next", b.next).str()};
}

}  // namespace internal

// Makes the payloads of engine/types.h known; Node of testing.hpp calls it.
inline void AddKnownPayloads() {
  using namespace internal;
  static bool done = false;
  if (std::exchange(done, true)) return;
  AddPayload<engine_text, HeldText>(
      ENGINE_TYPE_TEXT,
      [](const Field& f, HeldText* t) -> Status {
        Take take(f);
        take.Text("text", &t->owned).Number("arrived_ns", &t->arrived_ns);
        if (!f.message) t->owned = f.value;
        ENGINE_RETURN_IF_ERROR(ReadRequest(&take, t));
        t->text = Str(t->owned);
        return take.Done();
      },
      [](const engine_text& t) -> Shown {
        const std::string request = t.request == nullptr ? "" : ShowRequest(*t.request);
        Body body;
        body.Word("text", Quoted(View(t.text))).Block("request", request);
        return {body.str(), request.empty() ? Quoted(View(t.text)) : ""};
      });
  AddPayload<engine_tokens, HeldTokens>(
      ENGINE_TYPE_TOKENS,
      [](const Field& f, HeldTokens* t) -> Status {
        Take take(f);
        take.List("ids", &t->owned).List("continued_ids", &t->owned_continued);
        take.Number("arrived_ns", &t->arrived_ns);
        ENGINE_RETURN_IF_ERROR(ReadRequest(&take, t));
        t->ids = t->owned.data();
        t->count = t->owned.size();
        t->continued_ids = t->owned_continued.data();
        t->continued_count = t->owned_continued.size();
        return take.Done();
      },
      [](const engine_tokens& t) -> Shown {
        Body body;
        body.List("ids", t.ids, t.count).List("continued_ids", t.continued_ids, t.continued_count);
        return {body.Block("request", t.request == nullptr ? "" : ShowRequest(*t.request)).str()};
      });
  AddPayload<engine_cancel, engine_cancel>(
      ENGINE_TYPE_CANCEL,
      [](const Field& f, engine_cancel* c) {
        Take take(f);
        return take.Number("cancels", &c->group).Done();
      },
      [](const engine_cancel& c) -> Shown { return {Body().Add("cancels", c.group).str()}; });
  AddPayload<engine_token, HeldToken>(
      ENGINE_TYPE_TOKEN, ReadToken, [](const engine_token& t) -> Shown { return {ShowToken(t)}; });
  AddPayload<engine_event, HeldEvent>(
      ENGINE_TYPE_EVENT,
      [](const Field& f, HeldEvent* e) -> Status {
        Take take(f);
        take.Text("text", &e->owned).Word("finish", FinishWords(), &e->finish);
        Field none;
        const auto tokens = take.All("token");
        ENGINE_RETURN_IF_ERROR(ReadToken(tokens.empty() ? none : *tokens[0], &e->owned_token));
        if (e->owned_token.finish == 0) e->owned_token.Ends(e->finish);
        if (!f.message) e->owned = f.value;
        e->text = Str(e->owned);
        e->token = &e->owned_token;
        return take.Done();
      },
      [](const engine_event& e) -> Shown {
        engine_token token = e.token == nullptr ? Sized<engine_token>() : Known(*e.token);
        if (token.finish == e.finish) token.finish = 0;
        Body body;
        body.Word("text", Quoted(View(e.text)));
        if (e.finish != 0) body.Word("finish", WordOf(FinishWords(), e.finish));
        const std::string from = ShowToken(token);
        return {body.Block("token", from).str(),
                from.empty() && e.finish == 0 ? Quoted(View(e.text)) : ""};
      });
  AddPayload<engine_step, HeldStep>(ENGINE_TYPE_STEP, ReadStep, ShowStep);
  AddPayload<engine_logits, HeldLogits>(ENGINE_TYPE_LOGITS, ReadLogits, ShowLogits);
  AddPayload<engine_sampled, HeldSampled>(ENGINE_TYPE_SAMPLED, ReadSampled, ShowSampled);
  AddPayload<engine_train_batch, HeldBatch>(ENGINE_TYPE_TRAIN_BATCH, ReadBatch, ShowBatch);
  AddPayload<engine_train_step, engine_train_step>(
      ENGINE_TYPE_TRAIN_STEP,
      [](const Field& f, engine_train_step* s) {
        Take take(f);
        take.Number("step", &s->step).Number("loss", &s->loss).Number("seconds", &s->seconds);
        take.Number("tokens", &s->tokens).Number("grad_norm", &s->grad_norm);
        return take.Number("lr", &s->lr).Number("steps", &s->steps).Done();
      },
      [](const engine_train_step& s) -> Shown {
        Body body;
        body.Add("step", s.step).Add("loss", s.loss).Add("tokens", s.tokens);
        return {body.Add("grad_norm", s.grad_norm).Add("lr", s.lr).Add("steps", s.steps).str()};
      });
  AddPayload<engine_error_payload, HeldError>(
      ENGINE_TYPE_ERROR,
      [](const Field& f, HeldError* e) {
        e->code = ENGINE_UNKNOWN;
        Take take(f);
        take.Word("code", CodeWords(), &e->code).Text("message", &e->owned_message);
        take.Text("plugin", &e->owned_plugin).Text("node", &e->owned_node);
        e->message = Str(e->owned_message);
        e->plugin = Str(e->owned_plugin);
        e->node = Str(e->owned_node);
        return take.Done();
      },
      [](const engine_error_payload& e) -> Shown {
        Body body;
        body.Word("code", WordOf(CodeWords(), static_cast<uint64_t>(e.code)));
        return {body.Text("message", e.message).Text("node", e.node).str()};
      });
}

}  // namespace engine::testing

#endif  // ENGINE_TESTING_PAYLOADS_HPP_
