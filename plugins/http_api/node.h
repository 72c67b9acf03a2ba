// The kind `http_api`: packets out of requests, and answers out of packets.
#ifndef PLUGINS_HTTP_API_NODE_H_
#define PLUGINS_HTTP_API_NODE_H_

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <unordered_set>
#include <vector>

#include "engine/node.hpp"
#include "options.engine.hpp"
#include "server.h"

namespace engine::http_api {

// Invariant: the loop runs on one I/O thread of the host from open to close; what crosses between
// it and the workers lies under mutex_.
struct HttpApi : Node, Backend {
  // A call stays open for what clients may send, and answers come in meanwhile.
  ENGINE_NODE("http_api",
              "Serves over HTTP: chat completions, completions and more, as OpenAI's API has them. "
              "Gives each prompt into the graph and takes the text that comes back.",
              .emission = ENGINE_EMIT_MANY, .policies = ENGINE_POLICY_ANY,
              .default_policy = ENGINE_POLICY_ANY, .flags = ENGINE_KIND_HEARS)
  ENGINE_OPTIONS(HttpApiOptions)
  In<engine_event> event{this, {.name = "EVENT", .doc = "Text of the requests."}};
  Out<engine_text> request{this, {.name = "REQUEST", .doc = "One prompt a packet."}};
  Out<engine_cancel> cancel{this,
                            {.name = "CANCEL", .doc = "Requests whose answer is not needed."}};
  UseModel model{
      this, ENGINE_TYPE_MODEL, {.name = "MODEL", .doc = "Whose tokens and sessions are told of."}};
  ~HttpApi() override;
  Status Open(Call& call) override;
  Status Process(Call& call) override;
  Status Close(Call& call) override;

  void Submit(Submission submission) override;
  void Abandon(uint64_t group) override;
  void Enough(uint64_t group, uint32_t choice) override;
  void OnWorker(std::function<void(engine_model*)> body) override;

 private:
  struct Outgoing {
    uint32_t port;
    Packet packet;
    uint64_t group;
  };
  Status ReadFacts(Call& call, ModelFacts* facts) const;
  Piece Copy(const engine_event& event, const engine_model* m);
  void RunLoop();
  void Hand(Piece piece);
  void Wake();
  void SendCancel(uint64_t group, engine_cancel_how how, uint32_t choice);
  void Push(uint32_t port, Packet packet, uint64_t group);
  void CheckPhase();
  void StopLoop();

  std::unique_ptr<Loop> loop_;
  std::unique_ptr<Server> server_;
  bool said_listening_ = false;

  std::mutex mutex_;  // guards all below
  std::condition_variable ended_;
  bool loop_runs_ = false;
  engine_completion* open_ = nullptr;  // the call that waits for work
  std::vector<Outgoing> outgoing_;
  std::deque<std::function<void(engine_model*)>> tasks_;
  std::vector<Piece> pieces_;                  // on their way to the loop
  bool posted_ = false;                        // the loop will look at pieces_
  std::unordered_set<uint64_t> wants_prompt_;  // groups whose prompt is told back token by token
};

}  // namespace engine::http_api

#endif  // PLUGINS_HTTP_API_NODE_H_
