// HTTP/1.1 requests from bytes and responses as bytes; no sockets. The reading is Boost.Beast's,
// with limits of our own around it.
// Invariant: a request that comes out has one meaning: its length is told in one way, its target is
// a path without "." and ".." parts, its headers are those of its head, and neither it nor what is
// held while it comes is larger than allowed.
#ifndef PLUGINS_HTTP_API_HTTP_MESSAGE_H_
#define PLUGINS_HTTP_API_HTTP_MESSAGE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace engine::http_api {

struct HttpRequest {
  std::string method;
  std::string path;   // decoded, "/v1/models"
  std::string query;  // behind the '?', as it came
  std::string body;
  bool keep_alive = true;
  bool old = false;                                          // HTTP/1.0: no chunks
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case

  // The first header of that lower-case name; empty: there is none.
  std::string_view Header(std::string_view name) const;
};

// Reads the requests of one connection, one after the other.
class HttpReader {
 public:
  HttpReader(uint32_t max_header, uint32_t max_body);
  ~HttpReader();

  enum class State {
    kMore,      // bytes are missing
    kHead,      // head() is there and the body is not: look at it, then go on by Feed({})
    kContinue,  // the head is there and the client waits to be told to send the body
    kDone,      // take it by Take()
    kBad        // the connection cannot go on: status() and problem() say why
  };
  // Appends bytes and reads on.
  State Feed(std::string_view bytes);
  // Appends bytes for later.
  void Hold(std::string_view bytes) { buffer_.append(bytes); }
  // Of the request that is being read, without its body.
  const HttpRequest& head() const;
  // Bytes of the body that may still come, at most.
  uint64_t expected() const;
  // Whether anything of a request has come.
  bool begun() const;
  // Bytes that are held beyond the request.
  size_t ahead() const { return buffer_.size(); }
  HttpRequest Take();  // and reads on: call Feed({})
  int status() const { return status_; }
  const std::string& problem() const { return problem_; }

 private:
  struct Impl;
  State Read();
  State TakeHead();
  State Bad(int status, std::string why);
  const uint32_t max_header_, max_body_;
  std::unique_ptr<Impl> impl_;
  std::string buffer_;  // not read yet
  int status_ = 0;
  std::string problem_;
  bool waits_ = false;  // the client, to be told to go on
};

// Names are sent as they are given. Values must hold no line ends.
using HttpHeaders = std::vector<std::pair<std::string_view, std::string>>;

// Head of a response; `length` of the body, or kChunked, or kUntilClose.
inline constexpr int64_t kChunked = -1, kUntilClose = -2;
std::string ResponseHead(int status, std::string_view type, int64_t length, bool keep_alive,
                         const HttpHeaders& headers);
std::string_view StatusText(int status);

// One chunk of a chunked body; and its end.
void AppendChunk(std::string_view data, std::string* to);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

}  // namespace engine::http_api

#endif  // PLUGINS_HTTP_API_HTTP_MESSAGE_H_
