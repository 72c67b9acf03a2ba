// The loop that all input and output happens on, its listening socket, and sockets of both kinds.
// Invariant: everything but Post and Stop is called on the thread that runs the loop.
#ifndef PLUGINS_HTTP_API_SOCKETS_H_
#define PLUGINS_HTTP_API_SOCKETS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "connection.h"
#include "engine/status.hpp"

namespace engine::http_api {

class Loop {
 public:
  Loop();
  ~Loop();

  // Before Run. With a certificate, connections speak TLS 1.2 or later.
  Status Listen(const std::string& host, uint32_t port, const std::string& certificate,
                const std::string& key);
  std::string address() const;  // "http://127.0.0.1:8080"

  // Runs until Stop. `accepted` takes each new connection, `tick` comes every `tick_ns`.
  void Run(std::function<void(std::unique_ptr<Socket>)> accepted, uint64_t tick_ns,
           std::function<void()> tick);
  void Post(std::function<void()> body);  // [any]
  void Stop();                            // [any]

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace engine::http_api

#endif  // PLUGINS_HTTP_API_SOCKETS_H_
