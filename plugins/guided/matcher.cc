// Runs a program over bytes.
#include "matcher.h"

#include <algorithm>

namespace engine::guided {
namespace {

uint64_t Mix(uint64_t x) {
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93u;
  return x ^ x >> 32;
}

// Counts in frames that stand for many, in what Alike() answers.
constexpr uint32_t kBelow = kInfinite - 1, kBetween = kInfinite - 2;

// Places visited for one state before the search stops at the first that takes a byte.
constexpr size_t kMostVisits = 1 << 16;

}  // namespace

void Matcher::Table::Clear() {
  used_ = 0;
  if (++stamp_ == 0) {
    std::fill(slots_.begin(), slots_.end(), Slot());
    stamp_ = 1;
  }
}

uint32_t* Matcher::Table::Find(uint64_t key, uint32_t number, bool* fresh) {
  if (used_ * 2 >= slots_.size()) Grow();
  for (size_t i = Mix(key);; ++i) {
    Slot& slot = slots_[i & (slots_.size() - 1)];
    if (slot.stamp != stamp_) {
      slot = {key, stamp_, number};
      ++used_;
      *fresh = true;
      return &slot.number;
    }
    if (slot.key == key) {
      *fresh = false;
      return &slot.number;
    }
  }
}

void Matcher::Table::Grow() {
  std::vector<Slot> old(slots_.size() * 2);
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.stamp != stamp_) continue;
    size_t i = Mix(slot.key);
    while (slots_[i & (slots_.size() - 1)].stamp == stamp_) ++i;
    slots_[i & (slots_.size() - 1)] = slot;
  }
}

Matcher::Matcher(std::shared_ptr<const Program> program, const Limits& limits)
    : program_(std::move(program)), limits_(limits), kinds_(program_->representative.size()) {
  std::copy(std::begin(program_->classes), std::end(program_->classes), classes_);
  Forget();
}

size_t Matcher::bytes() const {
  return frames_.size() * sizeof(Frame) + alike_.size() * sizeof(uint32_t) +
         places_.size() * sizeof(Place) + states_.size() * sizeof(StateData) +
         next_.size() * sizeof(State) +
         (frame_slots_.size() + state_slots_.size()) * sizeof(uint32_t);
}

void Matcher::StartWork() {
  work_done_ = 0;
  exhausted_ = false;
}

void Matcher::Forget() {
  // Assigned anew, so that what they held is given back.
  frames_ = {Frame()};
  alike_ = {};
  frame_slots_.assign(64, 0);
  places_ = {};
  states_ = {};
  state_slots_.assign(64, 0);
  next_ = {};
  StartWork();
  seen_.Clear();
  rounds_.Clear();
  found_.clear();
  accepting_ = false;
  Follow(program_->start, kBottom);
  Intern();
}

uint32_t Matcher::Push(const Frame& frame) {
  if (frames_.size() * 2 >= frame_slots_.size()) {
    frame_slots_.assign(frame_slots_.size() * 2, 0);
    for (uint32_t i = 1; i < frames_.size(); ++i) {
      size_t at = Mix(uint64_t{frames_[i].below} << 32 | frames_[i].place) + Mix(frames_[i].count);
      while (frame_slots_[at & (frame_slots_.size() - 1)] != 0) ++at;
      frame_slots_[at & (frame_slots_.size() - 1)] = i;
    }
  }
  size_t at = Mix(uint64_t{frame.below} << 32 | frame.place) + Mix(frame.count);
  for (;; ++at) {
    uint32_t& slot = frame_slots_[at & (frame_slots_.size() - 1)];
    if (slot == 0) {
      slot = static_cast<uint32_t>(frames_.size());
      frames_.push_back(frame);
      return slot;
    }
    if (frames_[slot] == frame) return slot;
  }
}

// Adds to the state that is being made all places that `code` reaches without a byte, those of the
// first alternatives first.
void Matcher::Follow(uint32_t code, uint32_t stack) {
  work_.push_back({code, stack});
  size_t visits = 0;
  while (!work_.empty()) {
    const Place place = work_.back();
    work_.pop_back();
    if (++visits > kMostVisits && (accepting_ || !found_.empty())) {
      work_.clear();
      break;
    }
    Visit(place);
  }
  work_done_ += visits;
}

