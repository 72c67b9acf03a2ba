// The mutable state of a run's nodes. Private to the run's source files; everything here is
// guarded by the run's mutex.
#ifndef ENGINE_RUNTIME_RUN_STATE_H_
#define ENGINE_RUNTIME_RUN_STATE_H_

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "engine/runtime/run.h"

namespace engine::runtime {

// A first-in first-out queue that reuses its memory.
class ItemQueue {
 public:
  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  Item& front() { return items_[head_]; }
  const Item& front() const { return items_[head_]; }
  void push(Item item) {
    if (size_ == items_.size()) Grow();
    items_[(head_ + size_) % items_.size()] = std::move(item);
    ++size_;
  }
  Item pop() {
    Item item = std::move(items_[head_]);
    head_ = (head_ + 1) % items_.size();
    --size_;
    return item;
  }

 private:
  void Grow() {
    std::vector<Item> larger(items_.empty() ? 4 : items_.size() * 2);
    for (size_t i = 0; i < size_; ++i) larger[i] = std::move(items_[(head_ + i) % items_.size()]);
    items_ = std::move(larger);
    head_ = 0;
  }
  std::vector<Item> items_;
  size_t head_ = 0, size_ = 0;
};

struct Run::Input {
  ItemQueue queue;
  uint32_t reserved = 0;        // room that running producers hold
  uint32_t open_producers = 0;  // edges whose producer is not closed yet
  uint32_t high_water = 0;
  bool said = false;  // something was settled here: a packet or an absence
  std::vector<uint32_t> producers;
  PacketRef latest;  // LATEST: the newest packet of a port that is not the first
};

// What a call needs of a queue: as many places as edges lead there.
struct Run::Room {
  Target target;
  uint32_t packets = 0;
};

struct Run::Output {
  std::vector<Room> rooms;  // for one packet here
  bool inside = false;      // leads back to its node
  uint64_t next_key = 0;
  std::deque<Item> outbox;  // emitted beyond the room; the node waits until it is empty
};

// Calls of a node that commit in the order in which they began.
struct Run::Line {
  uint64_t next_ticket = 0, commit_ticket = 0;
  std::map<uint64_t, engine_call*> done;  // finished out of order
};

struct Run::NodeState {
  uint32_t index = 0;
  uint32_t component = 0;
  std::vector<Input> inputs;
  std::vector<Output> outputs;
  std::vector<Room> rooms;  // for one packet on each output
  uint32_t in_flight = 0;
  uint32_t inside = 0;      // of them, those that have not come back (put off or not)
  uint32_t generating = 0;  // calls without input under way
  Line lines[2];            // calls commit in the order of their line
  uint64_t next_key = 0;    // of calls that begin a key domain
  uint32_t next_port = 0;   // ANY: where to look first
  bool listed = false;      // in its executor's ready list
  bool finished = false;    // a source that has nothing more
  bool closed = false;
  bool batch_due = false;    // BATCH: the oldest packet waited long enough
  bool batch_timer = false;  // BATCH: a timer runs
  bool head = false;         // loops come back to it
  bool generator = false;    // no input but feedback
  bool hears = false;        // see ENGINE_KIND_HEARS
  bool last_call = false;    // the one of a drain was made
  bool uses_resources = false;
  Status failed;  // of the node: what every further key is answered with
  std::vector<std::unique_ptr<engine_call>> calls;
  std::vector<engine_call*> free_calls;
  NodeStats stats;

  bool OutboxEmpty() const {
    for (const Output& output : outputs) {
      if (!output.outbox.empty()) return false;
    }
    return true;
  }
};

// Nodes that can reach each other: they close together.
struct Run::Component {
  std::vector<uint32_t> nodes;
  bool closed = false;
};

struct Run::Lanes {
  std::deque<uint32_t> ready;
  uint32_t active = 0;
  uint32_t threads = 1;
  std::unique_ptr<Executor> executor;
};

struct Run::Handle {
  std::mutex mutex;
  Run* run = nullptr;  // null once the run is gone
};

template <typename Body>
void Run::Visit(const std::shared_ptr<Handle>& handle, Body body) {
  std::unique_lock guard(handle->mutex);
  Run* run = handle->run;
  if (run == nullptr) return;
  std::unique_lock lock(run->mutex_);
  ++run->visitors_;  // from here on the run waits for us
  guard.unlock();
  body(*run);
  run->Leave(lock, &run->visitors_);
}

}  // namespace engine::runtime

#endif  // ENGINE_RUNTIME_RUN_STATE_H_
