#include "sockets.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <type_traits>
#include <utility>

#include "engine/host.hpp"

namespace engine::http_api {

namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;

namespace {

// What the kernel keeps of an answer beyond what we count.
constexpr int kSendBuffer = 128 << 10;

// Over TCP itself, or over TLS on it. One operation of a kind at a time, which is all that
// Connection asks for.
template <typename Stream>
class StreamSocket : public Socket {
 public:
  template <typename... Parts>
  explicit StreamSocket(Parts&&... parts) : stream_(std::forward<Parts>(parts)...) {}
  void Start(std::function<void(bool)> done) override {
    if constexpr (std::is_same_v<Stream, tcp::socket>) {
      done(true);
    } else {
      stream_.async_handshake(asio::ssl::stream_base::server,
                              [done = std::move(done)](const ErrorCode& ec) { done(!ec); });
    }
  }
  void Read(char* to, size_t size, std::function<void(size_t, bool)> done) override {
    stream_.async_read_some(
        asio::buffer(to, size),
        [done = std::move(done)](const ErrorCode& ec, size_t got) { done(got, !ec); });
  }
  void Write(std::string_view bytes, std::function<void(bool)> done) override {
    asio::async_write(stream_, asio::buffer(bytes.data(), bytes.size()),
                      [done = std::move(done)](const ErrorCode& ec, size_t) { done(!ec); });
  }
  void Post(std::function<void()> body) override {
    asio::post(stream_.get_executor(), std::move(body));
  }
  void ShutDownWrite() override {
    ErrorCode ignored;
    stream_.lowest_layer().shutdown(tcp::socket::shutdown_send, ignored);
  }
  void Close() override {
    ErrorCode ignored;
    stream_.lowest_layer().shutdown(tcp::socket::shutdown_both, ignored);
    stream_.lowest_layer().close(ignored);
  }

 private:
  Stream stream_;
};
using PlainSocket = StreamSocket<tcp::socket>;
using TlsSocket = StreamSocket<asio::ssl::stream<tcp::socket>>;

}  // namespace

struct Loop::Impl {
  asio::io_context context{1};
  tcp::acceptor acceptor{context};
  asio::steady_timer timer{context};
  std::unique_ptr<asio::ssl::context> tls;
  std::function<void(std::unique_ptr<Socket>)> accepted;
  std::function<void()> tick;
  uint64_t tick_ns = 0;

  void Accept() {
    acceptor.async_accept([this](const ErrorCode& ec, tcp::socket socket) {
      if (ec == asio::error::operation_aborted) return;
      if (ec) {
        // No descriptors are left, most likely: some time for others to end.
        auto later = std::make_shared<asio::steady_timer>(context, std::chrono::milliseconds(50));
        later->async_wait([this, later](const ErrorCode& e) {
          if (!e) Accept();
        });
        return;
      }
      ErrorCode ignored;
      socket.set_option(tcp::no_delay(true), ignored);
      socket.set_option(asio::socket_base::send_buffer_size(kSendBuffer), ignored);
      std::unique_ptr<Socket> made;
      if (tls != nullptr) {
        made = std::make_unique<TlsSocket>(std::move(socket), *tls);
      } else {
        made = std::make_unique<PlainSocket>(std::move(socket));
      }
      accepted(std::move(made));
      Accept();
    });
  }
  void Tick() {
    timer.expires_after(std::chrono::nanoseconds(static_cast<int64_t>(tick_ns)));
    timer.async_wait([this](const ErrorCode& ec) {
      if (ec) return;
      tick();
      Tick();
    });
  }
};

Loop::Loop() : impl_(std::make_unique<Impl>()) {}
Loop::~Loop() = default;

Status Loop::Listen(const std::string& host, uint32_t port, const std::string& certificate,
                    const std::string& key) {
  ErrorCode ec;
  if (certificate.empty() != key.empty()) {
    return Error(ENGINE_INVALID_ARGUMENT, "tls_certificate and tls_key go together: ",
                 certificate.empty() ? "the certificate" : "the key", " is missing");
  }
  if (!certificate.empty()) {
    impl_->tls = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
    impl_->tls->set_options(asio::ssl::context::no_sslv2 | asio::ssl::context::no_sslv3 |
                                asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1,
                            ec);
    impl_->tls->use_certificate_chain_file(certificate, ec);
    if (ec) {
      return Error(ENGINE_INVALID_ARGUMENT, "tls_certificate '", certificate,
                   "' is no chain of certificates in PEM form: ", ec.message());
    }
    impl_->tls->use_private_key_file(key, asio::ssl::context::pem, ec);
    if (ec) {
      return Error(ENGINE_INVALID_ARGUMENT, "tls_key '", key,
                   "' is no private key in PEM form that fits the certificate: ", ec.message());
    }
  }
  tcp::resolver resolver(impl_->context);
  const auto found = resolver.resolve(host, std::to_string(port),
                                      tcp::resolver::passive | tcp::resolver::numeric_service, ec);
  if (ec || found.empty()) {
    return Error(ENGINE_INVALID_ARGUMENT, "host '", host,
                 "' is no address of this machine: ", ec.message());
  }
  const tcp::endpoint endpoint = *found.begin();
  tcp::acceptor& acceptor = impl_->acceptor;
  const auto fail = [&](const char* what) {
    return Error(
        ENGINE_UNAVAILABLE, what, " ", host, ":", port, ": ", ec.message(),
        ec == asio::error::address_in_use ? "; choose another port, or 0 for a free one" : "");
  };
  acceptor.open(endpoint.protocol(), ec);
  if (ec) return fail("no socket can be made for");
  acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
  acceptor.bind(endpoint, ec);
  if (ec) return fail("cannot listen on");
  acceptor.listen(4096, ec);
  if (ec) return fail("cannot listen on");
  return Status();
}

std::string Loop::address() const {
  ErrorCode ec;
  const tcp::endpoint at = impl_->acceptor.local_endpoint(ec);
  const std::string host = at.address().to_string();
  return std::string(impl_->tls != nullptr ? "https://" : "http://") +
         (at.address().is_v6() ? "[" + host + "]" : host) + ":" + std::to_string(at.port());
}

void Loop::Run(std::function<void(std::unique_ptr<Socket>)> accepted, uint64_t tick_ns,
               std::function<void()> tick) {
  impl_->accepted = std::move(accepted);
  impl_->tick = std::move(tick);
  impl_->tick_ns = tick_ns;
  impl_->Accept();
  impl_->Tick();
  for (;;) {
    try {
      impl_->context.run();
      break;
    } catch (const std::exception& e) {
      // Memory ran out, most likely: whatever it was for ends, and the rest goes on.
      Log(ENGINE_LOG_ERROR, "http_api", "input and output failed: ", e.what());
    }
  }
  ErrorCode ignored;
  impl_->acceptor.close(ignored);
}

void Loop::Post(std::function<void()> body) { asio::post(impl_->context, std::move(body)); }
void Loop::Stop() { impl_->context.stop(); }

}  // namespace engine::http_api
