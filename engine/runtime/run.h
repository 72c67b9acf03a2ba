// One run of a checked graph: queues with credits, joins, feedback, settling of keys,
// back-pressure, cancel, drain, deadlock report.
//
// Invariants, all under one mutex:
//  - a call starts only when each output has room for one packet, and holds that room until it is
//    committed; so no queue exceeds its capacity, and nothing is dropped unless an edge says so;
//  - results are committed in the order in which calls began, so a stream keeps its order whatever
//    runs beside;
//  - every key of a ONE output is settled: by a packet, as absent, or by a failure;
//  - when nothing runs, nothing is ready and no timer is set, the run is over or it is deadlocked;
//  - memory and objects of plugins are let go while the mutex is free, and before the run is over.
#ifndef ENGINE_RUNTIME_RUN_H_
#define ENGINE_RUNTIME_RUN_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/runtime/call.h"
#include "engine/runtime/executor.h"
#include "engine/runtime/spec.h"
#include "engine/runtime/thread_state.h"
#include "engine/runtime/trace.h"
#include "engine/status.hpp"

namespace engine::runtime {

struct NodeStats {
  std::string name, kind;
  uint64_t calls = 0, emitted = 0, failed = 0;
  uint64_t total_ns = 0, max_ns = 0;
  uint32_t queue_high_water = 0;
};

struct RunReport {
  uint64_t failed_packets = 0;
  std::vector<Status> failures;  // the first ones
  uint64_t dropped_packets = 0;  // by edges that say so
  std::vector<NodeStats> nodes;
};

// A call that has not come back.
struct LongCall {
  std::string node, kind, plugin;
  uint64_t nanoseconds = 0;
};

struct RunOptions {
  const ThreadState* thread_state = nullptr;  // around calls of nodes that use resources
  Trace* trace = nullptr;
};

enum class RunState { kCreated, kRunning, kDraining, kCancelled, kDone };

class Run {
 public:
  // Takes the instances in `spec`; they are destroyed with the run.
  Run(RunSpec spec, RunOptions options);
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  // [control] Opens the nodes in order. On failure those already open are closed, last first.
  Status Open();
  // [control] Lets nodes run.
  void Start();
  // [control] Waits for the end and closes the nodes, last first. Answers the failure of the run:
  // of a node that said so, a deadlock, a cancel, or else of the first packet that nobody handled.
  Status Wait();
  // As Wait, but gives up after the time; true when the run is over (Wait will not block).
  bool WaitFor(uint64_t nanoseconds);

  void Drain();                // [any] sources stop; what is under way is finished
  void Cancel(Status reason);  // [any] queues are dropped; running calls see cancelled()
  RunState state() const;      // [any]
  RunReport report() const;    // [any]
  Status failure() const;      // [any] of the run, as far as it is known
  // [any] Calls that a thread has been inside of for at least that long, the longest first.
  std::vector<LongCall> Inside(uint64_t nanoseconds) const;
  // [any] Replaces what a slot holds, between two calls.
  void Swap(uint32_t node, uint32_t slot, ResourceSlot resource);

 private:
  friend struct ::engine_call;
  friend class CallAccess;
  struct Input;
  struct Output;
  struct Line;
  struct NodeState;
  struct Component;
  struct Lanes;
  struct Room;
  struct Handle;  // what outlives the run and may still speak to it

  // What is let go outside the mutex: freeing it runs code of plugins.
  struct Garbage {
    std::vector<PacketRef> packets;
    std::vector<std::shared_ptr<void>> others;
    void Add(PacketRef packet) {
      if (packet) packets.push_back(std::move(packet));
    }
    void Add(std::shared_ptr<void> other) {
      if (other != nullptr) others.push_back(std::move(other));
    }
    bool empty() const { return packets.empty() && others.empty(); }
    void swap(Garbage& other) {
      packets.swap(other.packets);
      others.swap(other.others);
    }
    void clear() {
      packets.clear();
      others.clear();
    }
  };

  // All below with mutex_ held, unless said otherwise.
  void BuildComponents();
  void BuildRooms();
  bool Fits(const std::vector<Room>& rooms) const;
  bool Ready(const NodeState& node) const;
  bool HasRoom(const NodeState& node) const;
  bool InputsReady(const NodeState& node) const;
  bool IsGenerator(const NodeState& node) const;
  bool ExternalClosed(const Input& input) const;
  void Touch(uint32_t node);
  void TouchProducers(const NodeState& node);
  engine_call* Begin(uint32_t node);
  void TakeJoin(NodeState& node, engine_call* call);
  void TakeBatch(NodeState& node, engine_call* call);
  void ArmBatch(NodeState& node);
  void Finish(engine_call* call);
  void StartDrain();
  void Commit(engine_call* call);
  bool Push(const Target& target, Item item);
  void Deliver(const OutputSpec& spec, Item item);
  void PushOutput(NodeState& node, uint32_t port, Item item, bool* reserved);
  void FlushOutbox(NodeState& node);
  void CloseComponents(uint32_t first);
  bool ComponentIdle(const Component& component) const;
  void WakeLanes(uint32_t executor, size_t keep);
  void SettleIdle();
  bool WaitsForNodes();
  void RecordFailure(const Status& status);
  void StartCancel(Status reason);
  std::string DeadlockReport() const;
  void AdmissionDone();
  Status Control(const NodeSpec& node, engine_status* (*function)(void*, engine_call*));
  void Lane(uint32_t executor);                         // without mutex_
  uint64_t Process(engine_call* call, uint32_t index);  // without mutex_; answers nanoseconds
  void Completed(engine_call* call);  // without mutex_: a deferred call was answered
  void Returned(engine_call* call);
  // Runs `body` with the mutex held, unless the run is gone. [any]
  template <typename Body>
  static void Visit(const std::shared_ptr<Handle>& handle, Body body);
  // Ends a visit: releases garbage outside the mutex, gives `count` back, settles, unlocks. After
  // it the run may be gone.
  void Leave(std::unique_lock<std::mutex>& lock, uint32_t* count);
  bool Over() const;

  RunSpec spec_;
  const RunOptions options_;
  mutable std::mutex mutex_;
  std::condition_variable over_;
  std::vector<std::unique_ptr<NodeState>> nodes_;
  std::vector<Component> components_;
  std::vector<std::unique_ptr<Lanes>> lanes_;
  Garbage garbage_;  // empty whenever the mutex is free
  std::shared_ptr<Handle> handle_;
  RunState state_ = RunState::kCreated;
  Status failure_;                      // of the run
  std::atomic<bool> cancelled_{false};  // state_ == kCancelled, for calls that poll
  bool drain_early_ = false;            // Drain came before Start
  bool leaving_ = false;                // the destructor waits for visitors
  uint64_t running_ = 0;
  uint64_t timers_ = 0;
  uint32_t visitors_ = 0;  // threads inside that are no lane; the last one out settles
  uint64_t admitted_ = 0;
  uint64_t commits_ = 0;
  uint64_t patient_until_ = UINT64_MAX;  // commits_ at which packets that nodes keep were too long
  uint32_t opened_ = 0;
  uint32_t open_nodes_ = 0;  // not closed yet
  RunReport totals_;
};

}  // namespace engine::runtime

#endif  // ENGINE_RUNTIME_RUN_H_
