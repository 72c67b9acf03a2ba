#include "node.h"

#include <cmath>
#include <cstdio>

#include "engine/request.hpp"
#include "engine/transform.hpp"
#include "engine/util.hpp"

namespace engine::http_api {
namespace {

constexpr uint64_t kTickNs = 20'000'000;
// How long answers that are made already may take to be written when the run ends.
constexpr uint64_t kLastWordsNs = 2'000'000'000;

struct Cancel : engine_cancel {};

// Whether the model's template says more when it is given tools.
bool TemplateHasTools(const engine_model* m) {
  const std::string messages = R"([{"role":"user","content":"x"}])";
  const std::string tools =
      R"([{"type":"function","function":{"name":"probe","description":"","parameters":{"type":"object","properties":{}}}}])";
  std::string with, without;
  const engine_model_host* api = ThisHost().model;
  const Status a(api->chat_render(m, Str(messages), Str(std::string_view()), ENGINE_CHAT_GENERATE,
                                  &AppendTo, &without));
  const Status b(
      api->chat_render(m, Str(messages), Str(tools), ENGINE_CHAT_GENERATE, &AppendTo, &with));
  return a.ok() && b.ok() && with != without;
}

std::string BytesOf(const engine_model* m, int32_t id) {
  engine_str bytes = {};
  const Status status(ThisHost().model->token_bytes(m, id, &bytes));
  return status.ok() ? std::string(View(bytes)) : std::string();
}

TokenScore Score(const engine_model* m, int32_t id, float logprob, const int32_t* ids,
                 const float* logprobs, uint32_t count) {
  TokenScore score;
  score.id = id;
  score.bytes = BytesOf(m, id);
  score.logprob = logprob;
  score.scored = !std::isnan(logprob);
  for (uint32_t i = 0; i < count && score.scored; ++i) {
    if (ids[i] < 0) break;
    score.top.push_back({ids[i], logprobs[i], BytesOf(m, ids[i])});
  }
  return score;
}

}  // namespace

HttpApi::~HttpApi() { StopLoop(); }

Status HttpApi::ReadFacts(Call& call, ModelFacts* facts) const {
  const engine_model_host* api = ThisHost().model;
  const engine_model* m = model.Get(call);
  engine_model_info info = Sized<engine_model_info>();
  api->info(m, &info);
  facts->own_name = std::string(View(info.name));
  facts->name = options.has_model ? options.model : facts->own_name;
  facts->architecture = std::string(View(info.architecture));
  facts->vocab = info.vocab;
  facts->context = info.context;
  facts->fingerprint = info.fingerprint;
  for (uint32_t i = 1; i <= info.adapter_count; ++i) {
    engine_str name = {};
    ENGINE_RETURN_IF_ERROR(Status(api->adapter_name(m, i, &name)));
    facts->adapters.emplace_back(View(name));
  }
  std::string text;
  const Status chat(api->chat(m, Str(std::string_view("x")), 0, &AppendTo, &text));
  facts->has_chat = chat.ok();
  facts->template_has_tools = facts->has_chat && TemplateHasTools(m);
  return Status();
}

Status HttpApi::Open(Call& call) {
  if (ThisHost().async == nullptr) {
    return Error(ENGINE_FAILED_PRECONDITION, "this host has no I/O threads (", ENGINE_EXT_ASYNC,
                 ")");
  }
  Keys keys;
  ENGINE_RETURN_IF_ERROR(keys.Read(options.api_key, options.api_key_file));
  ModelFacts facts;
  ENGINE_RETURN_IF_ERROR(ReadFacts(call, &facts));
  ServerOptions o;
  o.connections.max_header = options.max_header_bytes;
  o.connections.max_body = options.max_body_bytes;
  o.connections.max_unread = options.max_unread_bytes;
  o.connections.read_ns = uint64_t{options.read_timeout_ms} * 1'000'000;
  o.connections.write_ns = uint64_t{options.write_timeout_ms} * 1'000'000;
  o.connections.idle_ns = uint64_t{options.idle_timeout_ms} * 1'000'000;
  o.connections.cors_origin = options.cors_origin;
  o.max_connections = options.max_connections;
  o.max_requests = options.max_requests;
  o.max_waiting_bytes = options.max_waiting_bytes;
  o.max_requests_per_key = options.max_requests_per_key;
  o.max_answers = options.max_answers;
  o.max_prompts = options.max_prompts;
  o.ping_ns = uint64_t{options.ping_seconds} * 1'000'000'000;
  o.stall_ns = uint64_t{options.stall_seconds} * 1'000'000'000;
  o.session_ns = uint64_t{options.session_seconds} * 1'000'000'000;
  o.page = options.page;
  o.vllm_metrics = options.vllm_metrics;
  loop_ = std::make_unique<Loop>();
  ENGINE_RETURN_IF_ERROR(
      loop_->Listen(options.host, options.port, options.tls_certificate, options.tls_key));
  if (!keys.needed() && options.host != "127.0.0.1" && options.host != "::1" &&
      options.host != "localhost") {
    Log(ENGINE_LOG_WARNING, name(), "everybody who reaches ", loop_->address(),
        " is served: set api_key or api_key_file");
  }
  server_ = std::make_unique<Server>(loop_.get(), this, o, std::move(keys), std::move(facts));
  {
    std::lock_guard lock(mutex_);
    loop_runs_ = true;
  }
  Status started(
      ThisHost().async->run([](void* self) { static_cast<HttpApi*>(self)->RunLoop(); }, this));
  if (!started.ok()) {
    std::lock_guard lock(mutex_);
    loop_runs_ = false;
  }
  return started;
}

void HttpApi::RunLoop() {
  loop_->Run([this](std::unique_ptr<Socket> socket) { server_->Accept(std::move(socket)); },
             kTickNs,
             [this] {
               CheckPhase();
               server_->Tick(NowNs());
             });
  std::lock_guard lock(mutex_);
  loop_runs_ = false;
  ended_.notify_all();
}

// A drain or a cancel is seen by whoever holds a call open.
void HttpApi::CheckPhase() {
  engine_completion* done = nullptr;
  {
    std::lock_guard lock(mutex_);
    if (open_ == nullptr) return;
    if (ThisHost().nodes->completion_phase(open_) == ENGINE_RUN_RUNNING) return;
    server_->SetDraining();
    done = std::exchange(open_, nullptr);
  }
  ThisHost().nodes->completion_done(done, nullptr);
}

void HttpApi::Push(uint32_t port, Packet packet, uint64_t group) {
  std::lock_guard lock(mutex_);
  outgoing_.push_back({port, std::move(packet), group});
}

// Ends the open call with what there is to send; without one, the next call takes it.
void HttpApi::Wake() {
  engine_completion* done = nullptr;
  {
    std::lock_guard lock(mutex_);
    if (open_ == nullptr) return;
    done = std::exchange(open_, nullptr);
    for (Outgoing& out : outgoing_) {
      // It fails only where the packet is none of the port's.
      const Status ignored(
          ThisHost().nodes->completion_emit(done, out.port, out.packet.release(), out.group));
    }
    outgoing_.clear();
  }
  ThisHost().nodes->completion_done(done, nullptr);
}

void HttpApi::Submit(Submission s) {
  auto text = std::make_unique<OwnedText>();
  const Ask& ask = *s.ask;
  text->form = s.prompt.form;
  text->owned = std::move(s.prompt.text);
  text->owned_tools = std::move(s.prompt.tools);
  text->owned_ids = std::move(s.prompt.ids);
  text->text = Str(text->owned);
  text->tools = Str(text->owned_tools);
  text->ids = text->owned_ids.data();
  text->id_count = text->owned_ids.size();
  text->arrived_ns = s.arrived_ns;
  OwnedRequest& r = text->owned_request;
  r.value.max_tokens = ask.max_tokens;
  r.value.priority = ask.priority;
  r.value.n = ask.n;
  r.value.timeout_us = ask.timeout_ms * 1000;
  r.value.form = ask.form;
  const bool prompt_told = ask.echo && (ask.logprobs || s.prompt.form == ENGINE_TEXT_IDS);
  if (ask.echo && ask.logprobs) r.value.flags |= ENGINE_REQUEST_SCORE_PROMPT;
  r.form_text = ask.form_text;
  r.session = ask.session;
  r.salt = std::move(s.salt);
  r.key = std::move(s.key);
  r.adapter = std::move(s.adapter);
  r.sampling = ask.sampling;
  r.bias_ids = ask.bias_ids;
  r.bias_values = ask.bias_values;
  r.stop_ids = ask.stop_ids;
  text->request = r.Finish(/*with_sampling=*/true);
  Packet packet;
  const Status status = Packet::Make<engine_text, OwnedText>(std::move(text), &packet);
  if (!status.ok()) {
    Piece piece;
    piece.group = s.group;
    piece.finish = ENGINE_FINISH_ERROR;
    piece.code = status.code();
    piece.error = std::string(status.message());
    return Hand(std::move(piece));
  }
  if (prompt_told) {
    std::lock_guard lock(mutex_);
    wants_prompt_.insert(s.group);
  }
  Push(request.index(), std::move(packet), s.group);
  Wake();
}

void HttpApi::Abandon(uint64_t group) {
  {
    std::lock_guard lock(mutex_);
    wants_prompt_.erase(group);
  }
  SendCancel(group, ENGINE_CANCEL_ABANDON, 0);
}

void HttpApi::Enough(uint64_t group, uint32_t choice) {
  SendCancel(group, ENGINE_CANCEL_ENOUGH, choice);
}

void HttpApi::SendCancel(uint64_t group, engine_cancel_how how, uint32_t choice) {
  auto made = std::make_unique<Cancel>();
  made->group = group;
  made->how = how;
  made->choice = choice;
  Packet packet;
  if (!Packet::Make<engine_cancel, Cancel>(std::move(made), &packet).ok()) return;
  Push(cancel.index(), std::move(packet), group);
  Wake();
}

void HttpApi::OnWorker(std::function<void(engine_model*)> body) {
  {
    std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(body));
  }
  Wake();
}

