// Everything that is no request for text: health, models, tokens, sessions, the page.
#include <algorithm>

#include "engine/kv_pool.hpp"
#include "engine/transform.hpp"
#include "engine/util.hpp"
#include "fields.h"
#include "openapi.h"
#include "page.h"
#include "server.h"
#include "tools.h"

namespace engine::http_api {
namespace {

// Of texts that are only looked at; prompts have four or five.
constexpr size_t kBytesPerToken = 32;
// How often, and after what time, a session that was used just now is looked for.
constexpr int kSessionTries = 20;
constexpr uint64_t kSessionWaitNs = 40'000'000;

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  return text;
}

// How many tokens a session holds, over all adapters; `drop`: it goes.
Status CountSession(engine_model* m, const std::string& name, const std::string& salt, bool drop,
                    uint64_t* tokens) {
  *tokens = 0;
  const engine_kv_pool* pool = KvPoolOf(m);
  if (pool == nullptr) return Status();
  engine_model_info info = Sized<engine_model_info>();
  ThisHost().model->info(m, &info);
  for (uint32_t adapter = 0; adapter <= info.adapter_count; ++adapter) {
    uint64_t count = 0;
    ENGINE_RETURN_IF_ERROR(Status(
        pool->session_tokens(pool->self, Str(name), Str(salt), adapter, nullptr, 0, &count)));
    *tokens += count;
    if (drop && count != 0) {
      ENGINE_RETURN_IF_ERROR(Status(pool->session_drop(pool->self, Str(name), Str(salt), adapter)));
    }
  }
  return Status();
}

}  // namespace

bool Server::ReadBody(Incoming& in, Json* body) {
  std::string_view type = in.request.Header("content-type");
  type = Trimmed(type.substr(0, type.find(';')));
  std::string lower(type);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
  const std::string_view encoding = in.request.Header("content-encoding");
  if (!lower.empty() && lower != "application/json") {
    in.exchange->Refuse(Refused(415, "the body must be JSON: Content-Type: application/json"));
    return false;
  }
  if (!encoding.empty() && encoding != "identity") {
    in.exchange->Refuse(Refused(415, "the body must be sent as it is, without Content-Encoding"));
    return false;
  }
  const Status status = ReadJson(in.request.body, {}, body);
  if (status.ok() && body->is_object()) return true;
  in.exchange->Refuse(Refused(
      400, status.ok() ? std::string("the body must be a JSON object, and is ") + TypeName(*body)
                       : "the body cannot be read: " + std::string(status.message())));
  return false;
}

void Server::OnWorkerReply(Incoming& in, std::function<void(engine_model*, Json*, Refusal*)> work) {
  ++tasks_;
  backend_->OnWorker([this, exchange = in.exchange, from = std::weak_ptr<Connection>(in.from),
                      work = std::move(work)](engine_model* m) {
    auto body = std::make_shared<Json>();
    auto refusal = std::make_shared<Refusal>();
    if (!from.expired()) work(m, body.get(), refusal.get());
    loop_->Post([this, exchange, body, refusal] {
      --tasks_;
      if (refusal->set()) return exchange->Refuse(*refusal);
      exchange->Reply(200, *body);
    });
  });
}

void Server::Page(Incoming& in) {
  if (!options_.page) return in.exchange->Refuse(Refused(404, "the page is switched off (page)"));
  in.exchange->Reply(200, "text/html; charset=utf-8", std::string(ChatPage()),
                     {{"Content-Security-Policy",
                       "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
                       "connect-src 'self'; base-uri 'none'; form-action 'none'; "
                       "frame-ancestors 'none'"},
                      {"X-Content-Type-Options", "nosniff"}});
}

void Server::Health(Incoming& in) { in.exchange->Reply(200, {{"status", "ok"}}); }

// Alive is who moves: tokens come while there is work.
void Server::Live(Incoming& in) {
  const uint64_t now = NowNs();
  const bool stalled = !jobs_.empty() && now > moved_ns_ + options_.stall_ns;
  Json body = {{"status", stalled ? "stalled" : "ok"}, {"requests", jobs_.size()}};
  body["last_step_age_s"] =
      moved_ns_ == 0 ? Json(nullptr) : Json(static_cast<double>(now - moved_ns_) * 1e-9);
  in.exchange->Reply(stalled ? 503 : 200, body);
}

void Server::Ready(Incoming& in) {
  const bool full = jobs_.size() >= options_.max_requests;
  const char* state = draining_.load() ? "draining" : full ? "full" : "ready";
  in.exchange->Reply(draining_.load() || full ? 503 : 200,
                     {{"status", state}, {"requests", jobs_.size()}});
}

