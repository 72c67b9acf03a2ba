// Packets in and out of the scheduler.
// Invariant: at most one step goes round the loop: a planned one, or an empty one that a timer sent
// so that the scheduler is asked again on a worker (tick_ is set from the moment the timer is).
#include "node.h"

#include <cmath>
#include <string>
#include <utility>

#include "engine/kv_pool.hpp"
#include "engine/util.hpp"

namespace engine::batcher {
namespace {

// Longest wait of a call that was put off: so long may a cancelled run take to end.
constexpr uint64_t kLongestWaitNs = 100'000'000;

struct Step : engine_step {
  StepParts parts;
};
struct Token : engine_token {
  TokenBuffer tokens;
  std::shared_ptr<void> keep;
  std::string owned_error;
  engine_usage owned_usage;
  std::vector<int32_t> owned_top_ids;
  std::vector<float> owned_top_logprobs;
  std::shared_ptr<PromptScores> scores;
};

// The log-probabilities of the token's row, and of its prompt.
void TellScores(const Given& g, Token* to) {
  if (g.id >= 0 && g.sampled != nullptr && g.sampled->logprobs != nullptr &&
      !std::isnan(g.sampled->logprobs[g.row])) {
    const engine_sampled& s = *g.sampled;
    to->scored = 1;
    to->logprob = s.logprobs[g.row];
    for (size_t i = size_t{g.row} * s.top_count; i < (size_t{g.row} + 1) * s.top_count; ++i) {
      if (s.top_ids[i] < 0) break;
      to->owned_top_ids.push_back(s.top_ids[i]);
      to->owned_top_logprobs.push_back(s.top_logprobs[i]);
    }
    to->top_count = static_cast<uint32_t>(to->owned_top_ids.size());
    to->top_ids = to->owned_top_ids.data();
    to->top_logprobs = to->owned_top_logprobs.data();
  }
  if (g.scores == nullptr || (g.index != 0 && g.finish == ENGINE_FINISH_NONE)) return;
  to->scores = g.scores;
  to->prompt_logprobs = g.scores->logprobs.data();
  to->prompt_top_ids = g.scores->top_ids.data();
  to->prompt_top_logprobs = g.scores->top_logprobs.data();
  to->prompt_top_count = g.scores->top_count;
}

Status MakeStep(StepParts parts, Packet* packet) {
  auto made = std::make_unique<Step>();
  made->parts = std::move(parts);
  made->count = static_cast<uint32_t>(made->parts.sequences.size());
  made->sequences = made->parts.sequences.data();
  return Packet::Make<engine_step, Step>(std::move(made), packet);
}

}  // namespace

// A call that waits for its timer. Whoever claims it completes it.
struct Batcher::Tick {
  std::atomic<bool> claimed{false};
  engine_completion* completion = nullptr;
  uint32_t port = 0;

  static void Fire(void* arg) {
    const std::unique_ptr<std::shared_ptr<Tick>> tick(static_cast<std::shared_ptr<Tick>*>(arg));
    if ((*tick)->claimed.exchange(true)) return;
    const engine_nodes_host* nodes = ThisHost().nodes;
    Packet packet;
    Status status = MakeStep({}, &packet);
    if (status.ok()) {
      status = Status(
          nodes->completion_emit((*tick)->completion, (*tick)->port, packet.release(), kSameGroup));
    }
    nodes->completion_done((*tick)->completion, status.release());
  }
};

struct Batcher::Metrics {
  engine_metric *waiting = nullptr, *running = nullptr;
  engine_metric *steps = nullptr, *failed_steps = nullptr, *preemptions = nullptr,
                *refused = nullptr, *prompt = nullptr, *generated = nullptr, *cached = nullptr,
                *drafted = nullptr, *accepted = nullptr, *timeouts = nullptr, *cancelled = nullptr;

