// Where the source and the sink of a load meet: which requests there are, which may go next, and
// what came back of each. Invariants: a wave begins when the one before is over; a turn of a
// conversation goes when the turn before has ended; in a closed loop never more than `streams` are
// under way. Thread-safe.
#ifndef PLUGINS_TRAFFIC_BOARD_H_
#define PLUGINS_TRAFFIC_BOARD_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "spec.h"

namespace engine::traffic {

// One request and what became of it. Times are CLOCK_MONOTONIC nanoseconds.
struct Record {
  uint32_t wave = 0, conversation = 0, turn = 0;
  uint32_t prompt = 0, out = 0;  // tokens
  uint32_t cancel_after = 0;     // tokens; 0: not given up
  uint64_t due_ns = 0;           // when it was to arrive; 0: as soon as it may
  uint64_t sent_ns = 0, first_ns = 0, last_ns = 0;
  uint32_t tokens = 0, cached = 0, preemptions = 0;
  uint64_t hash = 0;  // of its tokens
  bool ended = false, failed = false, cancelled = false;
  std::vector<uint32_t> gaps_us;  // between its tokens
  std::string error;
};

// Work of the model at a moment, for the engine's share.
struct Moment {
  uint64_t at_ns = 0, kernel_ns = 0;
};

class Board {
 public:
  // The board of that name in this process, made at the first call.
  static std::shared_ptr<Board> Of(const std::string& name);

  void Begin(const Spec& spec);
  const Spec& spec() const { return spec_; }

  enum class Next { kRequest, kCancel, kWait, kDone };
  // What to send now: `index` of a request, or of one to give up. Waits up to 100 ms.
  Next Wait(uint64_t* index);
  // Tokens of the prompt of a request: ids below `vocab`.
  std::vector<int32_t> Prompt(uint64_t index, int64_t vocab) const;
  Record Get(uint64_t index) const;

  // A token of a request, or its end. True with the end of the last request of all.
  bool OnToken(uint64_t index, int32_t id, uint64_t made_ns, const Moment& moment);
  bool OnEnd(uint64_t index, bool failed, const std::string& error, uint32_t cached,
             uint32_t preemptions, const Moment& moment);

  const std::vector<Record>& records() const { return records_; }  // when all have ended
  const std::vector<Moment>& moments() const { return moments_; }

 private:
  size_t WaveEnd() const;  // one past the last request of the wave under way
  void Draw();

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Spec spec_;
  std::vector<Record> records_;  // wave by wave; within one, conversation by conversation
  std::vector<Moment> moments_;
  std::deque<uint64_t> ready_, give_up_;
  uint32_t wave_ = 0, waves_ = 0;
  uint64_t ended_in_wave_ = 0, under_way_ = 0, ended_ = 0;
  bool wave_open_ = false;
};

}  // namespace engine::traffic

#endif  // PLUGINS_TRAFFIC_BOARD_H_