void Server::Metrics(Incoming& in) {
  std::string text;
  const engine_metrics* metrics = ThisHost().metrics;
  if (metrics != nullptr && ENGINE_HAS(metrics, render)) {
    const Status ignored(metrics->render(&AppendTo, &text));
  }
  text += figures_.Render(connections_.size(), jobs_.size(), facts_.name, options_.vllm_metrics);
  in.exchange->Reply(200, "text/plain; version=0.0.4; charset=utf-8", std::move(text), {});
}

void Server::Version(Incoming& in) {
  in.exchange->Reply(200, {{"version", std::string(View(ThisHost().host->version))}});
}

void Server::Props(Incoming& in) {
  Json body = {{"model", facts_.name},
               {"base_model", facts_.own_name},
               {"architecture", facts_.architecture},
               {"context", facts_.context},
               {"vocabulary", facts_.vocab},
               {"chat", facts_.has_chat},
               {"adapters", facts_.adapters},
               {"max_requests", options_.max_requests}};
  // As clients of llama.cpp look for them.
  body["default_generation_settings"] = {{"n_ctx", facts_.context}};
  body["total_slots"] = options_.max_requests;
  in.exchange->Reply(200, body);
}

void Server::OpenApi(Incoming& in) {
  in.exchange->Reply(200, "application/json", OpenApiText(Limits(), facts_.name, keys_.needed()),
                     {});
}

Json Server::ModelJson(const std::string& name, const std::string& parent) const {
  Json model = {{"id", name}, {"object", "model"}, {"created", 0}, {"owned_by", "engine"}};
  model["root"] = facts_.own_name;
  model["parent"] = parent.empty() ? Json(nullptr) : Json(parent);
  model["max_model_len"] = facts_.context;
  return model;
}

void Server::ListModels(Incoming& in) {
  Json data = Json::array({ModelJson(facts_.name, "")});
  for (const std::string& adapter : facts_.adapters)
    data.push_back(ModelJson(adapter, facts_.name));
  in.exchange->Reply(200, {{"object", "list"}, {"data", std::move(data)}});
}

void Server::OneModel(Incoming& in) {
  std::string adapter;
  if (!FindAdapter(in.rest, &adapter)) {
    return in.exchange->Refuse(Refused(404,
                                       "model " + Quoted(in.rest.substr(0, 128)) +
                                           " is not served here; /v1/models lists those that are",
                                       "model"));
  }
  in.exchange->Reply(
      200, adapter.empty() ? ModelJson(facts_.name, "") : ModelJson(adapter, facts_.name));
}

void Server::Embeddings(Incoming& in) {
  in.exchange->Refuse(Refused(501, "this model generates text; it makes no embeddings"));
}

void Server::Tokenize(Incoming& in) {
  Json body;
  if (!ReadBody(in, &body)) return;
  Refusal refusal;
  Fields fields(body, &refusal);
  std::string text;
  bool special = true, parse = true;
  // More than any prompt of the model could be; it is worked on between two tokens of others.
  const size_t most = static_cast<size_t>(facts_.context) * kBytesPerToken;
  fields.Text("content", most, &text);
  fields.Text("prompt", most, &text);
  fields.Flag("add_special_tokens", &special);
  fields.Flag("add_special", &special);
  fields.Flag("parse_special", &parse);
  Json messages;
  if (const Json* given = fields.Find("messages"); given != nullptr && fields.ok()) {
    ReadMessages(*given, facts_.template_has_tools, Json::array(), &messages, &refusal);
  } else if (fields.Find("content") == nullptr && fields.Find("prompt") == nullptr) {
    fields.Fail("prompt", "must be there: the text to turn into tokens");
  }
  if (messages.is_array() && in.request.body.size() > most) {
    fields.Fail("messages", "have more than ", most, " bytes");
  }
  if (refusal.set()) return in.exchange->Refuse(refusal);
  const int64_t context = facts_.context;
  OnWorkerReply(
      in, [text, special, parse, messages, context](engine_model* m, Json* out, Refusal* refused) {
        std::string prompt = text;
        uint32_t flags = (special ? ENGINE_ENCODE_BOS : 0) | (parse ? ENGINE_ENCODE_SPECIAL : 0);
        Status status;
        if (messages.is_array()) {
          prompt.clear();
          flags = ENGINE_ENCODE_SPECIAL;
          const std::string list = Line(messages);
          status = Status(ThisHost().model->chat_render(m, Str(list), Str(std::string_view()),
                                                        ENGINE_CHAT_GENERATE, &AppendTo, &prompt));
        }
        std::vector<int32_t> ids;
        if (status.ok()) status = engine::Model(m).Encode(prompt, flags, &ids);
        if (!status.ok()) {
          *refused = FromStatus(status.code(), status.message(), 0);
          return;
        }
        *out = {{"tokens", ids}, {"count", ids.size()}, {"max_model_len", context}};
      });
}

