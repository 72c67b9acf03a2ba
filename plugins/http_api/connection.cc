#include "connection.h"

#include "engine/util.hpp"

namespace engine::http_api {
namespace {

constexpr uint64_t kLingerNs = 2'000'000'000;

}  // namespace

class Connection::Channel : public Exchange {
 public:
  explicit Channel(const std::shared_ptr<Connection>& to) : to_(to), serial_(to->serial_) {}

  void Reply(int status, std::string_view type, std::string body,
             const HttpHeaders& headers) override {
    const auto to = Live();
    if (to == nullptr) return;
    to->Begin(status, type, static_cast<int64_t>(body.size()), headers);
    if (!to->head_only_) to->Send(body);
    to->ResponseDone();
  }
  void StartEvents(const HttpHeaders& headers) override {
    const auto to = Live();
    if (to == nullptr) return;
    HttpHeaders all = headers;
    all.emplace_back("Cache-Control", "no-cache");
    all.emplace_back("X-Accel-Buffering", "no");
    to->chunked_ = !to->old_;
    if (to->old_) to->keep_alive_ = false;
    to->Begin(200, "text/event-stream; charset=utf-8", to->old_ ? kUntilClose : kChunked, all);
  }
  void Event(std::string_view data) override {
    frame_.assign("data: ").append(data).append("\n\n");
    SendFrame();
  }
  void Comment(std::string_view text) override {
    frame_.assign(": ").append(text).append("\n\n");
    SendFrame();
  }
  void EndEvents() override {
    const auto to = Live();
    if (to == nullptr) return;
    if (to->chunked_) to->Send(kLastChunk);
    to->ResponseDone();
  }

