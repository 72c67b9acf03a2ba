#include "connection.h"

#include "engine/util.hpp"

namespace engine::http_api {
namespace {

constexpr uint64_t kLingerNs = 2'000'000'000;
// Written at once: so often does a reader show that it still reads.
constexpr size_t kPiece = 64 << 10;

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
    to->streaming_ = true;
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
  if (close_after_) return Read();  // nothing is asked any more
  if (!reader_.begun()) read_since_ = NowNs();
  if (under_way_ || next_waits_) {
    // A request ahead of its turn: it waits, as far as there is room.
    reader_.Hold(std::string_view(buffer_, got));
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
    case HttpReader::State::kHead: {
      const Refusal refusal = handler_->OnHead(this, reader_.head(), reader_.expected());
      return refusal.set() ? Refuse(refusal) : Handle(reader_.Feed({}));
    }
    case HttpReader::State::kBad:
      return Refuse(Refused(reader_.status(), reader_.problem()));
    case HttpReader::State::kDone:
      break;
  }
  HttpRequest request = reader_.Take();
  ++serial_;
  under_way_ = true;
  keep_alive_ = request.keep_alive && !handler_->closing();
  old_ = request.old;
  head_only_ = request.method == "HEAD";
  chunked_ = streaming_ = false;
  const auto self = shared_from_this();
  handler_->OnRequest(self, std::move(request), std::make_shared<Channel>(self));
  if (under_way_) Read();
}

// Of what is refused here, not all was read: nothing behind it can be told apart from it.
void Connection::Refuse(const Refusal& refusal) {
  ++serial_;
  under_way_ = broken_ = true;
  keep_alive_ = head_only_ = chunked_ = streaming_ = false;
  job = 0;
  std::make_shared<Channel>(shared_from_this())->Refuse(refusal);
}

void Connection::Begin(int status, std::string_view type, int64_t length,
                       const HttpHeaders& headers) {
  handler_->OnStatus(*this, status);
  HttpHeaders all = headers;
  if (!request_id.empty()) all.emplace_back("X-Request-Id", request_id);
  if (!limits_.cors_origin.empty()) {
    all.emplace_back("Access-Control-Allow-Origin", limits_.cors_origin);
    all.emplace_back("Vary", "Origin");
  }
  Send(ResponseHead(status, type, length, keep_alive_, all));
}

void Connection::Send(std::string_view bytes) {
  if (closed_) return;
  out_ += bytes;
  // A whole answer may be large; a stream that nobody reads is cut.
  if (streaming_ && under_way_ && write_busy_ && Unread() > limits_.max_unread) {
    under_way_ = false;
    handler_->OnGone(shared_from_this(), true);
    return Close();
  }
  Write();
}

void Connection::Write() {
  if (write_busy_ || closed_) return;
  if (written_ == writing_.size()) {
    if (out_.empty()) return;
    writing_.clear();
    writing_.swap(out_);
    written_ = 0;
  }
  write_busy_ = true;
  write_since_ = NowNs();
  const std::string_view piece = std::string_view(writing_).substr(written_, kPiece);
  socket_->Write(piece, [self = shared_from_this(), size = piece.size()](bool ok) {
    self->write_busy_ = false;
    self->written_ += size;
    if (self->closed_) return;
    if (!ok) return self->Close();
    if (self->Unread() != 0) {
      self->Write();
      if (self->Unread() > self->limits_.max_unread) return;
    } else {
      // A large answer's memory is not kept.
      if (self->writing_.capacity() > kPiece) self->writing_ = {};
      self->writing_.clear();
      self->written_ = 0;
      if (self->close_after_) return self->End();
    }
    if (std::exchange(self->next_waits_, false)) self->Next();
  });
}

void Connection::ResponseDone() {
  under_way_ = false;
  if (!keep_alive_) {
    close_after_ = true;
    if (!write_busy_ && Unread() == 0) End();
    return;
  }
  read_since_ = NowNs();
  Next();
}

// On to the next request, which may be here already; none begins while too much waits to be read,
// and not within this call, or a thousand of them would nest.
void Connection::Next() {
  if (closed_ || under_way_) return;
  if (!reader_.begun()) return Read();
  if (Unread() > limits_.max_unread) {
    next_waits_ = true;
    return;
  }
  socket_->Post([self = shared_from_this()] {
    if (!self->closed_ && !self->under_way_) self->Handle(self->reader_.Feed({}));
  });
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
  if (under_way_ || write_busy_ || next_waits_) return;
  if (broken_) {
    if (now > read_since_ + kLingerNs) Close();
  } else if (reader_.begun()) {
    if (now > read_since_ + limits_.read_ns) {
      Refuse(Refused(408, "the request did not come whole within " +
                              std::to_string(limits_.read_ns / 1'000'000) + " ms"));
    }
  } else if (now > read_since_ + (serial_ == 0 ? limits_.read_ns : limits_.idle_ns)) {
    Close();  // of a first request, a handshake counts
  }
}

void Connection::CloseWhenIdle(uint64_t now, uint64_t idle_ns) {
  keep_alive_ = false;
  if (!under_way_ && !reader_.begun() && !write_busy_ && now >= read_since_ + idle_ns) Close();
}

void Connection::Close() {
  if (std::exchange(closed_, true)) return;
  const auto self = shared_from_this();
  if (std::exchange(under_way_, false)) handler_->OnGone(self, false);
  socket_->Close();
  handler_->OnClosed(self);
}

}  // namespace engine::http_api