void Server::Detokenize(Incoming& in) {
  Json body;
  if (!ReadBody(in, &body)) return;
  Refusal refusal;
  Fields fields(body, &refusal);
  const Json* list = fields.Find("tokens");
  std::vector<int32_t> ids;
  if (list == nullptr || !list->is_array()) {
    fields.Fail("tokens", "must be there: a list of token ids");
  } else {
    if (static_cast<int64_t>(list->size()) > facts_.context) {
      fields.Fail("tokens", "holds ", list->size(), " ids; at most ", facts_.context,
                  " are taken, as many as the context");
    }
    for (const Json& item : *list) {
      if (!fields.ok()) break;
      int64_t id = 0;
      if (!Fields::ToWhole(item, &id) || id < 0 || id >= facts_.vocab) {
        fields.Fail("tokens", "holds ", Line(item), ", which is no token id of the model (0 to ",
                    facts_.vocab - 1, ")");
        break;
      }
      ids.push_back(static_cast<int32_t>(id));
    }
  }
  if (refusal.set()) return in.exchange->Refuse(refusal);
  OnWorkerReply(in, [ids](engine_model* m, Json* out, Refusal* refused) {
    std::string text;
    for (const int32_t id : ids) {
      engine_str bytes = {};
      const Status status(ThisHost().model->token_bytes(m, id, &bytes));
      if (!status.ok()) {
        *refused = FromStatus(status.code(), status.message(), 0);
        return;
      }
      text += View(bytes);
    }
    *out = {{"prompt", text}, {"content", text}};
  });
}

void Server::ApplyTemplate(Incoming& in) {
  Json body;
  if (!ReadBody(in, &body)) return;
  Refusal refusal;
  const ToolsRead tools = ReadTools(body, &refusal);
  Json messages;
  const size_t most = static_cast<size_t>(facts_.context) * kBytesPerToken;
  if (in.request.body.size() > most) {
    refusal = Refused(400, "messages may have " + std::to_string(most) + " bytes here");
  }
  if (!refusal.set()) {
    ReadMessages(body.contains("messages") ? body["messages"] : Json(), facts_.template_has_tools,
                 tools.offered, &messages, &refusal);
  }
  if (refusal.set()) return in.exchange->Refuse(refusal);
  const std::string list = Line(messages);
  const std::string offered =
      facts_.template_has_tools && !tools.offered.empty() ? Line(tools.offered) : "";
  OnWorkerReply(in, [list, offered](engine_model* m, Json* out, Refusal* refused) {
    std::string prompt;
    const Status status(ThisHost().model->chat_render(m, Str(list), Str(offered),
                                                      ENGINE_CHAT_GENERATE, &AppendTo, &prompt));
    if (!status.ok()) {
      *refused = FromStatus(status.code(), status.message(), 0);
      return;
    }
    *out = {{"prompt", prompt}};
  });
}

void Server::GetSession(Incoming& in) { AskSession(in, false); }
void Server::DeleteSession(Incoming& in) { AskSession(in, true); }

void Server::AskSession(Incoming& in, bool drop) {
  if (!IsSessionName(in.rest)) {
    return in.exchange->Refuse(
        Refused(400,
                "a session's name is 1 to 128 letters, digits, '.', '_' or '-', and not only "
                "dots"));
  }
  AskSession({in.key, in.rest}, drop, in.exchange, kSessionTries);
}

void Server::AskSession(const SessionId& id, bool drop, std::shared_ptr<Exchange> exchange,
                        int tries) {
  if (draining_.load()) {  // all of them go with the process
    if (exchange != nullptr) exchange->Refuse(Draining());
    return;
  }
  ++tasks_;
  backend_->OnWorker([this, id, drop, exchange, tries](engine_model* m) {
    uint64_t tokens = 0;
    const Status status = CountSession(m, id.name, Salt(id.key, ""), drop, &tokens);
    const int32_t code = status.code();
    loop_->Post(
        [this, id, drop, exchange, tries, tokens, code, message = std::string(status.message())] {
          --tasks_;
          const bool busy = code == ENGINE_FAILED_PRECONDITION;
          if (tries > 0 && (busy || (code == ENGINE_OK && tokens == 0 && sessions_.Has(id)))) {
            return Later(kSessionWaitNs, [this, id, drop, exchange, tries] {
              AskSession(id, drop, exchange, tries - 1);
            });
          }
          if (drop && !busy) sessions_.Forget(id);
          if (exchange == nullptr) return;
          if (busy) return exchange->Refuse(Refused(409, "the session is in use: " + message));
          if (code != ENGINE_OK) return exchange->Refuse(FromStatus(code, message, 0));
          if (tokens == 0)
            return exchange->Refuse(Refused(404, "there is no session of that name"));
          Json body = {{"id", id.name}, {"object", "session"}};
          if (drop) {
            body["deleted"] = true;
          } else {
            body["tokens"] = tokens;
          }
          exchange->Reply(200, body);
        });
  });
}

}  // namespace engine::http_api
