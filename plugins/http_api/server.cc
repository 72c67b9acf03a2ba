#include "server.h"

#include <random>

#include "engine/util.hpp"

namespace engine::http_api {

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
      {"GET", "/", false, &Server::Page},
      {"GET", "/health", true, &Server::Health},
      {"GET", "/v1/health", true, &Server::Health},
      {"GET", "/livez", true, &Server::Live},
      {"GET", "/readyz", true, &Server::Ready},
      {"GET", "/metrics", false, &Server::Metrics},
      {"GET", "/version", false, &Server::Version},
      {"GET", "/props", false, &Server::Props},
      {"GET", "/openapi.json", false, &Server::OpenApi},
      {"GET", "/v1/models", false, &Server::ListModels},
      {"GET", "/v1/models/", false, &Server::OneModel},
      {"POST", "/v1/chat/completions", false, &Server::Chat},
      {"POST", "/v1/completions", false, &Server::Complete},
      {"POST", "/v1/embeddings", false, &Server::Embeddings},
      {"POST", "/tokenize", false, &Server::Tokenize},
      {"POST", "/detokenize", false, &Server::Detokenize},
      {"POST", "/apply-template", false, &Server::ApplyTemplate},
      {"POST", "/api/v1/model/generate", false, &Server::GenerateText},
      {"GET", "/api/v1/sessions/", false, &Server::GetSession},
      {"DELETE", "/api/v1/sessions/", false, &Server::DeleteSession},
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

void Server::OnRequest(const std::shared_ptr<Connection>& from, HttpRequest request,
                       std::shared_ptr<Exchange> exchange) {
  from->job = 0;
  from->route = "none";
  const std::string method = request.method == "HEAD" ? "GET" : request.method;
  const Route* found = nullptr;
  std::string allowed;
  for (const Route& route : Routes()) {
    const std::string_view path = route.path;
    const bool takes_rest = path.size() > 1 && path.back() == '/';
    const bool fits = takes_rest ? request.path.size() > path.size() &&
                                       std::string_view(request.path).substr(0, path.size()) == path
                                 : request.path == path;
    if (!fits) continue;
    allowed += (allowed.empty() ? "" : ", ") + std::string(route.method);
    if (std::string_view(route.method) == "GET") allowed += ", HEAD";
    if (route.method == method) found = &route;
  }
  Incoming in{from, request, std::move(exchange), 0, {}, NowNs()};
  if (found != nullptr) from->route = found->path;
  // A page of another origin asks first, and brings no key then.
  if (request.method == "OPTIONS" && !allowed.empty()) {
    HttpHeaders headers = {{"Allow", allowed + ", OPTIONS"}};
    if (!options_.connections.cors_origin.empty()) {
      headers.emplace_back("Access-Control-Allow-Methods", allowed);
      headers.emplace_back("Access-Control-Allow-Headers",
                           "Authorization, Content-Type, X-Api-Key, X-Request-Id, X-Session-ID");
      headers.emplace_back("Access-Control-Max-Age", "600");
    }
    return in.exchange->Reply(204, "", "", headers);
  }
  if (found == nullptr || !found->open) {
    in.key = keys_.Find(request.Header("authorization"), request.Header("x-api-key"));
    if (in.key < 0) {
      ++figures_.rejected["key"];
      Refusal refusal = Refused(401, "a key is needed: send it as \"Authorization: Bearer KEY\"");
      const char* scheme = request.path == "/" ? "Basic realm=\"engine\"" : "Bearer";
      return in.exchange->Reply(401, ToJson(refusal), {{"WWW-Authenticate", scheme}});
    }
  }
  if (found == nullptr && !allowed.empty()) {
    return in.exchange->Reply(405,
                              ToJson(Refused(405, "this path takes " + allowed + ", not " +
                                                      request.method.substr(0, 32))),
                              {{"Allow", allowed + ", OPTIONS"}});
  }
  if (found == nullptr) {
    return in.exchange->Refuse(
        Refused(404, "there is nothing here; /openapi.json tells what there is"));
  }
  const std::string_view path = found->path;
  if (path.size() > 1 && path.back() == '/') in.rest = request.path.substr(path.size());
  (this->*found->run)(in);
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

void Server::OnClosed(const std::shared_ptr<Connection>& from) { connections_.erase(from); }

void Server::OnStatus(const Connection& from, int status) {
  ++figures_.responses[{from.route, status}];
}

void Server::Tick(uint64_t now) {
  // Whoever is closed leaves the set.
  const std::vector<std::shared_ptr<Connection>> all(connections_.begin(), connections_.end());
  for (const auto& connection : all) {
    connection->CheckTime(now);
    if (draining_.load()) connection->CloseWhenIdle();
  }
  if (options_.ping_ns != 0) {
    for (const auto& [number, job] : jobs_) {
      if (now < job->said_ns + options_.ping_ns) continue;
      job->said_ns = now;
      job->generation->Ping();
    }
  }
  if (options_.session_ns != 0 && now > options_.session_ns) {
    for (const SessionId& id : sessions_.Expire(now - options_.session_ns))
      DropSession(id, nullptr);
  }
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
  for (const auto& connection : all) connection->CloseWhenIdle();
}

}  // namespace engine::http_api
