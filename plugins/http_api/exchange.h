// One request's way back to its client. What is called after the client is gone does nothing.
#ifndef PLUGINS_HTTP_API_EXCHANGE_H_
#define PLUGINS_HTTP_API_EXCHANGE_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ask.h"
#include "http_message.h"

namespace engine::http_api {

class Exchange {
 public:
  virtual ~Exchange() = default;
  // The whole answer.
  virtual void Reply(int status, std::string_view type, std::string body,
                     const HttpHeaders& headers) = 0;
  // Server-sent events (WHATWG HTML, 9.2): begins them, sends one, and ends them.
  virtual void StartEvents(const HttpHeaders& headers) = 0;
  virtual void Event(std::string_view data) = 0;
  virtual void Comment(std::string_view text) = 0;
  virtual void EndEvents() = 0;

  void Reply(int status, const Json& body, const HttpHeaders& headers = {}) {
    Reply(status, "application/json", Line(body) + "\n", headers);
  }
  void Refuse(const Refusal& refusal);
};

}  // namespace engine::http_api

#endif  // PLUGINS_HTTP_API_EXCHANGE_H_
