// Routes, limits and the requests under way. What a client may be refused for is told by the head
// of its request, before its body is waited for. Everything runs on the loop's thread but what is
// tagged. Invariant: a request for text is in `jobs_` from its admission until its answer has
// ended, failed or its client has gone; each of its prompts has one group, which leaves `groups_`
// with it.
#ifndef PLUGINS_HTTP_API_SERVER_H_
#define PLUGINS_HTTP_API_SERVER_H_

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "engine/node.hpp"
#include "figures.h"
#include "generation.h"
#include "keys.h"
#include "sessions.h"
#include "sockets.h"

namespace engine::http_api {

// What is known of the model that is served.
struct ModelFacts {
  std::string name;  // as clients call it
  std::string own_name, architecture;
  std::vector<std::string> adapters;
  int64_t vocab = 0, context = 0;
  uint64_t fingerprint = 0;
  bool has_chat = false, template_has_tools = false;
};

// A prompt on its way into the engine.
struct Submission {
  uint64_t group = 0;
  Prompt prompt;
  std::shared_ptr<const Ask> ask;
  std::string adapter, key, salt;
  uint64_t arrived_ns = 0;
};

// The engine, as the server asks it for things; called on the loop's thread.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual void Submit(Submission submission) = 0;
  virtual void Abandon(uint64_t group) = 0;
  virtual void Enough(uint64_t group, uint32_t choice) = 0;
  // Runs `body` with the model on a worker, soon.
  virtual void OnWorker(std::function<void(engine_model*)> body) = 0;
};

struct ServerOptions {
  ConnectionLimits connections;
  uint32_t max_connections = 0, max_requests = 0, max_requests_per_key = 0;
  uint32_t max_answers = 0, max_prompts = 0;
  uint64_t max_waiting_bytes = 0;
  uint64_t ping_ns = 0, stall_ns = 0, session_ns = 0;
  bool page = true, vllm_metrics = false;
};

class Server : public Handler {
 public:
  Server(Loop* loop, Backend* backend, const ServerOptions& options, Keys keys, ModelFacts facts);

  void Accept(std::unique_ptr<Socket> socket);
  void Tick(uint64_t now);
  void OnPieces(std::vector<Piece> pieces);
  // No new work; what is under way goes on. [any]
  void SetDraining() { draining_.store(true); }
  // Answers what is left, and closes everything.
  void EndAll();
  bool quiet() const { return jobs_.empty() && connections_.empty(); }

  Refusal OnHead(Connection* from, const HttpRequest& head, uint64_t body_bytes) override;
  void OnRequest(const std::shared_ptr<Connection>& from, HttpRequest request,
                 std::shared_ptr<Exchange> exchange) override;
  void OnGone(const std::shared_ptr<Connection>& from, bool slow) override;
  void OnClosed(const std::shared_ptr<Connection>& from) override;
  void OnStatus(const Connection& from, int status) override;
  bool closing() const override { return draining_.load(); }

 private:
  struct Job {
    uint64_t number = 0;
    int key = 0;
    std::unique_ptr<Generation> generation;
    std::vector<uint64_t> groups;
    uint64_t said_ns = 0;  // when something was last sent
  };
  struct Group {
    std::shared_ptr<Job> job;
    size_t prompt = 0;   // its place in the job
    uint32_t ended = 0;  // answers
  };
  // A request as routes see it.
  struct Incoming {
    const std::shared_ptr<Connection>& from;
    const HttpRequest& request;
    std::shared_ptr<Exchange> exchange;
    int key = 0;
    std::string rest;  // of the path, behind the route's beginning
    uint64_t arrived_ns = 0;
  };
  struct Route {
    const char* method;
    const char* path;  // one that ends in '/' takes what follows as `rest`
    bool open;         // needs no key
    bool works;        // takes the engine's time: within the limits on requests
    void (Server::*run)(Incoming& in);
  };
  static const std::vector<Route>& Routes();
  // What a head leads to; a refusal where it leads nowhere, or may not.
  struct Judged {
    const Route* route = nullptr;
    int key = 0;
    std::string allowed;  // methods of the path
    Refusal refusal;
  };
  Judged Judge(const HttpRequest& head);
  void Begin(Connection* from, const HttpRequest& head);
  void Later(uint64_t after_ns, std::function<void()> body);
  bool OriginFits(const HttpRequest& head) const;

  // routes.cc
  void Page(Incoming& in);
  void Health(Incoming& in);
  void Live(Incoming& in);
  void Ready(Incoming& in);
  void Metrics(Incoming& in);
  void Version(Incoming& in);
  void Props(Incoming& in);
  void OpenApi(Incoming& in);
  void ListModels(Incoming& in);
  void OneModel(Incoming& in);
  void Embeddings(Incoming& in);
  void Tokenize(Incoming& in);
  void Detokenize(Incoming& in);
  void ApplyTemplate(Incoming& in);
  void GetSession(Incoming& in);
  void DeleteSession(Incoming& in);
  bool ReadBody(Incoming& in, Json* body);
  void AskSession(Incoming& in, bool drop);
  // Looks at a session, or forgets it. One that was used just now is waited for a little: the
  // engine puts it away in the step after the answer.
  void AskSession(const SessionId& id, bool drop, std::shared_ptr<Exchange> exchange, int tries);
  void DropSession(const SessionId& id) { AskSession(id, true, nullptr, 0); }
  Json ModelJson(const std::string& name, const std::string& parent) const;
  void OnWorkerReply(Incoming& in,
                     std::function<void(engine_model*, Json* body, Refusal* refusal)> work);

  // jobs.cc
  void Chat(Incoming& in) { Generate(in, Style::kChat); }
  void Complete(Incoming& in) { Generate(in, Style::kCompletion); }
  void GenerateText(Incoming& in) { Generate(in, Style::kGenerate); }
  void Generate(Incoming& in, Style style);
  Refusal Admit(int key);
  bool FindAdapter(const std::string& model, std::string* adapter) const;
  void End(const std::shared_ptr<Job>& job, const char* reason);
  void Abandon(const std::shared_ptr<Job>& job);
  std::string Salt(int key, const std::string& salt) const;
  double RetryAfter(bool ahead);
  AskLimits Limits() const;

  Loop* const loop_;
  Backend* const backend_;
  const ServerOptions options_;
  const Keys keys_;
  const ModelFacts facts_;
  Figures figures_;
  Sessions sessions_;
  std::atomic<bool> draining_{false};
  std::unordered_set<std::shared_ptr<Connection>> connections_;
  std::unordered_map<uint64_t, std::shared_ptr<Job>> jobs_;  // by number
  std::unordered_map<uint64_t, Group> groups_;               // those that have not ended
  uint32_t tasks_ = 0;                                       // on their way to a worker and back
  uint64_t reserved_ = 0;  // bytes of bodies that are on their way
  uint64_t next_request_ = 1;
  std::deque<std::pair<uint64_t, std::function<void()>>> later_;  // when, and what
  std::map<int, uint32_t> by_key_;                                // requests under way
  uint64_t next_group_ = 1, next_job_ = 1;
  uint64_t moved_ns_ = 0;          // when a token last came, or work began
  std::deque<uint64_t> ended_ns_;  // of late, for the rate
  // Who was told to come again before whoever comes now, and when that was.
  double refused_ahead_ = 0;
  uint64_t refused_ns_ = 0;
  std::string instance_;  // begins ids, so that two servers' differ
};

}  // namespace engine::http_api

#endif  // PLUGINS_HTTP_API_SERVER_H_