 private:
  std::shared_ptr<Connection> Live() const {
    auto to = to_.lock();
    const bool live = to != nullptr && !to->closed_ && to->under_way_ && to->serial_ == serial_;
    return live ? to : nullptr;
  }
  void SendFrame() {
    const auto to = Live();
    if (to == nullptr) return;
    if (!to->chunked_) return to->Send(frame_);
    chunk_.clear();
    AppendChunk(frame_, &chunk_);
    to->Send(chunk_);
  }
  const std::weak_ptr<Connection> to_;
  const uint64_t serial_;
  std::string frame_, chunk_;
};

Connection::Connection(std::unique_ptr<Socket> socket, const ConnectionLimits& limits,
                       Handler* handler)
    : socket_(std::move(socket)),
      limits_(limits),
      handler_(handler),
      reader_(limits.max_header, limits.max_body) {}
Connection::~Connection() = default;

void Connection::Start() {
  read_since_ = NowNs();
  socket_->Start([self = shared_from_this()](bool ok) {
    if (!ok) return self->Close();
    self->Read();
  });
}

void Connection::Read() {
  if (reading_ || closed_) return;
  reading_ = true;
  socket_->Read(buffer_, sizeof buffer_, [self = shared_from_this()](size_t got, bool ok) {
    self->reading_ = false;
    self->OnBytes(got, ok);
  });
}

void Connection::OnBytes(size_t got, bool ok) {
  if (closed_) return;
  if (ok && broken_) return Read();
  if (!ok) {
    // The client is gone. A half that was closed in order looks the same; nobody reads there
    // either.
    return Close();
  }
  const bool fresh = !reader_.begun();
  if (fresh) read_since_ = NowNs();
  if (under_way_) {
    // A request ahead of its turn: it waits in the reader, as far as there is room.
    reader_.Feed(std::string_view(buffer_, got));
    if (reader_.ahead() <= sizeof buffer_) Read();
    return;
  }
  Handle(reader_.Feed(std::string_view(buffer_, got)));
}

void Connection::Handle(HttpReader::State state) {
  switch (state) {
    case HttpReader::State::kContinue:
      Send("HTTP/1.1 100 Continue\r\n\r\n");
      return Read();
    case HttpReader::State::kMore:
      return Read();
    case HttpReader::State::kBad:
      return Refuse(reader_.status(), reader_.problem());
    case HttpReader::State::kDone:
      break;
  }
  HttpRequest request = reader_.Take();
  ++serial_;
  under_way_ = true;
  keep_alive_ = request.keep_alive && !handler_->closing();
  old_ = request.old;
  head_only_ = request.method == "HEAD";
  chunked_ = false;
  const auto self = shared_from_this();
  handler_->OnRequest(self, std::move(request), std::make_shared<Channel>(self));
  if (under_way_) Read();
}

// What was read is no request: nothing behind it can be trusted.
void Connection::Refuse(int status, const std::string& why) {
  ++serial_;
  under_way_ = broken_ = true;
  keep_alive_ = head_only_ = false;
  job = 0;
  route = "none";
  Refusal refusal;
  refusal.status = status;
  refusal.message = why;
  std::make_shared<Channel>(shared_from_this())->Refuse(refusal);
}

void Connection::Begin(int status, std::string_view type, int64_t length,
                       const HttpHeaders& headers) {
  handler_->OnStatus(*this, status);
  if (limits_.cors_origin.empty()) {
    Send(ResponseHead(status, type, length, keep_alive_, headers));
    return;
  }
  HttpHeaders all = headers;
  all.emplace_back("Access-Control-Allow-Origin", limits_.cors_origin);
  all.emplace_back("Vary", "Origin");
  Send(ResponseHead(status, type, length, keep_alive_, all));
}

void Connection::Send(std::string_view bytes) {
  if (closed_) return;
  out_ += bytes;
  if (out_.size() + writing_.size() > limits_.max_unread && write_busy_ && under_way_) {
    // A whole answer may be large; a stream that nobody reads is cut.
    if (chunked_ || old_) {
      under_way_ = false;
      handler_->OnGone(shared_from_this(), true);
      return Close();
    }
  }
  Write();
}

void Connection::Write() {
  if (write_busy_ || closed_ || out_.empty()) return;
  write_busy_ = true;
  writing_.clear();
  writing_.swap(out_);
  write_since_ = NowNs();
  socket_->Write(writing_, [self = shared_from_this()](bool ok) {
    self->write_busy_ = false;
    self->writing_.clear();
    if (self->closed_) return;
    if (!ok) return self->Close();
    if (!self->out_.empty()) return self->Write();
    if (self->close_after_) self->End();
  });
}

void Connection::ResponseDone() {
  under_way_ = false;
  if (!keep_alive_) {
    close_after_ = true;
    if (!write_busy_ && out_.empty()) End();
    return;
  }
  read_since_ = NowNs();
  // The next request may be here already; not from within this call, or a thousand of them would
  // nest.
  if (reader_.begun()) {
    return socket_->Post([self = shared_from_this()] {
      if (!self->closed_ && !self->under_way_) self->Handle(self->reader_.Feed({}));
    });
  }
  Read();
}

// All is written. Closing on a client that still sends would throw away what it has not read yet.
void Connection::End() {
  if (!broken_) return Close();
  socket_->ShutDownWrite();
  read_since_ = NowNs();
  Read();
}

void Connection::CheckTime(uint64_t now) {
  if (closed_) return;
  if (write_busy_ && now > write_since_ + limits_.write_ns) {
    if (std::exchange(under_way_, false)) handler_->OnGone(shared_from_this(), true);
    return Close();
  }
  if (under_way_ || write_busy_) return;
  if (broken_) {
    if (now > read_since_ + kLingerNs) Close();
  } else if (reader_.begun()) {
    if (now > read_since_ + limits_.read_ns) {
      Refuse(408, "the request did not come whole within " +
                      std::to_string(limits_.read_ns / 1'000'000) + " ms");
    }
  } else if (now > read_since_ + limits_.idle_ns) {
    Close();
  }
}

void Connection::CloseWhenIdle() {
  keep_alive_ = false;
  if (!under_way_ && !reader_.begun() && !write_busy_) Close();
}

void Connection::Close() {
  if (std::exchange(closed_, true)) return;
  const auto self = shared_from_this();
  if (std::exchange(under_way_, false)) handler_->OnGone(self, false);
  socket_->Close();
  handler_->OnClosed(self);
}

}  // namespace engine::http_api
