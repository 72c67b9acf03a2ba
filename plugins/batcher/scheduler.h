// Who computes what in the next step: joining and leaving, priorities, pages, deadlines. Pure: it
// reaches the world through a table of the KV pool and a Listener, and time is told to it.
//
// Invariants:
//  - at most one step is under way; between Plan (kStep) and Finished or Failed no sequence of it
//    is closed, and its tokens do not move;
//  - each answer ends exactly once, and a request that was never admitted has one end;
//  - sequences are in one total order (level when it
//    joined, arrival, choice). Pages are taken from the last for
//    the sake of an earlier one, never the other way: so the first always gets on;
//  - of the requests of one session only the one that came first runs.
#ifndef PLUGINS_BATCHER_SCHEDULER_H_
#define PLUGINS_BATCHER_SCHEDULER_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "accounts.h"
#include "engine/ext/kv.h"
#include "engine/ext/model.h"
#include "engine/growth.hpp"
#include "engine/status.hpp"
#include "engine/types.h"
#include "scores.h"

namespace engine::batcher {

struct Limits {
  uint32_t max_batch = 32;
  uint32_t max_step_tokens = 256;  // at least max_batch
  uint32_t max_queue = 256;
  uint32_t max_tokens = 64;  // of a request that does not say
  uint32_t max_answers = 8;
  uint32_t levels = 3, default_level = 2;
  uint64_t raise_after_ns = 0;  // 0: never
  uint64_t gather_ns = 0;       // an idle batcher waits so long for a fuller batch
  uint64_t timeout_ns = 0;      // of a request that does not say; 0: none
  uint32_t draft_room = 0;
  bool ignore_eos = false;
  bool share_prefixes = true;
};

// A sequence's tokens: room for all it may ever hold is reserved when it begins, so that a step
// points into them while later tokens are appended.
using TokenBuffer = std::shared_ptr<std::vector<int32_t>>;

// A prompt as it came; what it points to lives as long as `keep`.
struct Ask {
  uint64_t group = 0;
  uint64_t arrived_ns = 0;
  const int32_t* ids = nullptr;
  uint64_t count = 0;
  const int32_t* continued_ids = nullptr;
  uint64_t continued_count = 0;
  const engine_request* request = nullptr;  // may be null
  std::shared_ptr<void> keep;
};

// A token, or the end of an answer.
struct Given {
  const Ask* ask = nullptr;
  uint32_t choice = 0, choices = 1;
  int32_t id = -1;
  uint32_t index = 0;
  engine_finish finish = ENGINE_FINISH_NONE;
  float margin = 0;
  TokenBuffer tokens;  // the prompt in front; null when the request never began
  uint32_t prompt = 0;
  engine_code code = ENGINE_OK;
  std::string_view error;  // for the time of the call
  uint64_t retry_after_us = 0;
  const engine_usage* usage = nullptr;  // with a finish
  // The row that the token was chosen in, for its log-probability; null: none.
  const engine_sampled* sampled = nullptr;
  uint32_t row = 0;
  std::shared_ptr<PromptScores> scores;  // with index 0 or a finish, where they were asked for
};

// The token of a row; null: no token.
struct SampledRow {
  int32_t id = -1;
  const engine_sampled* sampled = nullptr;
  uint32_t row = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;
  virtual void Give(const Given& given) = 0;
};

// The model as far as it matters here. May change between two steps: then all that was computed
// is computed again.
struct ModelView {
  const void* identity = nullptr;
  const engine_kv_pool* pool = nullptr;  // null: the model keeps no keys and values
  uint64_t context = 0;
  const void* of = nullptr;  // what both below are asked about
  bool (*stops)(const void* of, int32_t token) = nullptr;
  // As adapter_find; null: the model has no named adapter.
  Status (*adapter)(const void* of, engine_str name, uint32_t* number) = nullptr;
};

// What a planned step points into.
struct StepParts {
  std::vector<engine_step_sequence> sequences;
  std::vector<int32_t> blocks;
  std::vector<engine_sampling> sampling;
  std::vector<TokenBuffer> buffers;
  std::vector<int32_t> known;               // room for all of them is reserved first
  std::vector<std::shared_ptr<void>> keep;  // what the samplings point into
};

struct Counts {
  uint64_t steps = 0, failed_steps = 0, preemptions = 0, refused = 0;
  uint64_t prompt_tokens = 0, generated_tokens = 0, cached_tokens = 0;
  uint64_t drafted_tokens = 0, accepted_tokens = 0;
  uint64_t ended = 0, timeouts = 0, cancelled = 0, errors = 0;  // answers
};

class Scheduler {
 public:
  Scheduler(const Limits& limits, Listener* listener);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Before anything else, whenever the surroundings are entered anew.
  void Use(const ModelView& model);

