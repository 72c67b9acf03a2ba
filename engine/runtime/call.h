// One call of one node, behind the SDK's engine_call: its inputs, what it emitted, how it ended.
// Owned by the run; reused for later calls of the same node.
#ifndef ENGINE_RUNTIME_CALL_H_
#define ENGINE_RUNTIME_CALL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "engine/runtime/packet.h"
#include "engine/runtime/spec.h"
#include "engine/status.hpp"

namespace engine::runtime {

class Run;

// One place of a stream: a packet, or with none that the key is absent.
struct Item {
  PacketRef packet;
  uint64_t key = 0;
  uint64_t at_ns = 0;  // arrival, under BATCH with a wait
};

struct Emitted {
  uint32_t port;
  uint64_t group;
  PacketRef packet;
};

}  // namespace engine::runtime

// A deferred call's answer, held within the call.
struct engine_completion {
  std::atomic<engine_call*> call{nullptr};  // null: it was answered
};

struct engine_call {
  engine::runtime::Run* run = nullptr;
  uint32_t node = 0;
  uint32_t line = 0;  // of the node, and its place there
  uint64_t ticket = 0;
  uint64_t key = 0;
  uint64_t group = 0;
  bool control = false;    // open or close: no packets
  bool skip = false;       // settled without calling the node
  bool generator = false;  // called without input
  bool finish = false;
  bool by_feedback = false;  // its packet came back through a loop
  // The thread that is inside, none when the call is over; checked where ENGINE_CHECK_THREADS is
  // set.
  std::thread::id owner;
  std::atomic<uint64_t> began_ns{0};  // 0: no thread is inside
  std::atomic<bool> deferred{false};
  bool returned = false;   // process came back; guarded by the run's mutex
  bool completed = false;  // completion_done came; guarded by the run's mutex
  uint32_t fail_scope = 0;
  engine::Status status;
  engine::Status wide_failure;  // with fail_scope
  std::shared_ptr<engine::runtime::Admission> admission;
  std::vector<std::vector<engine::runtime::PacketRef>> inputs;
  std::vector<engine::runtime::Emitted> emitted;
  std::vector<engine::runtime::ResourceSlot> resources;
  engine_completion completion;
};

namespace engine::runtime {

// The host's side of engine.nodes/1, to be offered as a service.
const engine_nodes_host* NodesHost();

}  // namespace engine::runtime

#endif  // ENGINE_RUNTIME_CALL_H_
