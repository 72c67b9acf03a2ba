// The scheduler's own records. Private to its source files.
#ifndef PLUGINS_BATCHER_SEQUENCE_H_
#define PLUGINS_BATCHER_SEQUENCE_H_

#include "scheduler.h"

namespace engine::batcher {

// A prompt that was admitted, with its answers.
struct Scheduler::Request {
  Ask ask;
  uint64_t number = 0;  // order of arrival
  uint64_t queued_ns = 0;
  uint64_t deadline_ns = UINT64_MAX;
  uint64_t timeout_ns = 0;
  uint32_t level = 1;
  uint32_t n = 1;
  uint32_t max_tokens = 0;
  uint64_t history = 0;   // tokens of the session, as far as known
  uint32_t prompt = 0;    // tokens in front of each answer; 0 until it began
  bool branched = false;  // all n answers stand; before, answers[0] stands for them
  bool stepped = false;   // was part of a step
  bool cancelled = false;
  Account* account = nullptr;
  uint32_t adapter = 0;  // its number in the model of the moment; 0: none
  bool has_session = false;
  Session session;
  engine_sampling sampling = Sized<engine_sampling>();
  bool has_sampling = false;
  engine_usage usage = Sized<engine_usage>();  // what its answers share
  uint32_t left = 0;                           // of answers, that have not left
  bool wants_scores = false;
  std::shared_ptr<PromptScores> scores;  // made when it begins
  std::vector<std::unique_ptr<Answer>> answers;

  engine_str Salt() const { return ask.request != nullptr ? ask.request->salt : engine_str{}; }
};

// One sequence.
struct Scheduler::Answer {
  enum State { kWaiting, kRunning, kGone };
  Request* request = nullptr;
  uint32_t choice = 0;
  uint32_t level = 1;  // while it runs: what it had risen to when it joined
  State state = kWaiting;
  bool open = false;      // `sequence` is
  bool returned = false;  // gave its pages away
  bool enough = false;    // ends when the step under way is back
  bool told = false;      // its end; it stays for a step so that its session gets the last token
  TokenBuffer tokens;     // prompt, then what was generated; null until it began
  uint64_t done = 0;      // positions that the pool holds
  uint64_t sequence = 0;
  uint64_t last_step = 0;
  uint64_t hold_until_ns = 0;  // its session is busy elsewhere
  uint64_t cost = 0;           // as counted in queued_cost_
  uint32_t preemptions = 0, drafted = 0, accepted = 0;

  bool Before(const Answer& other) const {
    if (level != other.level) return level < other.level;
    if (request->number != other.request->number) return request->number < other.request->number;
    return choice < other.choice;
  }
  uint32_t Generated() const {
    return tokens == nullptr ? 0 : static_cast<uint32_t>(tokens->size() - request->prompt);
  }
  // Tokens to compute before something new is known. A prompt with several answers stops short of
  // its last token, which each answer computes for itself: its own draw follows.
  uint64_t Pending() const { return tokens->size() - (request->branched ? 0 : 1) - done; }
  uint64_t StreamId() const { return request->ask.group | uint64_t{choice} << 48; }
};

// Of served tokens, for fairness between keys.
inline constexpr uint64_t kWeightPrompt = 1, kWeightGenerated = 2;
inline constexpr uint32_t kMostAlternatives = 128;  // that a prompt's tokens are told with
inline constexpr uint64_t kBusyWaitNs = 2'000'000;  // for pages or a session that others hold

}  // namespace engine::batcher

#endif  // PLUGINS_BATCHER_SEQUENCE_H_
