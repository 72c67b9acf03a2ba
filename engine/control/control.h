// The control endpoint of a running engine: a small HTTP server of its own, apart from any serving
// port. It reads and steers the run; it never touches packets.
// Invariants: it listens on loopback unless a bearer key is set (ENGINE_CONTROL_KEY); every route
// but /healthz asks for the key when there is one, compared in constant time.
#ifndef ENGINE_CONTROL_CONTROL_H_
#define ENGINE_CONTROL_CONTROL_H_

#include <memory>
#include <string>

#include "engine/abi/kind.h"
#include "engine/graph/plan.h"
#include "engine/runtime/run.h"

namespace engine::control {

// What it speaks of; all must outlive the server.
struct Subject {
  const graph::Plan* plan;
  const abi::KindIndex* index;
  runtime::Run* run;
};

class Server {
 public:
  // `address` is HOST:PORT; port 0 picks a free one. Listens when this returns.
  static Status Start(const std::string& address, const Subject& subject,
                      std::unique_ptr<Server>* out);
  ~Server();
  const std::string& address() const;  // with the port that was picked

 private:
  struct Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace engine::control

#endif  // ENGINE_CONTROL_CONTROL_H_
