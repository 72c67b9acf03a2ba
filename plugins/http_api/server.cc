#include "server.h"

#include <algorithm>
#include <random>

#include "engine/util.hpp"

namespace engine::http_api {
namespace {

// Whoever has just connected to a server that drains is told so.
constexpr uint64_t kDrainIdleNs = 1'000'000'000;

}  // namespace

Server::Server(Loop* loop, Backend* backend, const ServerOptions& options, Keys keys,
               ModelFacts facts)
    : loop_(loop),
      backend_(backend),
      options_(options),
      keys_(std::move(keys)),
      facts_(std::move(facts)) {
  std::random_device random;
  char text[20];
  std::snprintf(text, sizeof text, "%08x%08x", random(), random());
  instance_ = text;
}

const std::vector<Server::Route>& Server::Routes() {
  static const std::vector<Route> routes = {
      {"GET", "/", false, false, &Server::Page},
      {"GET", "/health", true, false, &Server::Health},
      {"GET", "/v1/health", true, false, &Server::Health},
      {"GET", "/livez", true, false, &Server::Live},
      {"GET", "/readyz", true, false, &Server::Ready},
      {"GET", "/metrics", false, false, &Server::Metrics},
      {"GET", "/version", false, false, &Server::Version},
      {"GET", "/props", false, false, &Server::Props},
      {"GET", "/openapi.json", false, false, &Server::OpenApi},
      {"GET", "/v1/models", false, false, &Server::ListModels},
      {"GET", "/v1/models/", false, false, &Server::OneModel},
      {"POST", "/v1/chat/completions", false, true, &Server::Chat},
      {"POST", "/v1/completions", false, true, &Server::Complete},
      {"POST", "/v1/embeddings", false, false, &Server::Embeddings},
      {"POST", "/tokenize", false, true, &Server::Tokenize},
      {"POST", "/detokenize", false, true, &Server::Detokenize},
      {"POST", "/apply-template", false, true, &Server::ApplyTemplate},
      {"POST", "/api/v1/model/generate", false, true, &Server::GenerateText},
      {"GET", "/api/v1/sessions/", false, true, &Server::GetSession},
      {"DELETE", "/api/v1/sessions/", false, true, &Server::DeleteSession},
  };
  return routes;
}

void Server::Accept(std::unique_ptr<Socket> socket) {
  if (connections_.size() >= options_.max_connections) {
    ++figures_.rejected["connections"];
    return socket->Close();
  }
  auto made = std::make_shared<Connection>(std::move(socket), options_.connections, this);
  connections_.insert(made);
  made->Start();
}

// A name for the request: the client's own, where it can stand in a header, or one made here.
void Server::Begin(Connection* from, const HttpRequest& head) {
  constexpr size_t kMostName = 128;
  from->job = 0;
  from->route = "none";
  const std::string_view given = head.Header("x-request-id");
  const bool good =
      !given.empty() && given.size() <= kMostName &&
      std::all_of(given.begin(), given.end(), [](char c) { return c > ' ' && c <= '~'; });
  from->request_id = good ? std::string(given) : instance_ + "-" + std::to_string(next_request_++);
}

// Whether a page of that origin may ask: none but our own does, unless the option says so.
bool Server::OriginFits(const HttpRequest& head) const {
  const std::string_view origin = head.Header("origin");
  const std::string& allowed = options_.connections.cors_origin;
  if (origin.empty() || allowed == "*" || origin == allowed) return true;
  const size_t host = origin.find("://");
  return host != std::string_view::npos && origin.substr(host + 3) == head.Header("host");
}

Server::Judged Server::Judge(const HttpRequest& head) {
  Judged judged;
  const std::string method = head.method == "HEAD" ? "GET" : head.method;
  for (const Route& route : Routes()) {
    const std::string_view path = route.path;
    const bool takes_rest = path.size() > 1 && path.back() == '/';
    const bool fits = takes_rest ? head.path.size() > path.size() &&
                                       std::string_view(head.path).substr(0, path.size()) == path
                                 : head.path == path;
    if (!fits) continue;
    judged.allowed += (judged.allowed.empty() ? "" : ", ") + std::string(route.method);
    if (std::string_view(route.method) == "GET") judged.allowed += ", HEAD";
    if (route.method == method) judged.route = &route;
  }
  // A page of another origin asks first, and brings no key then.
  if (head.method == "OPTIONS" && !judged.allowed.empty()) return judged;
  if (judged.route == nullptr || !judged.route->open) {
    judged.key = keys_.Find(head.Header("authorization"), head.Header("x-api-key"));
    if (judged.key < 0) {
      ++figures_.rejected["key"];
      judged.refusal = Refused(401, "a key is needed: send it as \"Authorization: Bearer KEY\"");
      // A browser asks its user for one.
      if (head.path == "/") judged.refusal.challenge = "Basic realm=\"engine\"";
      return judged;
    }
  }
  if (judged.route == nullptr) {
    judged.refusal = judged.allowed.empty()
                         ? Refused(404, "there is nothing here; /openapi.json tells what there is")
                         : Refused(405, "this path takes " + judged.allowed + ", not " +
                                            head.method.substr(0, 32));
    if (!judged.allowed.empty()) judged.refusal.allow = judged.allowed + ", OPTIONS";
    return judged;
  }
  if (method != "GET" && !OriginFits(head)) {
    judged.refusal = Refused(403, "pages of other origins may not ask here (cors_origin)");
    return judged;
  }
  if (judged.route->works) judged.refusal = Admit(judged.key);
  return judged;
}

Refusal Server::OnHead(Connection* from, const HttpRequest& head, uint64_t body_bytes) {
  Begin(from, head);
  Judged judged = Judge(head);
  if (judged.refusal.set()) return std::move(judged.refusal);
  // Of bodies that are on their way, all together.
  if (reserved_ + body_bytes > options_.max_waiting_bytes) {
    ++figures_.rejected["bodies"];
    Refusal refusal = Refused(503, "too many bodies are on their way (max_waiting_bytes)");
    refusal.retry = true;
    refusal.retry_after = 1;
    return refusal;
  }
  from->reserved = body_bytes;
  reserved_ += body_bytes;
  return {};
}

void Server::OnRequest(const std::shared_ptr<Connection>& from, HttpRequest request,
                       std::shared_ptr<Exchange> exchange) {
  reserved_ -= std::exchange(from->reserved, 0);
  Begin(from.get(), request);
  Judged judged = Judge(request);
  if (request.method == "OPTIONS" && !judged.allowed.empty()) {
    HttpHeaders headers = {{"Allow", judged.allowed + ", OPTIONS"}};
    if (!options_.connections.cors_origin.empty()) {
      headers.emplace_back("Access-Control-Allow-Methods", judged.allowed);
      headers.emplace_back("Access-Control-Allow-Headers",
                           "Authorization, Content-Type, X-Api-Key, X-Request-Id, X-Session-ID");
      headers.emplace_back("Access-Control-Max-Age", "600");
    }
    return exchange->Reply(204, "", "", headers);
  }
  if (judged.route != nullptr) from->route = judged.route->path;
  if (judged.refusal.set()) return exchange->Refuse(judged.refusal);
  Incoming in{from, request, std::move(exchange), judged.key, {}, NowNs()};
  const std::string_view path = judged.route->path;
  if (path.size() > 1 && path.back() == '/') in.rest = request.path.substr(path.size());
  (this->*judged.route->run)(in);
}

void Server::OnGone(const std::shared_ptr<Connection>& from, bool slow) {
  if (slow) ++figures_.slow_readers;
  const auto at = jobs_.find(from->job);
  if (from->job == 0 || at == jobs_.end()) return;
  const std::shared_ptr<Job> job = at->second;
  ++figures_.aborted;
  Abandon(job);
  End(job, "abort");
}

void Server::OnClosed(const std::shared_ptr<Connection>& from) {
  reserved_ -= std::exchange(from->reserved, 0);
  connections_.erase(from);
}

void Server::OnStatus(const Connection& from, int status) {
  ++figures_.responses[{from.route, status}];
}

void Server::Tick(uint64_t now) {
  for (size_t count = later_.size(); count != 0; --count) {
    auto [due, body] = std::move(later_.front());
    later_.pop_front();
    if (now >= due) {
      body();
    } else {
      later_.emplace_back(due, std::move(body));
    }
  }
  // Whoever is closed leaves the set.
  const std::vector<std::shared_ptr<Connection>> all(connections_.begin(), connections_.end());
  for (const auto& connection : all) {
    connection->CheckTime(now);
    if (draining_.load()) connection->CloseWhenIdle(now, kDrainIdleNs);
  }
  if (options_.ping_ns != 0) {
    // A ping may be what cuts a slow reader, whose job then leaves.
    const auto jobs = jobs_;
    for (const auto& [number, job] : jobs) {
      if (now < job->said_ns + options_.ping_ns) continue;
      job->said_ns = now;
      job->generation->Ping();
    }
  }
  if (options_.session_ns != 0 && now > options_.session_ns) {
    for (const SessionId& id : sessions_.Expire(now - options_.session_ns)) DropSession(id);
  }
}

void Server::Later(uint64_t after_ns, std::function<void()> body) {
  later_.emplace_back(NowNs() + after_ns, std::move(body));
}

void Server::EndAll() {
  const auto jobs = jobs_;
  for (const auto& [number, job] : jobs) {
    Refusal refusal = Refused(503, "the server is ending");
    refusal.retry = true;
    job->generation->Fail(refusal);
    End(job, "shutdown");
  }
  const std::vector<std::shared_ptr<Connection>> all(connections_.begin(), connections_.end());
  for (const auto& connection : all) connection->CloseWhenIdle(NowNs(), 0);
}

}  // namespace engine::http_api
