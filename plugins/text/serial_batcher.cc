// serial_batcher: the decode loop of one sequence at a time.
// Invariant: at most one step is under way, and it belongs to current_.
#include <algorithm>
#include <cmath>

#include "engine/ext/model.h"
#include "engine/kv_pool.hpp"
#include "engine/util.hpp"
#include "nodes.h"
#include "payloads.h"

namespace engine::text {

Status SerialBatcher::EmitToken(Call& call, const Sequence& a, const SampledRow& row,
                                uint32_t finish, const Status& why) {
  auto payload = std::make_unique<Token>();
  payload->id = row.id;
  if (const engine_sampled* s = row.sampled) {
    payload->margin = s->margins[0];
    if (ENGINE_HAS(s, top_count) && s->logprobs != nullptr && !std::isnan(s->logprobs[0])) {
      payload->scored = 1;
      payload->logprob = s->logprobs[0];
      payload->owned_top_ids.assign(s->top_ids, s->top_ids + s->top_count);
      payload->owned_top_logprobs.assign(s->top_logprobs, s->top_logprobs + s->top_count);
      payload->top_ids = payload->owned_top_ids.data();
      payload->top_logprobs = payload->owned_top_logprobs.data();
      payload->top_count = s->top_count;
    }
  }
  payload->request = a.group;
  payload->choice = a.choice;
  payload->choices = a.choices;
  payload->index = static_cast<uint32_t>(a.tokens.size() - a.prompt);
  payload->finish = finish;
  payload->arrived_ns = a.arrived_ns;
  payload->made_ns = NowNs();
  if (payload->index == 0 || finish != ENGINE_FINISH_NONE) {
    payload->owned_prompt.assign(a.tokens.begin(), a.tokens.begin() + static_cast<long>(a.prompt));
    payload->prompt_ids = payload->owned_prompt.data();
    payload->prompt_count = static_cast<uint32_t>(a.prompt);
    payload->ask = a.request;
    payload->keep = a.keep;
  }
  if (finish != ENGINE_FINISH_NONE) {
    payload->owned_usage = a.usage;
    payload->owned_usage.struct_size = sizeof(engine_usage);
    payload->owned_usage.prompt_tokens = static_cast<uint32_t>(a.prompt);
    payload->owned_usage.generated_tokens = payload->index + (row.id >= 0 ? 1 : 0);
    payload->usage = &payload->owned_usage;
    payload->error_code = why.code();
    payload->owned_error = std::string(why.message());
    payload->error = Str(payload->owned_error);
  }
  return token.Emit(call, std::move(payload), a.group);
}

// Ends the current answer and begins the next.
Status SerialBatcher::End(Call& call, uint32_t finish, const Status& why, const SampledRow& row) {
  Status status = EmitToken(call, *current_, row, finish, why);
  if (current_->open) {
    Status closed(pool_->sequence_close(pool_->self, current_->sequence, 0));
    if (status.ok()) status = std::move(closed);
  }
  current_.reset();
  if (!status.ok() || waiting_.empty()) return status;
  return Start(call);
}

Status SerialBatcher::Start(Call& call) {
  current_ = std::move(waiting_.front());
  waiting_.pop_front();
  // Resolved for each sequence: the model may have been replaced since the last one.
  pool_ = KvPoolOf(model.Get(call));
  if (current_->request != nullptr) {
    const Status found(ThisHost().model->adapter_find(model.Get(call), current_->request->adapter,
                                                      &current_->adapter));
    if (!found.ok()) return End(call, ENGINE_FINISH_ERROR, found);
  }
  current_->usage.queued_ns = NowNs() - std::min(NowNs(), current_->arrived_ns);
  if (pool_ != nullptr) {
    engine_kv_open how = Sized<engine_kv_open>();
    how.flags = ENGINE_KV_OPEN_NO_SHARING;
    how.tokens = current_->tokens.data();
    how.token_count = static_cast<uint32_t>(current_->tokens.size());
    how.adapter = current_->adapter;
    engine_kv_match match = Sized<engine_kv_match>();
    const Status status(pool_->sequence_open(pool_->self, &how, &current_->sequence, &match));
    if (!status.ok()) return End(call, ENGINE_FINISH_ERROR, status);
    current_->open = true;
    current_->usage.cache_reason = match.reason;
  }
  return NextStep(call);
}

Status SerialBatcher::NextStep(Call& call) {
  Sequence& a = *current_;
  if (a.cancelled) {
    return End(call, ENGINE_FINISH_CANCELLED, Error(ENGINE_CANCELLED, "whoever asked is gone"));
  }
  if (NowNs() >= a.deadline_ns) {
    return End(call, ENGINE_FINISH_TIMEOUT,
               Error(ENGINE_DEADLINE_EXCEEDED, "not finished in time: ", a.tokens.size() - a.prompt,
                     " of at most ", a.max_tokens, " tokens were generated"));
  }
  size_t count = a.tokens.size() - a.done;
  if (pool_ != nullptr) {
    count = std::min<size_t>(count, options.prefill_chunk);
    const Status status(pool_->sequence_reserve(pool_->self, a.sequence, a.done + count));
    if (!status.ok()) return End(call, ENGINE_FINISH_ERROR, status);
  }
  auto payload = std::make_unique<Step>();
  payload->owned_tokens.assign(a.tokens.begin() + static_cast<long>(a.done),
                               a.tokens.begin() + static_cast<long>(a.done + count));
  engine_step_sequence s = Sized<engine_step_sequence>();
  s.request = a.group | uint64_t{a.choice} << 48;
  s.tokens = payload->owned_tokens.data();
  s.token_count = static_cast<uint32_t>(count);
  s.start = static_cast<uint32_t>(a.done);
  s.logits_count = a.done + count == a.tokens.size() ? 1 : 0;
  s.adapter = a.adapter;
  s.prompt_count = static_cast<uint32_t>(a.prompt);
  payload->owned_history.assign(a.tokens.begin(), a.tokens.begin() + s.start);
  s.history = payload->owned_history.data();
  if (a.request != nullptr && a.request->sampling != nullptr) {
    s.sampling = a.request->sampling;
    payload->keep = a.keep;
  }
  if (pool_ != nullptr) {
    const int32_t* blocks = nullptr;
    uint32_t block_count = 0;
    ENGINE_RETURN_IF_ERROR(
        Status(pool_->sequence_blocks(pool_->self, a.sequence, &blocks, &block_count)));
    payload->owned_blocks.assign(blocks, blocks + block_count);
    s.blocks = payload->owned_blocks.data();
    s.block_count = block_count;
    a.done += count;
  }
  payload->owned_sequences = {s};
  payload->sequences = payload->owned_sequences.data();
  payload->count = 1;
  return step.Emit(call, std::move(payload), a.group);
}

Status SerialBatcher::OnSampled(Call& call, const engine_sampled& sampled) {
  Sequence& a = *current_;
  if (pool_ != nullptr) {
    const Status status(
        pool_->sequence_written(pool_->self, a.sequence, a.tokens.data() + a.written, a.done));
    a.written = a.done;
    if (!status.ok()) return End(call, ENGINE_FINISH_ERROR, status);
    if (a.done < a.tokens.size()) return NextStep(call);
  }
  if (sampled.rows != 1 || sampled.requests[0] != (a.group | uint64_t{a.choice} << 48)) {
    return End(call, ENGINE_FINISH_ERROR,
               Error(ENGINE_INTERNAL, "the sampled token belongs to another sequence"));
  }
  if (a.enough) return End(call, ENGINE_FINISH_STOP, Status());
  const int32_t id = sampled.ids[0];
  const SampledRow row{id, &sampled};
  engine_model_info info = Sized<engine_model_info>();
  ThisHost().model->info(model.Get(call), &info);
  if (Stops(call, a, id)) return End(call, ENGINE_FINISH_STOP, Status(), row);
  const bool last = a.tokens.size() - a.prompt + 1 >= a.max_tokens ||
                    a.tokens.size() + 1 >= static_cast<size_t>(info.context);
  if (last) return End(call, ENGINE_FINISH_LENGTH, Status(), row);
  ENGINE_RETURN_IF_ERROR(EmitToken(call, a, row, ENGINE_FINISH_NONE, Status()));
  a.tokens.push_back(id);
  return NextStep(call);
}

bool SerialBatcher::Stops(Call& call, const Sequence& a, int32_t id) const {
  const engine_sampling& s = a.sampling;
  if (std::find(s.stop_ids, s.stop_ids + s.stop_count, id) != s.stop_ids + s.stop_count) {
    return true;
  }
  return !options.ignore_eos && (s.flags & ENGINE_SAMPLING_IGNORE_END) == 0 &&
         ThisHost().model->token_stops(model.Get(call), id) != 0;
}

// A prompt waits as many times as answers are asked for.
Status SerialBatcher::TakeIn(Call& call, const engine_packet* packet) {
  Sequence first;
  first.group = ThisHost().nodes->packet_group(packet);
  if (const engine_error_payload* error = fresh.Failure(call)) {
    // The request failed before it got here; its end is told like any other.
    return EmitToken(call, first, {}, ENGINE_FINISH_ERROR,
                     Status(static_cast<engine_code>(error->code), View(error->message)));
  }
  const engine_tokens* tokens = fresh.Get(call);
  const engine_request* r = tokens->request;
  first.request = r;
  first.keep = std::make_shared<Packet>(Share(packet));
  first.prompt = tokens->count;
  first.tokens.assign(tokens->ids, tokens->ids + tokens->count);
  first.arrived_ns = tokens->arrived_ns;
  first.max_tokens = r != nullptr && r->max_tokens != 0 ? r->max_tokens : options.max_tokens;
  if (r != nullptr && r->timeout_us != 0) {
    first.deadline_ns = tokens->arrived_ns + std::min(r->timeout_us, UINT64_MAX / 4000) * 1000;
  }
  const engine_request all = r != nullptr ? Known(*r) : Sized<engine_request>();
  if (all.sampling != nullptr) first.sampling = Known(*all.sampling);
  Status wrong;
  if (const auto early = std::find(cancelled_early_.begin(), cancelled_early_.end(), first.group);
      early != cancelled_early_.end()) {
    cancelled_early_.erase(early);
    return EmitToken(call, first, {}, ENGINE_FINISH_CANCELLED,
                     Error(ENGINE_CANCELLED, "the request was cancelled before it began"));
  }
  if (all.form != ENGINE_FORM_FREE && first.sampling.guide == nullptr) {
    wrong = Error(ENGINE_FAILED_PRECONDITION,
                  "the request asks for a form of its answer, and nothing in this pipeline keeps "
                  "answers to forms: put a node `constrain` before serial_batcher");
  } else if ((all.flags & ENGINE_REQUEST_SCORE_PROMPT) != 0) {
    wrong = Error(ENGINE_UNIMPLEMENTED, "serial_batcher scores no prompts: use batcher");
  } else if (r != nullptr && r->session.size != 0) {
    wrong = Error(ENGINE_UNIMPLEMENTED,
                  "the request names a session; serial_batcher keeps none: use batcher");
  } else if (r != nullptr && r->n > options.max_answers) {
    wrong = Error(ENGINE_INVALID_ARGUMENT, r->n, " answers were asked for; at most ",
                  options.max_answers, " are given (max_answers)");
  }
  if (!wrong.ok()) return EmitToken(call, first, {}, ENGINE_FINISH_ERROR, wrong);
  first.choices = r != nullptr && r->n != 0 ? r->n : 1;
  for (uint32_t choice = 0; choice < first.choices; ++choice) {
    waiting_.push_back(std::make_unique<Sequence>(first));
    waiting_.back()->choice = choice;
  }
  return current_ == nullptr ? Start(call) : Status();
}

Status SerialBatcher::Process(Call& call) {
  std::lock_guard lock(mutex_);
  if (const engine_packet* packet = fresh.Raw(call)) return TakeIn(call, packet);
  if (const engine_cancel* c = cancel.Get(call)) {
    // What waits is ended when its turn comes.
    const engine_cancel how = Known(*c);
    const auto mark = [&](Sequence* answer) {
      if (answer == nullptr || answer->group != how.group) return;
      if (how.how == ENGINE_CANCEL_ENOUGH) {
        answer->enough |= answer->choice == how.choice;
      } else {
        answer->cancelled = true;
      }
    };
    const auto there = [&](const auto& answer) {
      return answer != nullptr && answer->group == how.group;
    };
    if (!there(current_) && std::none_of(waiting_.begin(), waiting_.end(), there) &&
        how.how == ENGINE_CANCEL_ABANDON) {
      cancelled_early_.push_back(how.group);  // its prompt may still be on its way
      if (cancelled_early_.size() > kCancelsKept) cancelled_early_.pop_front();
    }
    for (const auto& answer : waiting_) mark(answer.get());
    mark(current_.get());
    return Status();
  }
  if (current_ == nullptr) {
    return Error(ENGINE_INTERNAL, "a sampled token came back, but no sequence is running");
  }
  if (const engine_error_payload* error = running.Failure(call)) {
    return End(call, ENGINE_FINISH_ERROR,
               Status(static_cast<engine_code>(error->code), View(error->message)));
  }
  return OnSampled(call, *running.Get(call));
}

Status SerialBatcher::Close(Call&) {
  Status status;
  if (current_ != nullptr && current_->open) {
    status = Status(pool_->sequence_close(pool_->self, current_->sequence, 0));
  }
  current_.reset();
  waiting_.clear();
  return status;
}

}  // namespace engine::text
