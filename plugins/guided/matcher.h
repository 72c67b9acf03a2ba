// Runs a program over bytes. A state is the list of places where a text may stand, each with its
// stack of frames; frames and states are shared and known by number, and transitions are found
// once, so that walking known ground costs a table look-up a byte.
//
// Invariant: what a state is, its order included, follows from the bytes alone and not from what
// was matched before; states that are forgotten for want of room come back the same. From every
// state that is not dead a complete text can be reached. Where a state would have more places than
// the limit, the last ones are left out: texts get fewer, and stay right. Not safe for threads.
#ifndef PLUGINS_GUIDED_MATCHER_H_
#define PLUGINS_GUIDED_MATCHER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "budget.h"
#include "program.h"

namespace engine::guided {

class Matcher {
 public:
  using State = uint32_t;
  static constexpr State kDead = UINT32_MAX;

  Matcher(std::shared_ptr<const Program> program, const Limits& limits);

  State start() const { return 0; }
  State Advance(State state, uint8_t byte) {
    const uint8_t kind = classes_[byte];
    const State next = next_[size_t{state} * kinds_ + kind];
    return next != kUnknown ? next : Find(state, kind);
  }
  bool Accepting(State state) const { return states_[state].accepting; }

  // The same for states after which the same texts of at most `reach` bytes may come: counts that
  // are further than that from their bounds make no difference. Not a state to advance from.
  State Alike(State state, uint32_t reach);

  // Numbers of states hold until Forget(), which the owner calls when bytes() has become large.
  size_t bytes() const;
  void Forget();
  // Work since StartWork(), in places looked at. When it exceeds the limit, or the states of one
  // run take more than four times their room, Advance() answers kDead for all that is not known
  // yet, and exhausted() is true until the next StartWork().
  void StartWork();
  bool exhausted() const { return exhausted_; }

 private:
  static constexpr State kUnknown = UINT32_MAX - 1;
  static constexpr uint32_t kBottom = 0;  // the empty stack

  struct Frame {
    uint32_t below = 0;
    uint32_t place = 0;  // where a call returns to; the number of a loop
    uint32_t count = 0;  // of a loop's rounds; kInfinite for calls
    uint32_t calls = 0;  // frames of calls up to this one
    friend bool operator==(const Frame&, const Frame&) = default;
  };
  struct Place {
    uint32_t code = 0, stack = 0;
    friend bool operator==(const Place&, const Place&) = default;
  };
  struct StateData {
    uint32_t first = 0, count = 0;  // its places
    bool accepting = false;
  };
  // A set of keys, each with a number, that is emptied at once.
  class Table {
   public:
    void Clear();
    // The number of the key, which is `number` when it was not there.
    uint32_t* Find(uint64_t key, uint32_t number, bool* fresh);

   private:
    struct Slot {
      uint64_t key = 0;
      uint32_t stamp = 0, number = 0;
    };
    void Grow();
    std::vector<Slot> slots_ = std::vector<Slot>(256);
    uint32_t stamp_ = 1;
    size_t used_ = 0;
  };

  State Find(State state, uint8_t kind);
  void Follow(uint32_t code, uint32_t stack);
  void Visit(const Place& place);
  uint32_t AlikeStack(uint32_t stack, uint32_t reach);
  uint32_t Push(const Frame& frame);
  State Intern();

  const std::shared_ptr<const Program> program_;
  const Limits limits_;
  const size_t kinds_;
  uint8_t classes_[256];

  std::vector<Frame> frames_;
  std::vector<uint32_t> alike_;        // of frames, what Alike() takes them for; 0 is not known
  std::vector<uint32_t> frame_slots_;  // of a hash table, by frame + 1
  std::vector<Place> places_;
  std::vector<StateData> states_;
  std::vector<uint32_t> state_slots_;
  std::vector<State> next_;

  // Of the state that is being made.
  std::vector<Place> work_, found_;
  bool accepting_ = false;
  Table seen_, rounds_;

  uint64_t work_done_ = 0;
  bool exhausted_ = false;
};

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_MATCHER_H_
