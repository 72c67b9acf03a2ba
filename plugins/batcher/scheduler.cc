// Steps: who takes part with how many tokens, whose pages go, and what comes back.
#include "scheduler.h"

#include <algorithm>

#include "sequence.h"

namespace engine::batcher {

Scheduler::Scheduler(const Limits& limits, Listener* listener)
    : limits_(limits), listener_(listener) {}
Scheduler::~Scheduler() = default;

// Another model, or another pool: what the old one held is void, and it may be gone.
void Scheduler::Use(const ModelView& model) {
  const bool same = model.identity == model_.identity && model.pool == model_.pool;
  const std::vector<Answer*> held = same ? std::vector<Answer*>() : running_;
  for (Answer* answer : held) answer->open = false;
  model_ = model;
  for (Answer* answer : held) Preempt(answer);
  for (Slot& slot : step_) {
    if (!same) slot.answer = nullptr;  // its result is void too
  }
}

// Gives the pages back; the sequence will be computed again.
void Scheduler::Preempt(Answer* answer) {
  if (answer->told) return Leave(answer, true);  // only its session's last token was missing
  if (answer->enough) return End(answer, ENGINE_FINISH_STOP);
  Release(answer, false);
  std::erase(running_, answer);
  std::erase(suspects_, answer);
  places_ -= Places(*answer);
  answer->done = 0;
  answer->returned = true;
  ++answer->preemptions;
  ++counts_.preemptions;
  Enqueue(answer);
}

void Scheduler::Release(Answer* answer, bool keep_session) {
  if (!std::exchange(answer->open, false)) return;
  const bool keep = keep_session && answer->request->has_session;
  // A pool that cannot close has nothing that could be done about it here.
  const Status ignored(model_.pool->sequence_close(model_.pool->self, answer->sequence,
                                                   keep ? ENGINE_KV_CLOSE_KEEP : 0));
}

// The sequence goes; with the last answer, its request. REQUIRES: its end was told.
void Scheduler::Leave(Answer* answer, bool keep_session) {
  Release(answer, keep_session);
  if (answer->state == Answer::kRunning) {
    std::erase(running_, answer);
    places_ -= Places(*answer);
  } else if (answer->state == Answer::kWaiting) {
    const auto at = std::find(queue_.begin(), queue_.end(), answer);
    if (at != queue_.end()) Dequeue(static_cast<size_t>(at - queue_.begin()));
  }
  std::erase(suspects_, answer);
  answer->state = Answer::kGone;
  Request& r = *answer->request;
  if (--r.left != 0) return;
  accounts_.Leave(r.account);
  if (r.has_session) {
    const auto at = sessions_.find(r.session);
    std::erase(at->second, r.number);
    if (at->second.empty()) sessions_.erase(at);
  }
  requests_.erase(r.number);
}

// Tells the end of an answer and lets go of it. An end of a request that has not branched yet is
// the end of all its answers.
void Scheduler::End(Answer* answer, engine_finish finish, const Status& status,
                    const SampledRow& row) {
  if (answer->told) return Leave(answer, false);
  Request& r = *answer->request;
  engine_usage usage = r.usage;
  const bool by_token = finish == ENGINE_FINISH_STOP && row.id >= 0;
  usage.generated_tokens = answer->Generated() + (by_token ? 1 : 0);
  usage.preemptions = answer->preemptions;
  usage.drafted_tokens = answer->drafted;
  usage.accepted_tokens = answer->accepted;
  Given given = About(*answer, row);
  given.index = answer->Generated() - (finish == ENGINE_FINISH_LENGTH ? 1 : 0);
  given.finish = finish;
  given.code = status.code();
  given.error = status.message();
  given.usage = &usage;
  for (uint32_t choice = answer->choice; choice < r.n; ++choice) {
    given.choice = choice;
    ++counts_.ended;
    if (finish == ENGINE_FINISH_TIMEOUT) ++counts_.timeouts;
    if (finish == ENGINE_FINISH_CANCELLED) ++counts_.cancelled;
    if (finish == ENGINE_FINISH_ERROR) ++counts_.errors;
    listener_->Give(given);
    if (r.branched) break;
  }
  const bool normal = finish == ENGINE_FINISH_STOP || finish == ENGINE_FINISH_LENGTH;
  if (normal) {
    const double share = static_cast<double>(usage.generated_tokens) / r.max_tokens;
    answered_share_ += 0.05 * (std::min(share, 1.0) - answered_share_);
    // The pool holds all but a last token that was never fed. A session needs it.
    if (r.has_session && answer->open && answer->done < answer->tokens->size()) {
      answer->told = true;
      return;
    }
  }
  Leave(answer, normal);
}

// Ends what was cancelled and what is late. Between two steps only.
void Scheduler::EndLate(uint64_t now) {
  if (now < next_deadline_) return;
  std::vector<Request*> over;
  next_deadline_ = UINT64_MAX;
  for (const auto& [number, request] : requests_) {
    if (request->cancelled || now >= request->deadline_ns) {
      over.push_back(request.get());
    } else {
      next_deadline_ = std::min(next_deadline_, request->deadline_ns);
    }
  }
  // In the order of arrival, so that the same run tells the same story.
  std::sort(over.begin(), over.end(), [](auto* a, auto* b) { return a->number < b->number; });
  for (Request* r : over) {
    std::vector<Answer*> answers;
    for (const auto& answer : r->answers) {
      if (answer->state != Answer::kGone && !answer->told) answers.push_back(answer.get());
    }
    const bool cancelled = r->cancelled;
    for (Answer* answer : answers) {
      End(answer, cancelled ? ENGINE_FINISH_CANCELLED : ENGINE_FINISH_TIMEOUT,
          cancelled ? Error(ENGINE_CANCELLED, "whoever asked is gone")
                    : Error(ENGINE_DEADLINE_EXCEEDED, "not finished within ",
                            r->timeout_ns / 1'000'000, " ms: ", answer->Generated(), " of at most ",
                            r->max_tokens, " tokens were generated",
                            answer->state == Answer::kWaiting ? ", and it was waiting" : ""));
    }
  }
}

// Tokens of each running sequence for the next step, in the total order.
void Scheduler::Choose(std::vector<Slot>* chosen) {
  chosen->clear();
  const bool whole = model_.pool == nullptr;
  uint32_t left = limits_.max_step_tokens;
  const auto size = [&](const Answer& a) {
    return static_cast<uint32_t>(whole ? a.tokens->size() : a.Pending());
  };
  if (!suspects_.empty()) {
    Answer* a = suspects_.front();
    chosen->push_back({a, whole ? size(*a) : std::min(size(*a), left)});
  } else if (whole) {
    // Without a KV store every step takes the whole sequence: take turns.
    std::vector<Answer*> order = running_;
    std::stable_sort(order.begin(), order.end(),
                     [](auto* a, auto* b) { return a->last_step < b->last_step; });
    for (Answer* a : order) {
      if (!chosen->empty() && size(*a) > left) continue;
      left -= std::min(left, size(*a));
      chosen->push_back({a, size(*a)});
    }
  } else {
    uint32_t drafting = 0;
    for (Answer* a : running_) {
      chosen->push_back({a, size(*a) == 1 ? 1u : 0u});
      left -= chosen->back().take;
    }
    for (Slot& slot : *chosen) {
      if (slot.take != 0) {
        drafting += slot.answer->Generated() != 0 ? 1 : 0;
        continue;
      }
      slot.take = std::min(size(*slot.answer), left);
      left -= slot.take;
    }
    for (Slot& slot : *chosen) {
      const Answer& a = *slot.answer;
      if (limits_.draft_room == 0 || a.request->scores != nullptr || size(a) != 1 ||
          a.Generated() == 0 || a.told)
        continue;
      const uint64_t most = std::min<uint64_t>(a.request->max_tokens - a.Generated() - 1,
                                               model_.context - a.tokens->size());
      slot.room =
          static_cast<uint32_t>(std::min<uint64_t>({limits_.draft_room, left / drafting, most}));
    }
    std::erase_if(*chosen, [](const Slot& slot) { return slot.take == 0; });
  }
  for (Slot& slot : *chosen) {
    const Answer& a = *slot.answer;
    const Request& r = *a.request;
    const uint64_t start = whole ? 0 : a.done, end = start + slot.take;
    const bool last = end == a.tokens->size();
    slot.logits = last && r.branched && !a.told ? 1 : 0;
    slot.scored = 0;
    if (r.scores == nullptr || r.scores->complete() || a.Generated() != 0) continue;
    // From the first place that has no score yet.
    const uint64_t first = std::max<uint64_t>(start, r.scores->known - 1);
    const uint64_t scored_end = std::min<uint64_t>(end, r.prompt - 1);
    if (first >= scored_end) continue;
    slot.scored = static_cast<uint32_t>(scored_end - first);
    slot.logits = static_cast<uint32_t>(end - first);
  }
}

// Makes room for what was chosen, taking pages from the last sequences where it must. Slots whose
// sequence lost its own are left out.
void Scheduler::ReservePages(std::vector<Slot>* chosen) {
  const engine_kv_pool* pool = model_.pool;
  if (pool == nullptr) return;
  for (Slot& slot : *chosen) {
    while (slot.answer != nullptr) {
      Answer* a = slot.answer;
      const Status status(
          pool->sequence_reserve(pool->self, a->sequence, a->done + slot.take + slot.room));
      if (status.ok()) break;
      if (slot.room != 0) {
        slot.room = 0;
        continue;
      }
      Answer* last = running_.back();
      engine_kv_stats stats = Sized<engine_kv_stats>();
      pool->stats(pool->self, &stats);
      if (status.code() != ENGINE_RESOURCE_EXHAUSTED || (last == a && stats.sequences <= 1)) {
        // Alone, and still there is no room: it will never fit.
        slot.answer = nullptr;
        End(a, ENGINE_FINISH_ERROR, status);
        continue;
      }
      for (Slot& other : *chosen) {
        if (other.answer == last) other.answer = nullptr;
      }
      Preempt(last);
    }
  }
  std::erase_if(*chosen, [](const Slot& slot) { return slot.answer == nullptr; });
}

void Scheduler::Build(const std::vector<Slot>& chosen, StepParts* parts) {
  parts->sequences.reserve(chosen.size());
  parts->sampling.reserve(chosen.size());
  parts->buffers.reserve(chosen.size());
  size_t known = 0;
  for (const Slot& slot : chosen) known += slot.scored != 0 ? slot.logits : 0;
  parts->known.reserve(known);
  for (const Slot& slot : chosen) {
    Answer& a = *slot.answer;
    const uint64_t start = model_.pool == nullptr ? 0 : a.done;
    engine_step_sequence s = Sized<engine_step_sequence>();
    s.request = a.StreamId();
    s.tokens = a.tokens->data() + start;
    s.token_count = slot.take;
    s.start = static_cast<uint32_t>(start);
    s.logits_count = slot.logits;
    s.adapter = a.request->adapter;
    s.room = slot.room;
    s.history = a.tokens->data();
    s.prompt_count = a.request->prompt;
    if (a.request->has_sampling) {
      parts->sampling.push_back(a.request->sampling);
      parts->keep.push_back(a.request->ask.keep);
      s.sampling = &parts->sampling.back();
    }
    if (slot.scored != 0) {
      // What follows each of them is in the prompt, but for the last.
      s.known = parts->known.data() + parts->known.size();
      const uint64_t first = start + slot.take - slot.logits;
      for (uint64_t i = first; i < start + slot.take; ++i) {
        parts->known.push_back(i + 1 < a.request->prompt ? (*a.tokens)[i + 1] : -1);
      }
    }
    if (model_.pool != nullptr) {
      const int32_t* blocks = nullptr;
      // The sequence was reserved just now: it has a table.
      const Status ignored(
          model_.pool->sequence_blocks(model_.pool->self, a.sequence, &blocks, &s.block_count));
      parts->blocks.insert(parts->blocks.end(), blocks, blocks + s.block_count);
    }
    parts->sequences.push_back(s);
    parts->buffers.push_back(a.tokens);
    a.last_step = counts_.steps + 1;
  }
  const int32_t* blocks = parts->blocks.data();
  for (engine_step_sequence& s : parts->sequences) {
    s.blocks = s.block_count != 0 ? blocks : nullptr;
    blocks += s.block_count;
  }
}

Scheduler::Next Scheduler::Plan(uint64_t now, StepParts* parts, uint64_t* wait_ns) {
  EndLate(now);
  if (running_.empty() && limits_.gather_ns != 0 && !queue_.empty()) {
    uint64_t oldest = UINT64_MAX;
    uint32_t places = 0;
    for (const Answer* a : queue_) {
      oldest = std::min(oldest, a->request->queued_ns);
      places += Places(*a);
    }
    if (places < limits_.max_batch && now - std::min(now, oldest) < limits_.gather_ns) {
      *wait_ns = limits_.gather_ns - (now - std::min(now, oldest));
      // A deadline may come first.
      *wait_ns = std::min(*wait_ns, next_deadline_ - std::min(now, next_deadline_));
      return Next::kWait;
    }
  }
  *wait_ns = kBusyWaitNs;
  for (uint64_t ended = counts_.ended + 1; ended != counts_.ended;) {
    ended = counts_.ended;
    if (suspects_.empty()) Join(now);
    for (size_t i = 0; i < running_.size(); ++i) {
      Answer* a = running_[i];
      if (!a->request->branched && (model_.pool == nullptr || a->Pending() == 0)) Branch(a);
    }
    if (running_.empty()) continue;
    Choose(&chosen_);
    ReservePages(&chosen_);
    if (chosen_.empty()) continue;
    Build(chosen_, parts);
    step_.swap(chosen_);
    for (const Slot& slot : step_) {
      Request& r = *slot.answer->request;
      if (std::exchange(r.stepped, true)) continue;
      const uint64_t from = r.ask.arrived_ns != 0 ? r.ask.arrived_ns : r.queued_ns;
      r.usage.queued_ns = now - std::min(now, from);
    }
    ++counts_.steps;
    step_began_ns_ = now;
    return Next::kStep;
  }
  return queue_.empty() && running_.empty() ? Next::kIdle : Next::kWait;
}

void Scheduler::Measure(uint64_t now) {
  double rows = 0;
  for (const Slot& slot : step_) rows += slot.take;
  decayed_rows_ = 0.95 * decayed_rows_ + rows;
  decayed_ns_ = 0.95 * decayed_ns_ + static_cast<double>(now - std::min(now, step_began_ns_));
}

void Scheduler::Finished(const engine_sampled& sampled, uint64_t now) {
  if (step_.empty()) return;
  if (step_[0].answer == nullptr) return step_.clear();  // of a model that was replaced
  // All rows are told apart before any of them counts.
  uint32_t row = 0;
  bool whole = true;
  for (Slot& slot : step_) {
    const uint64_t start = model_.pool == nullptr ? 0 : slot.answer->done;
    const uint64_t position = start + slot.take + 1 - slot.logits;
    uint32_t rows = 0;
    while (slot.logits != 0 && rows < slot.logits + slot.room && row + rows < sampled.rows &&
           sampled.requests[row + rows] == slot.answer->StreamId() &&
           sampled.positions[row + rows] == position + rows) {
      ++rows;
    }
    whole &= rows >= slot.logits;
    slot.logits = rows;
    row += rows;
  }
  if (!whole || row != sampled.rows) {
    return Failed(Error(ENGINE_INTERNAL, "a step of ", step_.size(), " sequences came back with ",
                        sampled.rows, " rows, which are not those that it asked for"),
                  now);
  }
  Measure(now);
  std::vector<Slot> step;
  step.swap(step_);
  if (!suspects_.empty() && suspects_.front() == step[0].answer) suspects_.pop_front();
  row = 0;
  for (const Slot& slot : step) Take(slot, sampled, &row);
  step.clear();
  step_.swap(step);  // keeps its memory
}

// One sequence's part of what came back.
void Scheduler::Take(const Slot& slot, const engine_sampled& sampled, uint32_t* row) {
  Answer* a = slot.answer;
  Request& r = *a->request;
  for (uint32_t i = 0; i < slot.scored; ++i) r.scores->Take(sampled, *row + i);
  const uint32_t first = *row + slot.scored;
  const uint32_t chosen = a->enough ? 0 : slot.logits - slot.scored;
  *row += slot.logits;
  const size_t before = a->tokens->size();
  const uint64_t was_done = a->done;
  uint64_t done = was_done + slot.take;
  engine_finish finish = ENGINE_FINISH_NONE;
  uint32_t used = 0;  // rows after the first that count: their drafted input was right
  if (chosen != 0) {
    for (;; ++used) {
      const int32_t id = sampled.ids[first + used];
      if (Stops(r, id)) {
        finish = ENGINE_FINISH_STOP;
      } else {
        a->tokens->push_back(id);
        const bool full = a->tokens->size() >= model_.context;
        if (full || a->Generated() >= r.max_tokens) finish = ENGINE_FINISH_LENGTH;
      }
      const uint32_t next = first + used + 1;
      if (finish != ENGINE_FINISH_NONE || used + 1 == chosen || sampled.inputs == nullptr ||
          sampled.inputs[next] != id) {
        break;
      }
    }
    done += used;
    a->drafted += chosen - 1;
    a->accepted += used;
    counts_.drafted_tokens += chosen - 1;
    counts_.accepted_tokens += used;
  }
  if (before == r.prompt && was_done < r.prompt) {
    counts_.prompt_tokens += std::min<uint64_t>(done, r.prompt) - was_done;
  }
  Status status;
  if (model_.pool != nullptr) {
    status = Status(model_.pool->sequence_written(model_.pool->self, a->sequence,
                                                  a->tokens->data() + was_done, done));
    a->done = done;
  }
  if (a->told) {
    return Leave(a, status.ok());
  }
  if (!status.ok()) {
    a->tokens->resize(before);
    return End(a, ENGINE_FINISH_ERROR, status);
  }
  if (a->enough) return End(a, ENGINE_FINISH_STOP);
  const size_t made = a->tokens->size() - before;
  // Told one after the other, each with its own place.
  for (uint32_t i = 0; i < chosen && i <= used; ++i) {
    const SampledRow taken{sampled.ids[first + i], &sampled, first + i};
    if (i == used && finish != ENGINE_FINISH_NONE) {
      if (i < made) ++counts_.generated_tokens;
      End(a, finish, Status(), taken);
      break;
    }
    GiveToken(a, taken, static_cast<uint32_t>(before - r.prompt) + i);
  }
}

bool Scheduler::Stops(const Request& r, int32_t id) const {
  if (r.has_sampling) {
    const engine_sampling& s = r.sampling;
    if (std::find(s.stop_ids, s.stop_ids + s.stop_count, id) != s.stop_ids + s.stop_count) {
      return true;
    }
    if ((s.flags & ENGINE_SAMPLING_IGNORE_END) != 0) return false;
  }
  return !limits_.ignore_eos && model_.stops(model_.of, id);
}

Given Scheduler::About(const Answer& answer, const SampledRow& row) const {
  Given given;
  given.ask = &answer.request->ask;
  given.choice = answer.choice;
  given.choices = answer.request->n;
  given.id = row.id;
  if (row.sampled != nullptr && row.sampled->margins != nullptr) {
    given.margin = row.sampled->margins[row.row];
  }
  given.tokens = answer.tokens;
  given.prompt = answer.request->prompt;
  given.sampled = row.sampled;
  given.row = row.row;
  given.scores = answer.request->scores;
  return given;
}

void Scheduler::GiveToken(Answer* answer, const SampledRow& row, uint32_t index) {
  answer->request->account->served += kWeightGenerated;
  ++counts_.generated_tokens;
  Given given = About(*answer, row);
  given.index = index;
  listener_->Give(given);
}

// A step that failed may have failed for one of its sequences: each is tried alone, and the one
// that fails again has failed.
void Scheduler::Failed(const Status& status, uint64_t now) {
  if (step_.empty()) return;
  ++counts_.failed_steps;
  Measure(now);
  std::vector<Slot> step;
  step.swap(step_);
  if (step[0].answer == nullptr) return;
  if (step.size() == 1) return End(step[0].answer, ENGINE_FINISH_ERROR, status);
  for (const Slot& slot : step) suspects_.push_back(slot.answer);
}

void Scheduler::Close() {
  for (const auto& [number, request] : requests_) {
    for (const auto& answer : request->answers) Release(answer.get(), false);
  }
  queue_.clear();
  running_.clear();
  suspects_.clear();
  step_.clear();
  sessions_.clear();
  requests_.clear();
}

}  // namespace engine::batcher
