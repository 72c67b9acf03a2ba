#include "http_message.h"

#include <algorithm>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <charconv>
#include <optional>

namespace engine::http_api {

namespace http = boost::beast::http;

namespace {

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string_view View(boost::beast::string_view s) { return {s.data(), s.size()}; }

// Decodes %XX; false where it is none, or stands for a zero byte.
bool Decode(std::string_view in, std::string* out) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  out->clear();
  for (size_t i = 0; i < in.size(); ++i) {
    if (in[i] != '%') {
      out->push_back(in[i]);
      continue;
    }
    if (i + 2 >= in.size()) return false;
    const int high = digit(in[i + 1]), low = digit(in[i + 2]);
    if (high < 0 || low < 0 || (high == 0 && low == 0)) return false;
    out->push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return true;
}

// Whether the path climbs: by ".." or "." as a part.
bool Climbs(std::string_view path) {
  for (size_t i = 0; i < path.size();) {
    const size_t end = std::min(path.find('/', i), path.size());
    const std::string_view part = path.substr(i, end - i);
    if (part == "." || part == "..") return true;
    i = end + 1;
  }
  return false;
}

}  // namespace

std::string_view HttpRequest::Header(std::string_view name) const {
  for (const auto& [n, value] : headers) {
    if (n == name) return value;
  }
  return {};
}

struct HttpReader::Impl {
  std::optional<http::request_parser<http::string_body>> parser;
  HttpRequest head;
  bool told = false;  // kHead was answered
};

HttpReader::HttpReader(uint32_t max_header, uint32_t max_body)
    : max_header_(max_header), max_body_(max_body), impl_(std::make_unique<Impl>()) {}
HttpReader::~HttpReader() = default;

bool HttpReader::begun() const {
  return !buffer_.empty() || (impl_->parser.has_value() && impl_->parser->got_some());
}
const HttpRequest& HttpReader::head() const { return impl_->head; }
uint64_t HttpReader::expected() const {
  const auto length = impl_->parser->content_length();
  return length ? *length : max_body_;
}

HttpReader::State HttpReader::Bad(int status, std::string why) {
  status_ = status;
  problem_ = std::move(why);
  return State::kBad;
}

HttpReader::State HttpReader::Feed(std::string_view bytes) {
  if (status_ != 0) return State::kBad;
  buffer_.append(bytes);
  return Read();
}

// The head as it is now, before anything of the body could add to it; kMore: it is good.
HttpReader::State HttpReader::TakeHead() {
  auto& parser = *impl_->parser;
  const auto& message = parser.get();
  HttpRequest head;
  head.method = std::string(View(message.method_string()));
  head.old = message.version() == 10;
  head.keep_alive = message.keep_alive();
  for (const auto& field : message) {
    head.headers.emplace_back(Lower(View(field.name_string())), std::string(View(field.value())));
  }
  const size_t lengths = message.count(http::field::content_length);
  const size_t codings = message.count(http::field::transfer_encoding);
  if (lengths > 1 || (lengths != 0 && codings != 0)) {
    return Bad(400, "the length of the body is told in two ways");
  }
  // RFC 9112, 6.3: where the body ends cannot be known else.
  if (codings > 1 || (codings == 1 && Lower(head.Header("transfer-encoding")) != "chunked")) {
    return Bad(400, "the body's transfer coding can be chunked alone");
  }
  if (head.old && codings != 0) {
    return Bad(400, "HTTP/1.0 has no Transfer-Encoding");
  }
  if (!head.old && message.count(http::field::host) != 1) {
    return Bad(400, "one Host must be there");
  }
  const std::string expect = Lower(head.Header("expect"));
  if (!expect.empty() && expect != "100-continue") {
    return Bad(417, "only 100-continue may be expected");
  }
  waits_ = !expect.empty();
  if (parser.content_length() && *parser.content_length() > max_body_) {
    return Bad(413, "the body has " + std::to_string(*parser.content_length()) +
                        " bytes; at most " + std::to_string(max_body_) + " are taken");
  }
  std::string_view target = View(message.target());
  // A proxy's form of a target: scheme and host are left out.
  const size_t scheme = target.find("://");
  if (scheme != std::string_view::npos && target[0] != '/') {
    const size_t slash = target.find('/', scheme + 3);
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  const size_t question = target.find('?');
  if (question != std::string_view::npos) head.query = std::string(target.substr(question + 1));
  // A path that cannot be one leads nowhere.
  if (!Decode(target.substr(0, question), &head.path) || Climbs(head.path)) head.path.clear();
  impl_->head = std::move(head);
  return State::kMore;
}

HttpReader::State HttpReader::Read() {
  if (!impl_->parser.has_value()) {
    impl_->parser.emplace();
    impl_->parser->header_limit(max_header_);
    impl_->parser->body_limit(max_body_);
    // First the head alone, so that nothing of a trailer is in it.
    impl_->parser->eager(false);
    impl_->told = waits_ = false;
  }
  auto& parser = *impl_->parser;
  // Line ends before a request are left out (RFC 9112, 2.2).
  while (!parser.got_some() && buffer_.compare(0, 2, "\r\n") == 0) buffer_.erase(0, 2);
  if (!parser.got_some() && buffer_ == "\r") return State::kMore;
  boost::beast::error_code ec;
  while (!buffer_.empty() && !parser.is_done()) {
    // Beast 1.74 asserts that it has five bytes of a last chunk in hand when it looks at one again,
    // and there are no fewer.
    constexpr size_t kLastChunkBytes = 5;
    if (parser.is_header_done() && parser.chunked() && buffer_.size() < kLastChunkBytes &&
        buffer_.find_first_not_of("0\r\n") == std::string::npos) {
      break;
    }
    const bool had_header = parser.is_header_done();
    const size_t used = parser.put(boost::asio::const_buffer(buffer_.data(), buffer_.size()), ec);
    buffer_.erase(0, used);
    const bool more = ec == http::error::need_more;
    if (ec == http::error::body_limit) {
      return Bad(413, "the body has more than " + std::to_string(max_body_) + " bytes");
    } else if (ec == http::error::header_limit) {
      return Bad(431,
                 "the head of the request has more than " + std::to_string(max_header_) + " bytes");
    } else if (ec && !more) {
      return Bad(400, "no HTTP request: " + ec.message());
    }
    if (!had_header && parser.is_header_done()) {
      if (TakeHead() == State::kBad) return State::kBad;
      parser.eager(true);
    }
    // Heads, the lines before chunks and trailers are each read in one piece: what waits for the
    // end of one is bounded here.
    if (more && buffer_.size() > max_header_) {
      if (parser.is_header_done()) return Bad(400, "a chunk's line or trailer is too long");
      return Bad(431,
                 "the head of the request has more than " + std::to_string(max_header_) + " bytes");
    }
    if (more && used == 0) break;
    ec = {};
  }
  if (parser.is_done()) return State::kDone;
  if (!parser.is_header_done()) return State::kMore;
  if (!std::exchange(impl_->told, true)) return State::kHead;
  return std::exchange(waits_, false) ? State::kContinue : State::kMore;
}

HttpRequest HttpReader::Take() {
  HttpRequest out = std::move(impl_->head);
  out.body = std::move(impl_->parser->get().body());
  impl_->head = {};
  impl_->parser.reset();
  return out;
}

std::string_view StatusText(int status) {
  const auto text = http::obsolete_reason(static_cast<http::status>(status));
  return {text.data(), text.size()};
}

std::string ResponseHead(int status, std::string_view type, int64_t length, bool keep_alive,
                         const HttpHeaders& headers) {
  std::string out = "HTTP/1.1 " + std::to_string(status) + " ";
  out.append(StatusText(status)).append("\r\n");
  if (!type.empty()) out.append("Content-Type: ").append(type).append("\r\n");
  if (length == kChunked) out += "Transfer-Encoding: chunked\r\n";
  // RFC 9110, 8.6: not where no body can be.
  if (length >= 0 && status != 204) out += "Content-Length: " + std::to_string(length) + "\r\n";
  out += keep_alive ? "Connection: keep-alive\r\n" : "Connection: close\r\n";
  for (const auto& [name, value] : headers) {
    out.append(name).append(": ");
    for (const char c : value) {
      if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) out.push_back(c);
    }
    out += "\r\n";
  }
  return out += "\r\n";
}

void AppendChunk(std::string_view data, std::string* to) {
  if (data.empty()) return;  // it would end the body
  char length[16];
  const auto end = std::to_chars(length, length + sizeof length, data.size(), 16).ptr;
  to->append(length, end).append("\r\n").append(data).append("\r\n");
}

}  // namespace engine::http_api