  // Takes a request in, or refuses it.
  void Add(Ask ask, uint64_t now);
  // Ends the answers of a group: at once, or when the step under way is back.
  void Cancel(uint64_t group, uint64_t now);
  // The same of one answer that has said enough: it ends as by an end token.
  void Enough(uint64_t group, uint32_t choice);

  enum class Next { kIdle, kStep, kWait };
  // REQUIRES: no step under way. kStep: `parts` is to be run. kWait: nothing can run now, ask again
  // after *wait_ns or when something came.
  Next Plan(uint64_t now, StepParts* parts, uint64_t* wait_ns);
  // The step came back.
  void Finished(const engine_sampled& sampled, uint64_t now);
  void Failed(const Status& status, uint64_t now);
  bool under_way() const { return !step_.empty(); }

  // Closes all sequences; nothing is told.
  void Close();

  size_t waiting() const { return queue_.size(); }
  size_t running() const { return running_.size(); }
  const Counts& counts() const { return counts_; }
  // When one more request should be sent again, from the measured rate and what waits.
  uint64_t RetryAfterUs() const;

 private:
  struct Request;
  struct Answer;
  struct Session {
    std::string name, salt, adapter;
    auto operator<=>(const Session&) const = default;
  };
  struct Slot {  // an answer's part of the step under way
    Answer* answer = nullptr;
    uint32_t take = 0, room = 0, logits = 0;
    uint32_t scored = 0;  // of the logits, the first so many score the prompt
  };

  // admission.cc: from a prompt that came to a running sequence.
  Status Admit(Request* request, uint64_t now);
  Status Fits(uint64_t prompt, uint64_t max_tokens) const;
  Status FindAdapter(Request* request) const;
  std::vector<int32_t> History(const Request& request, Status* status) const;
  void Refuse(const Ask& ask, engine_finish finish, const Status& status, uint64_t retry_us);
  void Enqueue(Answer* answer);
  void Dequeue(size_t place);
  void Join(uint64_t now);
  uint32_t Risen(const Request& request, uint64_t now) const;
  Answer* Best(uint64_t now, size_t* place);
  bool HasRoom(const Answer& answer) const;
  Status Begin(Answer* answer);
  Status Open(Answer* answer);
  void Branch(Answer* first);
  uint32_t Places(const Answer& answer) const;
  uint64_t PagesFree() const;

  // scheduler.cc: steps.
  void Choose(std::vector<Slot>* chosen);
  void ReservePages(std::vector<Slot>* chosen);
  void Build(const std::vector<Slot>& chosen, StepParts* parts);
  void Preempt(Answer* answer);
  void EndLate(uint64_t now);
  void Take(const Slot& slot, const engine_sampled& sampled, uint32_t* row);
  bool Stops(const Request& request, int32_t id) const;
  Given About(const Answer& answer, const SampledRow& row) const;
  void GiveToken(Answer* answer, const SampledRow& row, uint32_t index);
  void End(Answer* answer, engine_finish finish, const Status& status = Status(),
           const SampledRow& row = {});
  void Leave(Answer* answer, bool keep_session);
  void Release(Answer* answer, bool keep_session);
  void Measure(uint64_t now);
  uint64_t Cost(const Answer& answer) const;
  std::unique_ptr<Answer> NewAnswer(Request* request, uint32_t choice);

  const Limits limits_;
  Listener* const listener_;
  ModelView model_;
  Counts counts_;
  Accounts accounts_;
  uint64_t next_number_ = 0;
  std::unordered_map<uint64_t, std::unique_ptr<Request>> requests_;  // by number
  std::vector<Answer*> queue_;                                       // waiting, in no order
  std::vector<Answer*> running_;                                     // in the total order
  uint32_t places_ = 0;                               // of max_batch that running_ takes up
  uint32_t fresh_ = 0;                                // of queue_, that count for max_queue
  uint64_t queued_cost_ = 0;                          // tokens that queue_ will probably need
  std::map<Session, std::deque<uint64_t>> sessions_;  // numbers of requests, in order of arrival
  std::deque<uint64_t> cancelled_early_;  // groups whose cancel came before their prompt
  std::vector<Slot> step_;                // under way
  std::vector<Slot> chosen_;              // kept, so that a step allocates little
  std::deque<Answer*> suspects_;          // of a step that failed: run one at a time
  uint64_t next_deadline_ = UINT64_MAX;   // no request ends late before it
  uint64_t step_began_ns_ = 0;
  double decayed_rows_ = 0, decayed_ns_ = 0;  // of past steps
  double answered_share_ = 1;                 // of max_tokens that answers used
};

}  // namespace engine::batcher

#endif  // PLUGINS_BATCHER_SCHEDULER_H_
