// One connection: requests in, responses out, in order, on the thread of the server's loop.
// Invariants: at most one request of a connection is under way, and none begins while more than the
// limit waits to be written; a stream beyond the limit is cut; while a request is under way the
// socket is watched, so that a client that leaves is noticed at once, unless it has sent 16 KiB
// ahead.
#ifndef PLUGINS_HTTP_API_CONNECTION_H_
#define PLUGINS_HTTP_API_CONNECTION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "exchange.h"
#include "http_message.h"

namespace engine::http_api {

// A byte stream: TCP, or TLS over it. Handlers run on the loop's thread.
class Socket {
 public:
  virtual ~Socket() = default;
  // What must happen before bytes flow; a handshake.
  virtual void Start(std::function<void(bool ok)> done) = 0;
  virtual void Read(char* to, size_t size, std::function<void(size_t got, bool ok)> done) = 0;
  virtual void Write(std::string_view bytes, std::function<void(bool ok)> done) = 0;
  virtual void Post(std::function<void()> body) = 0;  // soon, not within this call
  virtual void ShutDownWrite() = 0;                   // the other side sees an end
  virtual void Close() = 0;  // handlers that wait are called with ok = false
};

struct ConnectionLimits {
  uint32_t max_header = 0, max_body = 0, max_unread = 0;
  uint64_t read_ns = 0, write_ns = 0, idle_ns = 0;
  std::string cors_origin;
};

class Connection;

// Whoever answers requests.
class Handler {
 public:
  virtual ~Handler() = default;
  // The head of a request came and its body did not: whether it is worth waiting for.
  virtual Refusal OnHead(Connection* from, const HttpRequest& head, uint64_t body_bytes) = 0;
  // A request came whole. The answer is given by `exchange`, now or later.
  virtual void OnRequest(const std::shared_ptr<Connection>& from, HttpRequest request,
                         std::shared_ptr<Exchange> exchange) = 0;
  // The client left, or was cut off, while its request was under way; `slow`: it read too slowly.
  virtual void OnGone(const std::shared_ptr<Connection>& from, bool slow) = 0;
  virtual void OnClosed(const std::shared_ptr<Connection>& from) = 0;
  virtual void OnStatus(const Connection& from, int status) = 0;  // a response was begun
  virtual bool closing() const = 0;                               // no further request is wanted
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::unique_ptr<Socket> socket, const ConnectionLimits& limits, Handler* handler);
  ~Connection();
  void Start();
  // Closes what is overdue; called now and then.
  void CheckTime(uint64_t now);
  // Closes it when nothing is under way and nothing came for `idle_ns`; else it closes after its
  // answer.
  void CloseWhenIdle(uint64_t now, uint64_t idle_ns);
  void Close();
  // Of its request under way; the handler's own.
  uint64_t job = 0;
  const char* route = "none";
  uint64_t reserved = 0;   // bytes that its body may take
  std::string request_id;  // told with every answer

 private:
  class Channel;  // an Exchange
  friend class Channel;
  void Read();
  void OnBytes(size_t got, bool ok);
  void Handle(HttpReader::State state);
  void Refuse(const Refusal& refusal);
  void Next();
  size_t Unread() const { return out_.size() + writing_.size() - written_; }
  void Begin(int status, std::string_view type, int64_t length, const HttpHeaders& headers);
  void Send(std::string_view bytes);
  void Write();
  void ResponseDone();
  void End();

  const std::unique_ptr<Socket> socket_;
  const ConnectionLimits& limits_;
  Handler* const handler_;
  HttpReader reader_;
  std::string out_, writing_;
  size_t written_ = 0;  // of writing_
  bool reading_ = false, write_busy_ = false, closed_ = false;
  bool close_after_ = false;  // when all is written
  bool next_waits_ = false;   // a request that came waits until more is written
  bool streaming_ = false;    // what is under way is a stream
  bool broken_ = false;       // what comes is thrown away: the client still sends
  bool under_way_ = false;    // a request waits for its answer
  bool keep_alive_ = true, old_ = false, head_only_ = false, chunked_ = false;
  uint64_t serial_ = 0;  // of the request, so that a late exchange does nothing
  uint64_t read_since_ = 0, write_since_ = 0;
  char buffer_[16384];
};

}  // namespace engine::http_api

#endif  // PLUGINS_HTTP_API_CONNECTION_H_