// What the loop needs of an event, so that it reads no model and holds no packet.
Piece HttpApi::Copy(const engine_event& e, const engine_model* m) {
  const engine_token token = Known(*e.token);
  Piece piece;
  piece.group = token.request;
  piece.choice = token.choice;
  piece.choices = token.choices;
  piece.id = token.id;
  piece.text = std::string(View(e.text));
  piece.finish = static_cast<engine_finish>(e.finish);
  piece.made_ns = token.made_ns;
  if (e.finish != ENGINE_FINISH_NONE) {
    piece.code = token.error_code;
    piece.error = std::string(View(token.error));
    piece.retry_after_us = token.retry_after_us;
    if (token.usage != nullptr) piece.usage = Known(*token.usage);
  }
  if (token.scored != 0) {
    piece.score =
        Score(m, token.id, token.logprob, token.top_ids, token.top_logprobs, token.top_count);
  }
  if (token.prompt_ids == nullptr) return piece;
  {
    std::lock_guard lock(mutex_);
    if (wants_prompt_.erase(token.request) == 0) return piece;
  }
  const uint32_t top = token.prompt_top_count;
  for (uint32_t i = 0; i < token.prompt_count; ++i) {
    const bool scored = token.prompt_logprobs != nullptr;
    piece.prompt.push_back(Score(m, token.prompt_ids[i], scored ? token.prompt_logprobs[i] : NAN,
                                 scored ? token.prompt_top_ids + size_t{i} * top : nullptr,
                                 scored ? token.prompt_top_logprobs + size_t{i} * top : nullptr,
                                 scored ? top : 0));
  }
  return piece;
}

