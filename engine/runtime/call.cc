// The host's side of engine.nodes/1: what a node may do inside a call.
#include "engine/runtime/call.h"

#include <cstdio>
#include <cstdlib>

#include "engine/runtime/run.h"
#include "engine/runtime/services.h"

namespace engine::runtime {

// What a call may ask of its run from outside.
class CallAccess {
 public:
  static void Completed(engine_call* call) { call->run->Completed(call); }
  static bool Cancelled(const engine_call* call) {
    return call->run != nullptr && call->run->cancelled_.load(std::memory_order_relaxed);
  }
  static uint32_t Phase(const engine_call* call) {
    switch (call->run->state()) {
      case RunState::kCreated:
      case RunState::kRunning:
        return ENGINE_RUN_RUNNING;
      case RunState::kDraining:
        return ENGINE_RUN_DRAINING;
      default:
        return ENGINE_RUN_CANCELLED;
    }
  }
  static const std::vector<OutputSpec>& Outputs(const engine_call* call) {
    return call->run->spec_.nodes[call->node].outputs;
  }
  static std::string Name(const engine_call* call) {
    return call->run == nullptr ? "a node"
                                : "node '" + call->run->spec_.nodes[call->node].name + "'";
  }
};

namespace {

// What is tagged for the thread of the call must not come from another: a plugin that hands its
// call to a thread of its own, or keeps it beyond its end, is told so at once.
void OnThreadOf([[maybe_unused]] const engine_call* call, [[maybe_unused]] const char* function) {
#ifdef ENGINE_CHECK_THREADS
  if (call->owner == std::this_thread::get_id()) return;
  const bool over = call->owner == std::thread::id();
  std::fprintf(stderr, "engine: %s of %s was called %s\n", function, CallAccess::Name(call).c_str(),
               over ? "after its call had ended; a call is borrowed until process returns"
                    : "on another thread than its call's; use defer()");
  std::abort();
#endif
}

engine_status* PacketNew(engine_str type, void* payload, void (*free_payload)(void*),
                         engine_packet** out) {
  auto* packet = new (std::nothrow) engine_packet;
  if (packet == nullptr || type.size == 0) {
    delete packet;
    if (free_payload != nullptr) free_payload(payload);
    return internal::NewStatus(ENGINE_INVALID_ARGUMENT, "a packet needs a type and memory");
  }
  packet->type = type;
  packet->payload = payload;
  packet->free_payload = free_payload;
  *out = packet;
  return nullptr;
}

engine_status* Emit(engine_call* call, uint32_t port, engine_packet* packet, uint64_t group) {
  PacketRef owned(packet);
  return Guard([&]() -> Status {
    if (packet == nullptr) return Error(ENGINE_INVALID_ARGUMENT, "emit: no packet");
    if (call->control) {
      return Error(ENGINE_FAILED_PRECONDITION, "emit: only process may emit, not open or close");
    }
    const std::vector<OutputSpec>& outputs = CallAccess::Outputs(call);
    if (port >= outputs.size()) {
      return Error(ENGINE_OUT_OF_RANGE, "emit: output ", port, " of ", outputs.size());
    }
    // Whoever receives it reads it as what the contract says.
    const std::string& type = outputs[port].type;
    if (!type.empty() && View(packet->type) != type) {
      return Error(ENGINE_INVALID_ARGUMENT, "emit: output ", outputs[port].name, " gives ", type,
                   ", and the packet is a ", View(packet->type));
    }
    call->emitted.push_back({port, group, std::move(owned)});
    return Status();
  });
}

void Fail(engine_call* call, uint32_t scope, engine_status* status) {
  call->wide_failure = Status(status);
  call->fail_scope = scope == ENGINE_SCOPE_RUN ? ENGINE_SCOPE_RUN : ENGINE_SCOPE_NODE;
}

const engine_nodes_host kNodesHost = {
    sizeof(engine_nodes_host),
    &PacketNew,
    [](engine_packet* p) { Retain(p); },
    [](engine_packet* p) { Release(p); },
    [](const engine_packet* p) { return p->type; },
    [](const engine_packet* p) -> const void* { return p->payload; },
    [](const engine_packet* p) { return p->key; },
    [](const engine_packet* p) { return p->group; },
    [](engine_call* c, uint32_t port) -> uint32_t {
      OnThreadOf(c, "input_count");
      return port < c->inputs.size() ? static_cast<uint32_t>(c->inputs[port].size()) : 0;
    },
    [](engine_call* c, uint32_t port, uint32_t i) -> const engine_packet* {
      OnThreadOf(c, "input");
      const bool there = port < c->inputs.size() && i < c->inputs[port].size();
      return there ? c->inputs[port][i].get() : nullptr;
    },
    [](engine_call* c, uint32_t port, engine_packet* packet, uint64_t group) -> engine_status* {
      OnThreadOf(c, "emit");
      return Emit(c, port, packet, group);
    },
    [](engine_call* c, uint32_t slot) -> engine_resource* {
      OnThreadOf(c, "resource");
      return slot < c->resources.size() ? c->resources[slot].get() : nullptr;
    },
    [](engine_call* c) -> uint8_t { return CallAccess::Cancelled(c); },
    [](engine_call* c) {
      OnThreadOf(c, "finish");
      c->finish = true;
    },
    [](engine_call* c, uint32_t scope, engine_status* status) {
      OnThreadOf(c, "fail");
      Fail(c, scope, status);
    },
    [](engine_call* c, engine_completion** out) -> engine_status* {
      if (c->control) {
        return internal::NewStatus(ENGINE_FAILED_PRECONDITION, "defer: only process may defer");
      }
      OnThreadOf(c, "defer");
      c->deferred.store(true);
      c->completion.call.store(c);
      *out = &c->completion;
      return nullptr;
    },
    [](engine_completion* d, uint32_t port, engine_packet* p, uint64_t group) -> engine_status* {
      if (engine_call* call = d->call.load()) return Emit(call, port, p, group);
      if (p != nullptr) Release(p);
      return internal::NewStatus(ENGINE_FAILED_PRECONDITION, "the call was answered already");
    },
    [](engine_completion* d) {
      if (engine_call* call = d->call.load()) call->finish = true;
    },
    [](engine_completion* d, engine_status* taken) {
      Status status(taken);
      engine_call* call = d->call.exchange(nullptr);
      if (call == nullptr) {
        LogLine(ENGINE_LOG_ERROR, "engine",
                "a plugin answered a deferred call twice; the second "
                "answer is dropped: " +
                    std::string(status.ok() ? "OK" : status.message()));
        return;
      }
      call->status = std::move(status);
      CallAccess::Completed(call);
    },
    [](const engine_resource* r, engine_str type) -> void* {
      return r != nullptr && r->type == View(type) ? r->object : nullptr;
    },
    [](const engine_resource* r) { return Str(r->name); },
    [](const engine_completion* d) -> uint32_t {
      const engine_call* call = d->call.load();
      return call != nullptr ? CallAccess::Phase(call) : uint32_t{ENGINE_RUN_CANCELLED};
    },
    [](engine_call* c) -> uint32_t {
      OnThreadOf(c, "call_phase");
      return CallAccess::Phase(c);
    },
};

}  // namespace

const engine_nodes_host* NodesHost() { return &kNodesHost; }

}  // namespace engine::runtime