  static void Get(uint32_t type, const char* name, const char* help, engine_metric** out) {
    // Without the metric the work goes on.
    const Status ignored(ThisHost().metrics->get(type, Str(std::string_view(name)),
                                                 Str(std::string_view(help)), out));
  }
  Metrics() {
    Get(ENGINE_METRIC_GAUGE, "engine_batcher_queue_requests", "Requests that wait.", &waiting);
    Get(ENGINE_METRIC_GAUGE, "engine_batcher_running_sequences", "Sequences that run.", &running);
    const auto counter = [](const char* name, const char* help, engine_metric** out) {
      Get(ENGINE_METRIC_COUNTER, name, help, out);
    };
    counter("engine_batcher_steps_total", "Steps run.", &steps);
    counter("engine_batcher_failed_steps_total", "Steps that failed.", &failed_steps);
    counter("engine_batcher_preemptions_total", "Sequences that gave their pages away.",
            &preemptions);
    counter("engine_batcher_refused_total", "Requests refused.", &refused);
    counter("engine_batcher_prompt_tokens_total", "Prompt tokens computed.", &prompt);
    counter("engine_batcher_cached_tokens_total", "Prompt tokens found computed.", &cached);
    counter("engine_batcher_generated_tokens_total", "Tokens generated.", &generated);
    counter("engine_batcher_drafted_tokens_total", "Tokens drafted.", &drafted);
    counter("engine_batcher_accepted_tokens_total", "Drafted tokens that were right.", &accepted);
    counter("engine_batcher_timeouts_total", "Answers ended by their deadline.", &timeouts);
    counter("engine_batcher_cancelled_total", "Answers that nobody waited for.", &cancelled);
  }
};

Status Batcher::Open(Call&) {
  if (options.max_step_tokens < options.max_batch) {
    return Error(ENGINE_INVALID_ARGUMENT, "max_step_tokens (", options.max_step_tokens,
                 ") is less than max_batch (", options.max_batch,
                 "): a step must hold one token of each sequence");
  }
  Limits limits;
  limits.max_batch = options.max_batch;
  limits.max_step_tokens = options.max_step_tokens;
  limits.max_queue = options.max_queue_size;
  limits.max_tokens = options.max_tokens;
  limits.max_answers = options.max_answers;
  limits.levels = options.priority_levels;
  limits.default_level = options.default_priority_level;
  limits.raise_after_ns = uint64_t{options.raise_after_milliseconds} * 1'000'000;
  limits.gather_ns = uint64_t{options.max_queue_delay_microseconds} * 1000;
  limits.timeout_ns = options.default_timeout_microseconds * 1000;
  limits.draft_room = options.draft_room;
  limits.ignore_eos = options.ignore_eos;
  limits.share_prefixes = options.share_prefixes;
  scheduler_ = std::make_unique<Scheduler>(limits, this);
  if (ThisHost().metrics != nullptr) metrics_ = std::make_shared<Metrics>();
  return Status();
}

// The model and its pool as they are in this call: the host may have put others in their place.
void Batcher::Use(Call& call) {
  const engine_model_host* api = ThisHost().model;
  const engine_model* m = model.Get(call);
  engine_model_info info = Sized<engine_model_info>();
  api->info(m, &info);
  ModelView view;
  // Where the last look found a KV store is where the next one is, if it is the same model.
  if (m != looked_at_) kv_site_ = 0;
  view.pool = KvPoolOf(m, &kv_site_);
  looked_at_ = m;
  view.identity = m;
  view.context = static_cast<uint64_t>(info.context);
  view.of = m;
  view.stops = [](const void* of, int32_t id) {
    return ThisHost().model->token_stops(static_cast<const engine_model*>(of), id) != 0;
  };
  view.adapter = [](const void* of, engine_str name, uint32_t* number) {
    return Status(
        ThisHost().model->adapter_find(static_cast<const engine_model*>(of), name, number));
  };
  scheduler_->Use(view);
}

Status Batcher::TakeIn(Call& call, const engine_packet* packet) {
  Ask ask;
  ask.group = ThisHost().nodes->packet_group(packet);
  // The packet stays until the request ends: it counts as work under way.
  ThisHost().nodes->packet_retain(const_cast<engine_packet*>(packet));
  ask.keep = std::make_shared<Packet>(const_cast<engine_packet*>(packet));
  Status wrong;
  if (const engine_error_payload* error = fresh.Failure(call)) {
    // It failed before it got here; its end is told like any other.
    wrong = Status(static_cast<engine_code>(error->code), View(error->message));
  } else {
    const engine_tokens& t = *fresh.Get(call);
    ask.arrived_ns = t.arrived_ns;
    ask.ids = t.ids;
    ask.count = t.count;
    ask.continued_ids = t.continued_ids;
    ask.continued_count = t.continued_count;
    ask.request = t.request;
  }
  if (wrong.ok()) {
    scheduler_->Add(std::move(ask), NowNs());
    return Status();
  }
  engine_usage usage = Sized<engine_usage>();
  Given given;
  given.ask = &ask;
  given.finish = ENGINE_FINISH_ERROR;
  given.code = wrong.code();
  given.error = wrong.message();
  given.usage = &usage;
  Give(given);
  return Status();
}

void Batcher::Give(const Given& g) {
  auto made = std::make_unique<Token>();
  made->id = g.id;
  made->request = g.ask->group;
  made->index = g.index;
  made->finish = g.finish;
  made->margin = g.margin;
  made->arrived_ns = g.ask->arrived_ns;
  made->made_ns = NowNs();
  made->error_code = g.code;
  made->choice = g.choice;
  made->choices = g.choices;
  made->retry_after_us = g.retry_after_us;
  TellScores(g, made.get());
  const bool ends = g.finish != ENGINE_FINISH_NONE;
  if (g.index == 0 || ends) {
    made->keep = g.ask->keep;
    made->ask = g.ask->request;
    if (g.tokens != nullptr) {
      made->tokens = g.tokens;
      made->prompt_ids = g.tokens->data();
      made->prompt_count = g.prompt;
    }
  }
  if (ends) {
    made->owned_error = std::string(g.error);
    made->error = Str(made->owned_error);
    made->owned_usage = *g.usage;
    made->usage = &made->owned_usage;
  }
  Status status = token.Emit(*call_, std::move(made), g.ask->group);
  if (emitted_.ok()) emitted_ = std::move(status);
}

Status Batcher::Process(Call& call) {
  std::lock_guard lock(mutex_);
  call_ = &call;
  emitted_ = Status();
  Use(call);
  if (const engine_packet* packet = fresh.Raw(call)) {
    ENGINE_RETURN_IF_ERROR(TakeIn(call, packet));
  } else if (const engine_cancel* c = cancel.Get(call)) {
    const engine_cancel all = Known(*c);
    if (all.how == ENGINE_CANCEL_ENOUGH) {
      scheduler_->Enough(all.group, all.choice);
    } else {
      scheduler_->Cancel(all.group, NowNs());
    }
  } else if (const engine_error_payload* error = running.Failure(call)) {
    tick_.reset();
    scheduler_->Failed(Status(static_cast<engine_code>(error->code), View(error->message)),
                       NowNs());
  } else if (const engine_sampled* sampled = running.Get(call)) {
    tick_.reset();
    scheduler_->Finished(Known(*sampled), NowNs());
  }
  const Status status = Pump(call);
  Publish();
  call_ = nullptr;
  return emitted_.ok() ? status : std::exchange(emitted_, Status());
}

// Sends the next step on its way, unless one is.
Status Batcher::Pump(Call& call) {
  if (scheduler_->under_way()) return Status();
  if (tick_ != nullptr) {
    // Its empty step goes round: the scheduler is asked when it is back.
    if (tick_->claimed.exchange(true)) return Status();
    ThisHost().nodes->completion_done(tick_->completion, nullptr);
    tick_.reset();
  }
  StepParts parts;
  uint64_t wait_ns = 0;
  switch (scheduler_->Plan(NowNs(), &parts, &wait_ns)) {
    case Scheduler::Next::kIdle:
      return Status();
    case Scheduler::Next::kWait:
      return PutOff(call, wait_ns);
    case Scheduler::Next::kStep:
      break;
  }
  Packet packet;
  ENGINE_RETURN_IF_ERROR(MakeStep(std::move(parts), &packet));
  return call.Emit(step.index(), std::move(packet));
}

// This call ends when the timer does, with an empty step that comes back as a call on a worker.
Status Batcher::PutOff(Call& call, uint64_t wait_ns) {
  const engine_nodes_host* nodes = ThisHost().nodes;
  tick_ = std::make_shared<Tick>();
  tick_->port = step.index();
  if (ThisHost().async == nullptr) {
    // No timers here: ask again as soon as the loop brings it round.
    tick_->claimed = true;
    Packet packet;
    ENGINE_RETURN_IF_ERROR(MakeStep({}, &packet));
    return call.Emit(step.index(), std::move(packet));
  }
  ENGINE_RETURN_IF_ERROR(Status(nodes->defer(call.get(), &tick_->completion)));
  auto* arg = new std::shared_ptr<Tick>(tick_);
  Status status(ThisHost().async->after(std::min(wait_ns, kLongestWaitNs), &Tick::Fire, arg));
  // What cannot wait goes at once.
  if (!status.ok()) Tick::Fire(arg);
  return Status();
}

void Batcher::Publish() {
  if (metrics_ == nullptr) return;
  const engine_metrics* api = ThisHost().metrics;
  const Counts& now = scheduler_->counts();
  const Metrics& m = *metrics_;
  if (m.waiting != nullptr) api->set(m.waiting, static_cast<double>(scheduler_->waiting()));
  if (m.running != nullptr) api->set(m.running, static_cast<double>(scheduler_->running()));
  const auto add = [&](engine_metric* metric, uint64_t Counts::*field) {
    if (metric == nullptr || now.*field == published_.*field) return;
    api->add(metric, static_cast<double>(now.*field - published_.*field));
  };
  add(m.steps, &Counts::steps);
  add(m.failed_steps, &Counts::failed_steps);
  add(m.preemptions, &Counts::preemptions);
  add(m.refused, &Counts::refused);
  add(m.prompt, &Counts::prompt_tokens);
  add(m.cached, &Counts::cached_tokens);
  add(m.generated, &Counts::generated_tokens);
  add(m.drafted, &Counts::drafted_tokens);
  add(m.accepted, &Counts::accepted_tokens);
  add(m.timeouts, &Counts::timeouts);
  add(m.cancelled, &Counts::cancelled);
  published_ = now;
}

Status Batcher::Close(Call& call) {
  std::lock_guard lock(mutex_);
  Use(call);
  scheduler_->Close();
  return Status();
}

}  // namespace engine::batcher
