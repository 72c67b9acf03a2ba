#include "engine/control/control.h"

#include <arpa/inet.h>
#include <httplib.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "engine/abi/host.h"
#include "engine/graph/render.h"
#include "engine/runtime/services.h"

namespace engine::control {
namespace {

using nlohmann::ordered_json;

const char* StateName(runtime::RunState state) {
  switch (state) {
    case runtime::RunState::kCreated:
      return "starting";
    case runtime::RunState::kRunning:
      return "running";
    case runtime::RunState::kDraining:
      return "draining";
    case runtime::RunState::kCancelled:
      return "cancelled";
    case runtime::RunState::kDone:
      return "done";
  }
  return "unknown";
}

// The whole of both texts is looked at, however early they differ.
bool SameKey(const std::string& given, const std::string& wanted) {
  unsigned difference = given.size() == wanted.size() ? 0 : 1;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const auto g = static_cast<unsigned char>(i < given.size() ? given[i] : 0);
    difference |= g ^ static_cast<unsigned char>(wanted[i]);
  }
  return difference == 0;
}

// A name that only begins like an address, such as 127.example.com, is not.
bool IsLoopback(const std::string& host) {
  in_addr v4{};
  in6_addr v6{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return host == "localhost";
}

void Answer(httplib::Response& response, int status, const ordered_json& body) {
  response.status = status;
  response.set_content(body.dump() + "\n", "application/json");
}

void Refuse(httplib::Response& response, int status, const char* type, const std::string& message) {
  Answer(response, status, {{"error", {{"message", message}, {"type", type}, {"code", status}}}});
}

ordered_json GraphJson(const Subject& s) {
  ordered_json j;
  j["name"] = s.plan->name;
  j["state"] = StateName(s.run->state());
  for (const graph::PlanParam& p : s.plan->params) {
    if (p.given) j["params"][p.name] = p.value;
  }
  j["resources"] = ordered_json::array();
  for (const graph::PlanResource& r : s.plan->resources) {
    ordered_json item = {{"name", r.name}, {"kind", r.kind->name}, {"plugin", r.kind->plugin}};
    if (r.from >= 0) item["from"] = s.plan->resources[static_cast<size_t>(r.from)].name;
    item["bypassed"] = r.bypassed;
    j["resources"].push_back(item);
  }
  const runtime::RunReport report = s.run->report();
  j["nodes"] = ordered_json::array();
  for (size_t i = 0; i < s.plan->nodes.size(); ++i) {
    const graph::PlanNode& n = s.plan->nodes[i];
    ordered_json item = {{"name", n.name}, {"kind", n.runs->name}, {"plugin", n.runs->plugin}};
    item["executor"] = s.plan->executors[n.executor].name;
    item["bypassed"] = n.bypassed;
    if (i < report.nodes.size()) {
      const runtime::NodeStats& stats = report.nodes[i];
      item["calls"] = stats.calls;
      item["failed"] = stats.failed;
      item["seconds"] = static_cast<double>(stats.total_ns) * 1e-9;
      item["queue_high_water"] = stats.queue_high_water;
    }
    j["nodes"].push_back(item);
  }
  j["edges"] = ordered_json::array();
  for (const graph::PlanEdge& e : s.plan->edges) {
    ordered_json item = {{"name", e.name}, {"type", e.type}, {"feedback", e.feedback}};
    item["from"] = s.plan->nodes[e.producer].name;
    item["to"] = ordered_json::array();
    for (const graph::PlanConsumer& c : e.consumers) {
      item["to"].push_back(s.plan->nodes[c.node].name);
    }
    j["edges"].push_back(item);
  }
  return j;
}

ordered_json PluginsJson(const abi::KindIndex& index) {
  ordered_json j;
  j["plugins"] = ordered_json::array();
  for (const abi::Plugin& p : index.plugins) {
    j["plugins"].push_back({{"id", p.id},
                            {"version", p.version},
                            {"tier", p.tier},
                            {"license", p.license},
                            {"summary", p.summary},
                            {"path", p.path},
                            {"kinds", p.kinds}});
  }
  j["refused"] = ordered_json::array();
  for (const abi::Refusal& r : index.refused) {
    j["refused"].push_back({{"path", r.path}, {"id", r.id}, {"reason", r.reason}});
  }
  return j;
}

std::string Metrics(const Subject& s) {
  const runtime::RunReport report = s.run->report();
  std::string text = runtime::RenderMetrics();
  const auto label = [](const std::string& name) {
    std::string out;
    for (char c : name) {
      if (c == '"' || c == '\\') out += '\\';
      out += c == '\n' ? ' ' : c;
    }
    return out;
  };
  const auto series = [&](const char* name, const char* help, const char* type, auto value) {
    text += std::string("# HELP ") + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
    for (const runtime::NodeStats& n : report.nodes) {
      char number[40];
      std::snprintf(number, sizeof number, "%.9g", static_cast<double>(value(n)));
      text += std::string(name) + "{node=\"" + label(n.name) + "\",kind=\"" + label(n.kind) +
              "\"} " + number + "\n";
    }
  };
  series("engine_node_calls_total", "Calls of the node.", "counter",
         [](const auto& n) { return n.calls; });
  series("engine_node_failures_total", "Calls that failed.", "counter",
         [](const auto& n) { return n.failed; });
  series("engine_node_busy_seconds_total", "Time spent in calls.", "counter",
         [](const auto& n) { return static_cast<double>(n.total_ns) * 1e-9; });
  series("engine_node_queue_high_water_packets", "Most packets that a queue of it held.", "gauge",
         [](const auto& n) { return n.queue_high_water; });
  text +=
      "# HELP engine_packets_dropped_total Packets dropped by edges that say so.\n"
      "# TYPE engine_packets_dropped_total counter\nengine_packets_dropped_total " +
      std::to_string(report.dropped_packets) + "\n";
  return text;
}

}  // namespace

struct Server::Impl {
  Subject subject;
  std::string key, address;
  httplib::Server http;
  std::atomic<bool> ended{false};  // the thread listens no longer
  std::thread thread;
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() {
  impl_->http.stop();
  if (impl_->thread.joinable()) impl_->thread.join();
}
const std::string& Server::address() const { return impl_->address; }

Status Server::Start(const std::string& address, const Subject& subject,
                     std::unique_ptr<Server>* out) {
  const size_t colon = address.rfind(':');
  std::string host = colon == std::string::npos ? "" : address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  char* end = nullptr;
  const long port =
      colon == std::string::npos ? -1 : std::strtol(address.c_str() + colon + 1, &end, 10);
  if (host.empty() || end == nullptr || *end != '\0' || end == address.c_str() + colon + 1 ||
      port < 0 || port > 65535) {
    return Error(ENGINE_INVALID_ARGUMENT, "control address '", address,
                 "' is not HOST:PORT; write 127.0.0.1:9090");
  }
  auto impl = std::make_unique<Impl>();
  impl->subject = subject;
  if (const char* key = std::getenv("ENGINE_CONTROL_KEY")) impl->key = key;
  if (impl->key.empty() && !IsLoopback(host)) {
    return Error(ENGINE_PERMISSION_DENIED,
                 "the control endpoint listens beyond loopback only with "
                 "a key: set ENGINE_CONTROL_KEY, or use 127.0.0.1");
  }
  Impl* const i = impl.get();
  httplib::Server& http = impl->http;
  // The endpoint is for operators: few connections, small requests.
  http.new_task_queue = [] { return new httplib::ThreadPool(2); };
  // Without SO_REUSEPORT, which httplib would set: two engines must not share one address.
  http.set_socket_options([](socket_t s) {
    const int yes = 1;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
  http.set_payload_max_length(64 * 1024);
  http.set_read_timeout(5);
  http.set_write_timeout(5);
  http.set_keep_alive_timeout(1);  // an idle client must hold neither others nor the end of the run
  http.set_pre_routing_handler([i](const httplib::Request& request, httplib::Response& response) {
    if (i->key.empty() || request.path == "/healthz") {
      return httplib::Server::HandlerResponse::Unhandled;
    }
    if (SameKey(request.get_header_value("Authorization"), "Bearer " + i->key)) {
      return httplib::Server::HandlerResponse::Unhandled;
    }
    response.set_header("WWW-Authenticate", "Bearer");
    Refuse(response, 401, "authentication_error", "send Authorization: Bearer KEY");
    return httplib::Server::HandlerResponse::Handled;
  });
  http.Get("/healthz", [i](const httplib::Request&, httplib::Response& response) {
    const runtime::RunState state = i->subject.run->state();
    const bool good = state == runtime::RunState::kRunning || state == runtime::RunState::kCreated;
    Answer(response, good ? 200 : 503, {{"status", StateName(state)}});
  });
  http.Get("/control/v1/graph", [i](const httplib::Request& request, httplib::Response& response) {
    const std::string format = request.get_param_value("format");
    if (format == "dot") {
      response.set_content(graph::RenderDot(*i->subject.plan), "text/vnd.graphviz");
    } else if (format.empty() || format == "json") {
      Answer(response, 200, GraphJson(i->subject));
    } else {
      Refuse(response, 400, "invalid_request_error", "format is json or dot");
    }
  });
  http.Get("/control/v1/plugins", [i](const httplib::Request&, httplib::Response& response) {
    Answer(response, 200, PluginsJson(*i->subject.index));
  });
  http.Get("/metrics", [i](const httplib::Request&, httplib::Response& response) {
    response.set_content(Metrics(i->subject), "text/plain; version=0.0.4");
  });
  http.Post("/control/v1/drain", [i](const httplib::Request&, httplib::Response& response) {
    i->subject.run->Drain();
    Answer(response, 202, {{"state", StateName(i->subject.run->state())}});
  });
  http.Post("/control/v1/stop", [i](const httplib::Request&, httplib::Response& response) {
    i->subject.run->Cancel(Error(ENGINE_CANCELLED, "stopped through the control endpoint"));
    Answer(response, 202, {{"state", StateName(i->subject.run->state())}});
  });
  http.set_error_handler([](const httplib::Request& request, httplib::Response& response) {
    if (!response.body.empty()) return;
    const bool known = request.path == "/healthz" || request.path == "/metrics" ||
                       request.path == "/control/v1/graph" ||
                       request.path == "/control/v1/plugins" ||
                       request.path == "/control/v1/drain" || request.path == "/control/v1/stop";
    if (response.status == 404 && known) {
      const bool post = request.path == "/control/v1/drain" || request.path == "/control/v1/stop";
      response.set_header("Allow", post ? "POST" : "GET, HEAD");
      Refuse(response, 405, "invalid_request_error",
             "method " + request.method + " is not for this path");
      return;
    }
    Refuse(response, response.status, "invalid_request_error",
           response.status == 404 ? "no such path" : "the request was refused");
  });
  int bound = static_cast<int>(port);
  if (port == 0) {
    bound = http.bind_to_any_port(host);
  } else if (!http.bind_to_port(host, bound)) {
    bound = -1;
  }
  if (bound < 0) {
    return Error(ENGINE_UNAVAILABLE, "control address '", address,
                 "' cannot be listened on; is another engine using it?");
  }
  impl->address =
      (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + std::to_string(bound);
  impl->thread = std::thread([i] {
    i->http.listen_after_bind();
    i->ended = true;
  });
  // stop() does nothing before the server runs, so that a short run would wait for it for ever.
  while (!http.is_running() && !i->ended) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  out->reset(new Server(std::move(impl)));
  return Status();
}

}  // namespace engine::control
