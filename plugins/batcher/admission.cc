// From a prompt that came to a running sequence: what is refused, who waits, who is next.
#include <algorithm>
#include <tuple>

#include "sequence.h"

namespace engine::batcher {
namespace {

constexpr size_t kCancelsKept = 1024;

uint64_t CeilDiv(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

}  // namespace

// Whether the pool could hold such a sequence if it were alone.
Status Scheduler::Fits(uint64_t prompt, uint64_t max_tokens) const {
  if (prompt >= model_.context) {
    return Error(ENGINE_OUT_OF_RANGE, "the prompt has ", prompt,
                 " tokens, a session's history included; the context of the model holds ",
                 model_.context, ", the answer included");
  }
  if (model_.pool == nullptr) return Status();
  engine_kv_stats stats = Sized<engine_kv_stats>();
  model_.pool->stats(model_.pool->self, &stats);
  const uint64_t most = std::min(prompt + max_tokens, model_.context);
  const uint64_t pages = CeilDiv(most, model_.pool->page_tokens);
  if (pages <= stats.pages_total) return Status();
  return Error(ENGINE_OUT_OF_RANGE, "the request may need ", most, " tokens (", prompt,
               " of the prompt and at most ", most - prompt, " generated), which are ", pages,
               " pages; the whole KV cache has ", stats.pages_total, " pages of ",
               model_.pool->page_tokens,
               " tokens: ask for fewer tokens, or give kv_cache a larger budget");
}

// The number may be another one when the model was replaced.
Status Scheduler::FindAdapter(Request* r) const {
  r->adapter = 0;
  if (r->ask.request == nullptr || r->ask.request->adapter.size == 0) return Status();
  const engine_str name = r->ask.request->adapter;
  if (model_.adapter != nullptr) return model_.adapter(model_.of, name, &r->adapter);
  return Error(ENGINE_NOT_FOUND, "the model has no named adapter, '", View(name), "' neither");
}

void Scheduler::Refuse(const Ask& ask, engine_finish finish, const Status& status,
                       uint64_t retry_us) {
  ++counts_.refused;
  engine_usage usage = Sized<engine_usage>();
  usage.prompt_tokens = static_cast<uint32_t>(ask.count);
  Given given;
  given.ask = &ask;
  given.finish = finish;
  given.code = status.code();
  given.error = status.message();
  given.retry_after_us = retry_us;
  given.usage = &usage;
  listener_->Give(given);
}

uint64_t Scheduler::RetryAfterUs() const {
  if (decayed_rows_ <= 0 || decayed_ns_ <= 0) return 1'000'000;  // nothing was measured yet
  const double ns = static_cast<double>(queued_cost_) * decayed_ns_ / decayed_rows_;
  return static_cast<uint64_t>(std::clamp(ns / 1000, 1000.0, 3.6e9));
}

// Tokens that it will probably still take to compute.
uint64_t Scheduler::Cost(const Answer& answer) const {
  const Request& r = *answer.request;
  const double more = static_cast<double>(r.max_tokens - answer.Generated()) * answered_share_;
  const uint64_t known = answer.tokens != nullptr ? answer.tokens->size() : r.history + r.ask.count;
  return known + static_cast<uint64_t>(more * Places(answer));
}

// Places of a batch that it takes up.
uint32_t Scheduler::Places(const Answer& answer) const {
  return answer.request->branched ? 1 : answer.request->n;
}

std::unique_ptr<Scheduler::Answer> Scheduler::NewAnswer(Request* request, uint32_t choice) {
  auto answer = std::make_unique<Answer>();
  answer->request = request;
  answer->choice = choice;
  ++request->left;
  return answer;
}

// What a request asks for, as far as it is wrong by itself.
Status Scheduler::Admit(Request* r, uint64_t now) {
  const engine_request* ask = r->ask.request;
  r->queued_ns = now;
  r->level = limits_.default_level;
  r->max_tokens = limits_.max_tokens;
  r->timeout_ns = limits_.timeout_ns;
  if (ask != nullptr) {
    if (ask->priority != 0) r->level = ask->priority;
    if (ask->max_tokens != 0) r->max_tokens = ask->max_tokens;
    if (ask->n != 0) r->n = ask->n;
    if (ask->timeout_us != 0) r->timeout_ns = std::min(ask->timeout_us, UINT64_MAX / 2000) * 1000;
    r->has_session = ask->session.size != 0;
    if (ask->sampling != nullptr) {
      r->sampling = Known(*ask->sampling);
      r->has_sampling = true;
    }
    const engine_request all = Known(*ask);
    r->wants_scores = (all.flags & ENGINE_REQUEST_SCORE_PROMPT) != 0;
    if (all.form != ENGINE_FORM_FREE && r->sampling.guide == nullptr) {
      return Error(ENGINE_FAILED_PRECONDITION,
                   "the request asks for a form of its answer, and nothing in this pipeline keeps "
                   "answers to forms: put a node `constrain` before the batcher");
    }
  }
  r->level = std::clamp(r->level, 1u, limits_.levels);
  const uint64_t from = r->ask.arrived_ns != 0 ? r->ask.arrived_ns : now;
  if (r->timeout_ns != 0) r->deadline_ns = from + std::min(r->timeout_ns, UINT64_MAX - from);
  const uint32_t most = std::min(limits_.max_answers, limits_.max_batch);
  if (r->n > most) {
    return Error(ENGINE_INVALID_ARGUMENT, r->n, " answers were asked for; at most ", most,
                 " are given (max_answers, max_batch)");
  }
  if (r->ask.count == 0) return Error(ENGINE_INVALID_ARGUMENT, "the prompt is empty");
  ENGINE_RETURN_IF_ERROR(FindAdapter(r));
  if (r->has_session) {
    r->session = {std::string(View(ask->session)), std::string(View(ask->salt)),
                  std::string(View(ask->adapter))};
    if (r->wants_scores) {
      return Error(ENGINE_INVALID_ARGUMENT,
                   "a prompt that continues a session is not scored: leave the session out");
    }
    if (r->n > 1) {
      return Error(ENGINE_INVALID_ARGUMENT, "a session goes on with one answer, but n is ", r->n);
    }
    if (model_.pool == nullptr) {
      return Error(ENGINE_FAILED_PRECONDITION,
                   "sessions need a model with a KV store: put a kv_cache behind it");
    }
    ENGINE_RETURN_IF_ERROR(Status(model_.pool->session_tokens(
        model_.pool->self, ask->session, ask->salt, r->adapter, nullptr, 0, &r->history)));
  }
  const uint64_t prompt =
      r->history +
      (r->history != 0 && r->ask.continued_count != 0 ? r->ask.continued_count : r->ask.count);
  ENGINE_RETURN_IF_ERROR(Fits(prompt, r->max_tokens));
  r->max_tokens = static_cast<uint32_t>(std::min<uint64_t>(r->max_tokens, model_.context - prompt));
  return Status();
}

void Scheduler::Add(Ask ask, uint64_t now) {
  const auto early = std::find(cancelled_early_.begin(), cancelled_early_.end(), ask.group);
  if (early != cancelled_early_.end()) {
    cancelled_early_.erase(early);
    ++counts_.cancelled;
    Refuse(ask, ENGINE_FINISH_CANCELLED,
           Error(ENGINE_CANCELLED, "the request was cancelled before it began"), 0);
    return;
  }
  auto made = std::make_unique<Request>();
  Request* r = made.get();
  r->ask = std::move(ask);
  const Status status = Admit(r, now);
  if (!status.ok()) return Refuse(r->ask, ENGINE_FINISH_ERROR, status, 0);
  const uint32_t free = limits_.max_batch - std::min(places_, limits_.max_batch);
  if (fresh_ >= limits_.max_queue + free) {
    const uint64_t retry = RetryAfterUs();
    return Refuse(r->ask, ENGINE_FINISH_ERROR,
                  Error(ENGINE_RESOURCE_EXHAUSTED, "the queue is full: ", fresh_,
                        " requests wait (max_queue_size ", limits_.max_queue,
                        "); what waits will take about ", retry / 1000, " ms"),
                  retry);
  }
  r->number = next_number_++;
  r->branched = r->n == 1;
  r->usage.struct_size = sizeof r->usage;
  r->usage.prompt_tokens = static_cast<uint32_t>(r->history + r->ask.count);
  r->account =
      accounts_.Enter(r->ask.request != nullptr ? View(r->ask.request->key) : std::string_view());
  if (r->has_session) sessions_[r->session].push_back(r->number);
  next_deadline_ = std::min(next_deadline_, r->deadline_ns);
  r->answers.reserve(r->n);
  r->answers.push_back(NewAnswer(r, 0));
  requests_.emplace(r->number, std::move(made));
  Enqueue(r->answers[0].get());
}

void Scheduler::Cancel(uint64_t group, uint64_t now) {
  bool found = false;
  for (auto& [number, request] : requests_) {
    if (request->ask.group != group) continue;
    request->cancelled = found = true;
  }
  if (!found) {
    // It may still be on its way here.
    cancelled_early_.push_back(group);
    if (cancelled_early_.size() > kCancelsKept) cancelled_early_.pop_front();
    return;
  }
  next_deadline_ = 0;
  if (!under_way()) EndLate(now);
}

void Scheduler::Enough(uint64_t group, uint32_t choice) {
  for (auto& [number, request] : requests_) {
    if (request->ask.group != group) continue;
    for (const auto& answer : request->answers) {
      if (answer->choice != choice || answer->told || answer->state == Answer::kGone) continue;
      const bool stepping = std::any_of(step_.begin(), step_.end(), [&](const Slot& slot) {
        return slot.answer == answer.get();
      });
      if (stepping) {
        answer->enough = true;
      } else {
        End(answer.get(), ENGINE_FINISH_STOP);
      }
      return;
    }
  }
}

void Scheduler::Enqueue(Answer* answer) {
  answer->state = Answer::kWaiting;
  answer->cost = Cost(*answer);
  queued_cost_ += answer->cost;
  if (!answer->returned) ++fresh_;
  queue_.push_back(answer);
}

void Scheduler::Dequeue(size_t place) {
  Answer* answer = queue_[place];
  queued_cost_ -= answer->cost;
  if (!answer->returned) --fresh_;
  queue_[place] = queue_.back();
  queue_.pop_back();
}

// The level of a request, its time of waiting counted in.
uint32_t Scheduler::Risen(const Request& r, uint64_t now) const {
  if (limits_.raise_after_ns == 0) return r.level;
  const uint64_t steps = (now - std::min(now, r.queued_ns)) / limits_.raise_after_ns;
  return r.level - static_cast<uint32_t>(std::min<uint64_t>(steps, r.level - 1));
}

// Who of the waiting is next: the most urgent level, waiting counted in; then whoever gave pages
// away; then the key that was served least; then who came first.
Scheduler::Answer* Scheduler::Best(uint64_t now, size_t* place) {
  const auto rank = [&](const Answer& a) {
    const Request& r = *a.request;
    return std::make_tuple(Risen(r, now), !a.returned, r.account->served, r.number, a.choice);
  };
  Answer* best = nullptr;
  decltype(rank(*best)) best_rank;
  for (size_t i = 0; i < queue_.size(); ++i) {
    Answer* a = queue_[i];
    if (a->hold_until_ns > now) continue;
    const Request& r = *a->request;
    if (r.has_session && sessions_.find(r.session)->second.front() != r.number) continue;
    const auto mine = rank(*a);
    if (best != nullptr && !(mine < best_rank)) continue;
    best = a;
    best_rank = mine;
    *place = i;
  }
  return best;
}

uint64_t Scheduler::PagesFree() const {
  engine_kv_stats stats = Sized<engine_kv_stats>();
  model_.pool->stats(model_.pool->self, &stats);
  return stats.pages_total - std::min(stats.pages_total, stats.pages_used);
}

// Whether its prompt would fit beside those that run, with a page for each to grow into: who comes
// in only to be thrown out again costs twice.
bool Scheduler::HasRoom(const Answer& answer) const {
  if (model_.pool == nullptr || running_.empty()) return true;
  const Request& r = *answer.request;
  const uint64_t known = answer.tokens != nullptr ? answer.tokens->size() : r.history + r.ask.count;
  const uint64_t pages = CeilDiv(known + 1, model_.pool->page_tokens) + Places(answer) - 1;
  return pages + running_.size() <= PagesFree();
}

void Scheduler::Join(uint64_t now) {
  size_t place = 0;
  while (places_ < limits_.max_batch) {
    Answer* a = Best(now, &place);
    if (a == nullptr || places_ + Places(*a) > limits_.max_batch || !HasRoom(*a)) return;
    const Status status = Begin(a);
    if (status.code() == ENGINE_FAILED_PRECONDITION && a->request->has_session) {
      a->hold_until_ns = now + kBusyWaitNs;  // somebody else works on the session
      continue;
    }
    if (status.code() == ENGINE_RESOURCE_EXHAUSTED) {
      engine_kv_stats stats = Sized<engine_kv_stats>();
      model_.pool->stats(model_.pool->self, &stats);
      if (stats.sequences != 0) return;  // room comes when one of them ends
    }
    if (!status.ok()) {
      End(a, ENGINE_FINISH_ERROR, status);
      continue;
    }
    Dequeue(place);
    a->state = Answer::kRunning;
    a->level = Risen(*a->request, now);
    places_ += Places(*a);
    const auto behind = std::upper_bound(running_.begin(), running_.end(), a,
                                         [](auto* x, auto* y) { return x->Before(*y); });
    running_.insert(behind, a);
  }
}

std::vector<int32_t> Scheduler::History(const Request& r, Status* status) const {
  std::vector<int32_t> tokens;
  uint64_t count = r.history;
  // It may have grown since the request was admitted: once more is enough, as nobody else runs it.
  for (int turn = 0; turn < 2 && status->ok(); ++turn) {
    tokens.resize(count);
    *status = Status(model_.pool->session_tokens(model_.pool->self, Str(r.session.name),
                                                 Str(r.session.salt), r.adapter, tokens.data(),
                                                 tokens.size(), &count));
    if (count <= tokens.size()) break;
  }
  tokens.resize(std::min<uint64_t>(count, tokens.size()));
  return tokens;
}

// Settles what the sequence begins with and opens it in the pool.
Status Scheduler::Begin(Answer* answer) {
  Request& r = *answer->request;
  ENGINE_RETURN_IF_ERROR(FindAdapter(&r));
  if (answer->tokens == nullptr) {
    Status status;
    std::vector<int32_t> prompt;
    if (r.has_session) prompt = History(r, &status);
    ENGINE_RETURN_IF_ERROR(status);
    r.history = prompt.size();
    const bool continues = !prompt.empty() && r.ask.continued_count != 0;
    const int32_t* ids = continues ? r.ask.continued_ids : r.ask.ids;
    prompt.insert(prompt.end(), ids, ids + (continues ? r.ask.continued_count : r.ask.count));
    ENGINE_RETURN_IF_ERROR(Fits(prompt.size(), r.max_tokens));
    r.max_tokens =
        static_cast<uint32_t>(std::min<uint64_t>(r.max_tokens, model_.context - prompt.size()));
    r.prompt = static_cast<uint32_t>(prompt.size());
    r.usage.prompt_tokens = r.prompt;
    answer->tokens = std::make_shared<std::vector<int32_t>>(std::move(prompt));
    answer->tokens->reserve(r.prompt + r.max_tokens);
    if (r.wants_scores) {
      const uint32_t told = r.has_sampling ? r.sampling.logprobs : 0;
      r.scores = std::make_shared<PromptScores>(
          r.prompt, std::min(told, kMostAlternatives + 1) - std::min(told, 1u));
    }
  }
  const bool first = !answer->returned && answer->choice == 0;
  ENGINE_RETURN_IF_ERROR(Open(answer));
  if (first) r.account->served += kWeightPrompt * (r.prompt - answer->done);
  return Status();
}

Status Scheduler::Open(Answer* answer) {
  if (model_.pool == nullptr) return Status();
  Request& r = *answer->request;
  engine_kv_open how = Sized<engine_kv_open>();
  // What was found computed would bring no scores.
  const bool share = limits_.share_prefixes && !r.wants_scores;
  how.flags = share ? 0 : ENGINE_KV_OPEN_NO_SHARING;
  how.tokens = answer->tokens->data();
  how.token_count = static_cast<uint32_t>(answer->tokens->size());
  how.adapter = r.adapter;
  how.salt = r.Salt();
  if (r.has_session) how.session = Str(r.session.name);
  engine_kv_match match = Sized<engine_kv_match>();
  ENGINE_RETURN_IF_ERROR(
      Status(model_.pool->sequence_open(model_.pool->self, &how, &answer->sequence, &match)));
  answer->open = true;
  // The last token is always computed: its logits are wanted.
  answer->done = std::min<uint64_t>(match.cached, answer->tokens->size() - 1);
  if (!answer->returned && answer->choice == 0 && !r.stepped) {
    r.usage.cached_tokens = static_cast<uint32_t>(answer->done);
    r.usage.cache_reason = match.reason;
    counts_.cached_tokens += answer->done;
  }
  return Status();
}

// The prompt of several answers is computed up to its last token: now each goes its own way.
void Scheduler::Branch(Answer* first) {
  Request& r = *first->request;
  r.branched = true;
  for (uint32_t choice = 1; choice < r.n; ++choice) {
    r.answers.push_back(NewAnswer(&r, choice));
    Answer* a = r.answers.back().get();
    a->level = first->level;
    a->tokens = std::make_shared<std::vector<int32_t>>();
    a->tokens->reserve(r.prompt + r.max_tokens);
    a->tokens->assign(first->tokens->begin(), first->tokens->begin() + r.prompt);
    Status status;
    if (model_.pool != nullptr && first->done != 0) {
      status = Status(model_.pool->sequence_fork(model_.pool->self, first->sequence, &a->sequence));
      a->open = status.ok();
      a->done = first->done;
    } else {
      status = Open(a);
    }
    if (status.ok()) {
      a->state = Answer::kRunning;
      running_.insert(std::upper_bound(running_.begin(), running_.end(), a,
                                       [](auto* x, auto* y) { return x->Before(*y); }),
                      a);
    } else {
      // No room for a copy now: it waits for its turn like one that gave its pages away.
      a->done = 0;
      a->returned = true;
      --places_;
      Enqueue(a);
    }
  }
}

}  // namespace engine::batcher