// To the loop, together with what else comes before it looks.
void HttpApi::Hand(Piece piece) {
  std::lock_guard lock(mutex_);
  pieces_.push_back(std::move(piece));
  if (std::exchange(posted_, true)) return;
  loop_->Post([this] {
    std::vector<Piece> pieces;
    {
      std::lock_guard inner(mutex_);
      pieces.swap(pieces_);
      posted_ = false;
    }
    server_->OnPieces(std::move(pieces));
  });
}

Status HttpApi::Process(Call& call) {
  const bool drains = ThisHost().nodes->call_phase(call.get()) != ENGINE_RUN_RUNNING;
  if (drains) server_->SetDraining();
  const engine_event* e = event.Get(call);
  if (e != nullptr) Hand(Copy(*e, model.Get(call)));
  if (!std::exchange(said_listening_, true)) {
    std::fprintf(stderr, "listening on %s\n", loop_->address().c_str());
  }
  // One a call, so that events are not kept waiting; all of them when there will be no other call.
  do {
    std::function<void(engine_model*)> task;
    {
      std::lock_guard lock(mutex_);
      if (tasks_.empty()) break;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    task(model.Get(call));
  } while (drains);
  std::lock_guard lock(mutex_);
  if (e == nullptr && !drains && outgoing_.empty() && tasks_.empty()) {
    return Status(ThisHost().nodes->defer(call.get(), &open_));
  }
  for (Outgoing& out : outgoing_) {
    ENGINE_RETURN_IF_ERROR(call.Emit(out.port, std::move(out.packet), out.group));
  }
  outgoing_.clear();
  return Status();
}

// Whatever was answered is written, if its readers take it soon; then the loop ends.
void HttpApi::StopLoop() {
  if (loop_ == nullptr) return;
  std::unique_lock lock(mutex_);
  if (!loop_runs_) return;
  server_->SetDraining();
  const uint64_t until = NowNs() + kLastWordsNs;
  for (bool first = true; loop_runs_; first = false) {
    loop_->Post([this, first, until] {
      if (first) server_->EndAll();
      if (server_->quiet() || NowNs() > until) loop_->Stop();
    });
    ended_.wait_for(lock, std::chrono::milliseconds(10));
  }
}

Status HttpApi::Close(Call&) {
  StopLoop();
  return Status();
}

}  // namespace engine::http_api