void Matcher::Visit(const Place& place) {
  const uint32_t need = program_->need[place.code];
  const Frame top = frames_[place.stack];
  if (need == kNever || top.calls + need > program_->nesting) return;
  bool fresh = false;
  seen_.Find(uint64_t{place.code} << 32 | place.stack, 0, &fresh);
  if (!fresh) return;
  const Instruction& each = program_->code[place.code];
  switch (each.kind) {
    case Instruction::kFail:
      return;
    case Instruction::kByte:
      if (found_.size() < limits_.configurations) found_.push_back(place);
      return;
    case Instruction::kSplit:
      work_.push_back({each.b, place.stack});
      work_.push_back({each.a, place.stack});
      return;
    case Instruction::kJump:
      work_.push_back({each.a, place.stack});
      return;
    case Instruction::kCall:
      work_.push_back({each.a, Push({place.stack, each.b, kInfinite, top.calls + 1})});
      return;
    case Instruction::kReturn:
      work_.push_back({top.place, top.below});
      return;
    case Instruction::kEnter:
      work_.push_back({program_->loops[each.a].head, Push({place.stack, each.a, 0, top.calls})});
      return;
    case Instruction::kHead: {
      const Loop& loop = program_->loops[each.a];
      if (top.count >= loop.min) {
        // Who has done fewer rounds can do whatever this one can.
        uint32_t* least = rounds_.Find(uint64_t{place.code} << 32 | top.below, top.count, &fresh);
        if (!fresh && *least <= top.count) return;
        *least = top.count;
        work_.push_back({loop.exit, top.below});
      }
      if (top.count < loop.max) work_.push_back({loop.body, place.stack});
      return;
    }
    case Instruction::kNext: {
      const Loop& loop = program_->loops[each.a];
      const uint32_t most = loop.max == kInfinite ? loop.min : loop.max;
      const uint32_t count = std::min(top.count + 1, most);
      work_.push_back({loop.head, Push({top.below, each.a, count, top.calls})});
      return;
    }
    case Instruction::kMatch:
      accepting_ = true;
      return;
  }
}

Matcher::State Matcher::Intern() {
  if (found_.empty() && !accepting_) return kDead;
  uint64_t hash = accepting_ ? 1 : 0;
  for (const Place& p : found_) hash = Mix(hash ^ (uint64_t{p.code} << 32 | p.stack));
  if (states_.size() * 2 >= state_slots_.size()) {
    state_slots_.assign(state_slots_.size() * 2, 0);
    for (uint32_t i = 0; i < states_.size(); ++i) {
      uint64_t h = states_[i].accepting ? 1 : 0;
      for (uint32_t j = 0; j < states_[i].count; ++j) {
        const Place& p = places_[states_[i].first + j];
        h = Mix(h ^ (uint64_t{p.code} << 32 | p.stack));
      }
      while (state_slots_[h & (state_slots_.size() - 1)] != 0) ++h;
      state_slots_[h & (state_slots_.size() - 1)] = i + 1;
    }
  }
  for (;; ++hash) {
    uint32_t& slot = state_slots_[hash & (state_slots_.size() - 1)];
    if (slot != 0) {
      const StateData& known = states_[slot - 1];
      if (known.accepting == accepting_ && known.count == found_.size() &&
          std::equal(found_.begin(), found_.end(), places_.begin() + known.first)) {
        return slot - 1;
      }
      continue;
    }
    states_.push_back(
        {static_cast<uint32_t>(places_.size()), static_cast<uint32_t>(found_.size()), accepting_});
    slot = static_cast<uint32_t>(states_.size());
    places_.insert(places_.end(), found_.begin(), found_.end());
    next_.resize(next_.size() + kinds_, kUnknown);
    return slot - 1;
  }
}

uint32_t Matcher::AlikeStack(uint32_t stack, uint32_t reach) {
  // Bytes and counts: a round takes a byte, or is the only empty one.
  const uint64_t far = uint64_t{reach} + 2;
  std::vector<uint32_t> chain;
  uint32_t alike = kBottom;
  alike_.resize(frames_.size(), 0);
  for (; stack != kBottom; stack = frames_[stack].below) {
    if (alike_[stack] != 0) {
      alike = alike_[stack];
      break;
    }
    chain.push_back(stack);
  }
  for (size_t i = chain.size(); i-- > 0;) {
    Frame frame = frames_[chain[i]];
    frame.below = alike;
    if (frame.count != kInfinite) {
      const Loop& loop = program_->loops[frame.place];
      if (frame.count + far < loop.min) {
        frame.count = kBelow;
      } else if (frame.count >= loop.min && loop.max != kInfinite && frame.count + far < loop.max) {
        frame.count = kBetween;
      }
    }
    alike = Push(frame);
    alike_[chain[i]] = alike;
  }
  return alike;
}

Matcher::State Matcher::Alike(State state, uint32_t reach) {
  if (program_->loops.empty()) return state;
  found_.clear();
  accepting_ = states_[state].accepting;
  for (uint32_t i = 0; i < states_[state].count; ++i) {
    const Place place = places_[states_[state].first + i];
    found_.push_back({place.code, AlikeStack(place.stack, reach)});
  }
  return Intern();
}

Matcher::State Matcher::Find(State state, uint8_t kind) {
  if (exhausted_ || work_done_ > limits_.work || bytes() > 4 * limits_.state_bytes) {
    exhausted_ = true;
    return kDead;
  }
  const uint8_t byte = program_->representative[kind];
  const StateData from = states_[state];
  work_done_ += from.count;
  bool any = false;
  for (uint32_t i = 0; i < from.count; ++i) {
    const Place place = places_[from.first + i];
    const Instruction& each = program_->code[place.code];
    if (!program_->sets[each.a].test(byte)) continue;
    if (!any) {
      any = true;
      seen_.Clear();
      rounds_.Clear();
      found_.clear();
      accepting_ = false;
    }
    Follow(each.b, place.stack);
  }
  const State next = any ? Intern() : kDead;
  next_[size_t{state} * kinds_ + kind] = next;
  return next;
}

}  // namespace engine::guided
