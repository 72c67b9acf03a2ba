// The kind `batcher`: packets in and out of the scheduler.
#ifndef PLUGINS_BATCHER_NODE_H_
#define PLUGINS_BATCHER_NODE_H_

#include <atomic>
#include <memory>
#include <mutex>

#include "engine/node.hpp"
#include "options.engine.hpp"
#include "scheduler.h"

namespace engine::batcher {

struct Batcher : Node, Listener {
  // Two calls: one may be put off until a timer, and others come in meanwhile.
  ENGINE_NODE("batcher",
              "Serves many sequences in one step. Requests join and leave between two tokens, in "
              "the order of priority and fairness, within the pages of the KV store and a bounded "
              "queue; what a request is answered does not depend on its neighbours.",
              .emission = ENGINE_EMIT_MANY, .policies = ENGINE_POLICY_ANY,
              .default_policy = ENGINE_POLICY_ANY, .max_in_flight = 2, .bypass = "serial_batcher")
  ENGINE_OPTIONS(BatcherOptions)
  In<engine_tokens> fresh{this, {.name = "NEW", .doc = "Prompts.", .flags = ENGINE_PORT_ERRORS}};
  In<engine_sampled> running{
      this, {.name = "RUNNING", .doc = "Sampled tokens coming back.", .flags = ENGINE_PORT_ERRORS}};
  In<engine_cancel> cancel{this,
                           {.name = "CANCEL",
                            .doc = "Requests that nobody waits for any longer.",
                            .flags = ENGINE_PORT_OPTIONAL}};
  Out<engine_step> step{this, {.name = "STEP", .doc = "One forward pass of many sequences."}};
  Out<engine_token> token{this, {.name = "TOKEN", .doc = "Each token, and each answer's end."}};
  UseModel model{this, ENGINE_TYPE_MODEL, {.name = "MODEL", .doc = "Whose KV store is used."}};
  Status Open(Call& call) override;
  Status Process(Call& call) override;
  Status Close(Call& call) override;

 private:
  struct Tick;
  struct Metrics;
  void Use(Call& call);
  Status TakeIn(Call& call, const engine_packet* packet);
  Status Pump(Call& call);
  Status PutOff(Call& call, uint64_t wait_ns);
  void Give(const Given& given) override;
  void Publish();

  std::mutex mutex_;  // guards all below
  std::unique_ptr<Scheduler> scheduler_;
  std::shared_ptr<Tick> tick_;       // a call that was put off, or its empty step on the way round
  Call* call_ = nullptr;             // of Process, while it runs
  Status emitted_;                   // the first failure of emitting in this call
  const void* looked_at_ = nullptr;  // the model that kv_site_ was found in
  uint32_t kv_site_ = 0;
  std::shared_ptr<Metrics> metrics_;
  Counts published_;
};

}  // namespace engine::batcher

#endif  // PLUGINS_BATCHER_NODE_H_
