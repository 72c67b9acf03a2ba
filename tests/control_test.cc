// The control endpoint of a running engine, over real sockets.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "tests/process.h"

namespace engine::tests {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

struct Reply {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in small letters
  std::string body;
};

// A connection to 127.0.0.1, closed at the end of its scope; -1 when nobody listens.
class Connection {
 public:
  explicit Connection(int port) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval limit{30, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<uint16_t>(port));
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    good_ = connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0;
  }
  ~Connection() { close(fd_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  bool good() const { return good_; }
  void Send(const std::string& text) const { (void)!write(fd_, text.data(), text.size()); }
  void EndSending() const { shutdown(fd_, SHUT_WR); }
  std::string ReadToEnd() const {
    std::string text;
    char buffer[16384];
    for (ssize_t got; (got = read(fd_, buffer, sizeof buffer)) > 0;) {
      text.append(buffer, static_cast<size_t>(got));
    }
    return text;
  }

 private:
  int fd_;
  bool good_ = false;
};

Reply Ask(int port, const std::string& method, const std::string& path,
          const std::string& header = "") {
  Reply reply;
  const Connection connection(port);
  if (!connection.good()) return reply;
  connection.Send(method + " " + path + " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n" +
                  (method == "POST" ? "Content-Length: 0\r\n" : "") +
                  (header.empty() ? "" : header + "\r\n") + "\r\n");
  const std::string text = connection.ReadToEnd();
  const size_t end = text.find("\r\n\r\n");
  if (text.rfind("HTTP/1.1 ", 0) != 0 || end == std::string::npos) return reply;
  reply.status = std::stoi(text.substr(9, 3));
  reply.body = text.substr(end + 4);
  for (const std::string& line : Lines(text.substr(0, end))) {
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    std::string name = line.substr(0, colon);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    std::string value = line.substr(colon + 2);
    while (!value.empty() && value.back() == '\r') value.pop_back();
    reply.headers[name] = value;
  }
  return reply;
}

// An engine that answers a line and then waits for more, with its control endpoint open.
class Running {
 public:
  explicit Running(std::vector<std::pair<std::string, std::string>> env = {},
                   const std::string& address = "127.0.0.1:0") {
    ProcessOptions options = EngineOptions({.env = std::move(env)});
    options.keep_input = true;
    options.input = "Hi\n";
    process_ = std::make_unique<Process>(
        EngineWords({"run", "pipelines/generate.pbtxt", "--set", "max_tokens=2", "--set",
                     "format=JSONL", "--control", address}),
        options);
    const std::string told = "control endpoint on http://";
    process_->UntilErr(told);
    process_->UntilOut("peak_bytes");
    const size_t at = process_->err().find(told);
    if (at == std::string::npos) return;
    const std::string where = Lines(process_->err().substr(at + told.size()))[0];
    port_ = std::stoi(where.substr(where.rfind(':') + 1));
  }
  int port() const { return port_; }
  Process& process() { return *process_; }

 private:
  std::unique_ptr<Process> process_;
  int port_ = 0;
};

// The routes that only read can share one engine.
class ControlTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { engine_ = new Running; }
  static void TearDownTestSuite() { delete std::exchange(engine_, nullptr); }
  void SetUp() override { ASSERT_GT(engine_->port(), 0) << engine_->process().err(); }
  static Reply Get(const std::string& path) { return Ask(engine_->port(), "GET", path); }
  static Running* engine_;
};
Running* ControlTest::engine_ = nullptr;

TEST_F(ControlTest, HealthIsToldWhileItRuns) {
  const Reply reply = Get("/healthz");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(json::parse(reply.body)["status"], "running");
}

TEST_F(ControlTest, TheGraphIsJsonOrDot) {
  for (const char* path : {"/control/v1/graph", "/control/v1/graph?format=json"}) {
    const Reply reply = Get(path);
    ASSERT_EQ(reply.status, 200) << path;
    EXPECT_EQ(reply.headers.at("content-type"), "application/json");
    const json j = json::parse(reply.body);
    EXPECT_EQ(j["name"], "generate");
    EXPECT_EQ(j["state"], "running");
    EXPECT_EQ(j["params"]["max_tokens"], "2");
    ASSERT_EQ(j["resources"].size(), 2u);
    EXPECT_EQ(j["resources"][1]["from"], "base");
    ASSERT_EQ(j["nodes"].size(), 7u);
    std::map<std::string, json> nodes;
    for (const json& node : j["nodes"]) nodes[node["name"]] = node;
    EXPECT_EQ(nodes["forward"]["kind"], "forward");
    EXPECT_EQ(nodes["forward"]["calls"], 2);
    EXPECT_EQ(nodes["forward"]["failed"], 0);
    EXPECT_EQ(nodes["forward"]["executor"], "compute");
    std::set<std::string> feedback;
    for (const json& edge : j["edges"]) {
      if (edge["feedback"] == true) feedback.insert(edge["name"].get<std::string>());
    }
    EXPECT_EQ(feedback, std::set<std::string>{"sampled"});
  }
  const Reply dot = Get("/control/v1/graph?format=dot");
  EXPECT_EQ(dot.status, 200);
  EXPECT_EQ(dot.body.rfind("digraph", 0), 0u);
  const Reply bad = Get("/control/v1/graph?format=png");
  EXPECT_EQ(bad.status, 400);
  EXPECT_EQ(json::parse(bad.body)["error"]["message"], "format is json or dot");
}

TEST_F(ControlTest, PluginsAreListed) {
  const Reply reply = Get("/control/v1/plugins");
  ASSERT_EQ(reply.status, 200);
  std::set<std::string> ids;
  const json j = json::parse(reply.body);
  for (const json& plugin : j["plugins"]) ids.insert(plugin["id"].get<std::string>());
  EXPECT_TRUE(ids.count("engine.text") == 1 && ids.count("engine.kv_cache") == 1) << reply.body;
  EXPECT_TRUE(j["refused"].is_array());
}

TEST_F(ControlTest, MetricsAreInPrometheusText) {
  const Reply reply = Get("/metrics");
  ASSERT_EQ(reply.status, 200);
  EXPECT_THAT(reply.headers.at("content-type"), HasSubstr("text/plain; version=0.0.4"));
  EXPECT_EQ(reply.body.back(), '\n');
  std::map<std::string, std::string> types;
  std::set<std::string> helped, series;
  for (const std::string& line : Lines(reply.body)) {
    const auto word = [&](size_t from) { return line.substr(from, line.find(' ', from) - from); };
    if (line.rfind("# HELP ", 0) == 0) {
      EXPECT_TRUE(helped.insert(word(7)).second) << "told twice: " << line;
      continue;
    }
    if (line.rfind("# TYPE ", 0) == 0) {
      const std::string type = line.substr(line.rfind(' ') + 1);
      EXPECT_TRUE(type == "counter" || type == "gauge" || type == "histogram") << line;
      EXPECT_TRUE(types.emplace(word(7), type).second) << "told twice: " << line;
      continue;
    }
    EXPECT_THAT(line,
                testing::MatchesRegex("[a-zA-Z_:][a-zA-Z0-9_:]*(\\{[^}]*\\})? [-+0-9.eInfNa]+"))
        << line;
    const std::string name = line.substr(0, line.find_first_of("{ "));
    std::string family = name;
    for (const char* part : {"_bucket", "_sum", "_count"}) {
      const size_t at = name.size() - std::min(name.size(), std::strlen(part));
      if (name.substr(at) == part && types.count(name.substr(0, at)) == 1)
        family = name.substr(0, at);
    }
    EXPECT_EQ(types.count(family), 1u) << "without TYPE before it: " << line;
    EXPECT_EQ(helped.count(family), 1u) << "without HELP before it: " << line;
    if (types[family] == "counter") {
      EXPECT_THAT(name, testing::EndsWith("_total"));
    }
    EXPECT_TRUE(series.insert(line.substr(0, line.rfind(' '))).second) << "told twice: " << line;
  }
  EXPECT_THAT(reply.body,
              AllOf(HasSubstr("engine_node_calls_total{node=\"forward\",kind=\"forward\"} 2\n"),
                    HasSubstr("engine_node_failures_total{node=\"forward\",kind=\"forward\"} 0\n"),
                    HasSubstr("engine_packets_dropped_total 0\n")));
}

TEST_F(ControlTest, WhatIsNotThereIsTold) {
  const Reply path = Get("/nothing");
  EXPECT_EQ(path.status, 404);
  EXPECT_EQ(json::parse(path.body)["error"]["code"], 404);
  const Reply post = Ask(engine_->port(), "POST", "/metrics");
  EXPECT_EQ(post.status, 405);
  EXPECT_EQ(post.headers.at("allow"), "GET, HEAD");
  EXPECT_EQ(json::parse(post.body)["error"]["code"], 405);
  const Reply get = Get("/control/v1/stop");
  EXPECT_EQ(get.status, 405);
  EXPECT_EQ(get.headers.at("allow"), "POST");
  EXPECT_EQ(Ask(engine_->port(), "DELETE", "/control/v1/graph").status, 405);
  EXPECT_EQ(Get("/healthz").status, 200) << "a GET of stop stopped it";
}

TEST_F(ControlTest, GarbageDoesNoHarm) {
  for (const char* text : {"\r\n\r\n", "GET\r\n\r\n", "\x16\x03\x01\x02\x00\x01\r\n\r\n",
                           "GET /healthz HTTP/9.9\r\n\r\n"}) {
    const Connection connection(engine_->port());
    ASSERT_TRUE(connection.good());
    connection.Send(text);
    connection.EndSending();
    connection.ReadToEnd();
  }
  const std::string much(200'000, 'x');
  EXPECT_GE(Ask(engine_->port(), "GET", "/" + much).status, 0);
  EXPECT_EQ(Get("/healthz").status, 200);
}

TEST_F(ControlTest, AddressesThatCannotBeAreRefused) {
  for (const char* address : {"here", "127.0.0.1", "127.0.0.1:", "127.0.0.1:99999", ":8080",
                              "127.0.0.1:80x", "127.0.0.1:-1"}) {
    const Outcome run = RunEngine(
        {"run", "pipelines/generate.pbtxt", "Hi", "--set", "max_tokens=1", "--control", address});
    EXPECT_EQ(run.code, 2) << address;
    EXPECT_THAT(run.err, HasSubstr("is not HOST:PORT")) << address;
    EXPECT_EQ(run.out, "") << address;
  }
  const std::string taken = "127.0.0.1:" + std::to_string(engine_->port());
  const Outcome run = RunEngine(
      {"run", "pipelines/generate.pbtxt", "Hi", "--set", "max_tokens=1", "--control", taken});
  EXPECT_EQ(run.code, 2);
  EXPECT_THAT(run.err, HasSubstr("cannot be listened on"));
}

TEST(ControlKeyTest, BeyondLoopbackItListensWithAKeyOnly) {
  // A name that begins like a loopback address is a name.
  for (const char* address : {"0.0.0.0:0", "[::]:0", "127.0.0.1.example.com:0", "192.0.2.1:0"}) {
    const Outcome run = RunEngine(
        {"run", "pipelines/generate.pbtxt", "Hi", "--set", "max_tokens=1", "--control", address},
        {.env = {{"ENGINE_CONTROL_KEY", ""}}});
    EXPECT_EQ(run.code, 2) << address;
    EXPECT_THAT(run.err, HasSubstr("only with a key: set ENGINE_CONTROL_KEY")) << address;
  }
}

TEST(ControlKeyTest, TheKeyIsAskedForOnAllButHealth) {
  Running engine({{"ENGINE_CONTROL_KEY", "secret"}}, "0.0.0.0:0");
  ASSERT_GT(engine.port(), 0) << engine.process().err();
  EXPECT_EQ(Ask(engine.port(), "GET", "/healthz").status, 200);
  for (const char* path : {"/metrics", "/control/v1/graph", "/control/v1/plugins", "/nothing"}) {
    const Reply reply = Ask(engine.port(), "GET", path);
    EXPECT_EQ(reply.status, 401) << path;
    EXPECT_EQ(reply.headers.at("www-authenticate"), "Bearer") << path;
    for (const char* key :
         {"Bearer secre", "Bearer secret2", "Bearer SECRET", "secret", "Basic secret", "Bearer "}) {
      EXPECT_EQ(Ask(engine.port(), "GET", path, std::string("Authorization: ") + key).status, 401)
          << path << " " << key;
    }
  }
  EXPECT_EQ(Ask(engine.port(), "GET", "/metrics", "Authorization: Bearer secret").status, 200);
  EXPECT_EQ(Ask(engine.port(), "POST", "/control/v1/stop").status, 401);
  EXPECT_EQ(Ask(engine.port(), "GET", "/healthz").status, 200) << "it was stopped without the key";
  EXPECT_EQ(Ask(engine.port(), "POST", "/control/v1/stop", "Authorization: Bearer secret").status,
            202);
  EXPECT_EQ(engine.process().Wait().code, 1);
}

TEST(ControlSteerTest, ADrainEndsTheRunWell) {
  Running engine;
  ASSERT_GT(engine.port(), 0) << engine.process().err();
  // An idle client that keeps its connection must not hold the end.
  const Connection idle(engine.port());
  idle.Send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto begin = std::chrono::steady_clock::now();
  const Reply reply = Ask(engine.port(), "POST", "/control/v1/drain");
  EXPECT_EQ(reply.status, 202);
  const Outcome end = engine.process().Wait();
  EXPECT_EQ(end.code, 0) << end.err;
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(4));
  EXPECT_EQ(Lines(end.out).size(), 1u);
}

TEST(ControlSteerTest, ADrainHasTheLimitOfAnInterrupt) {
  Process run(EngineWords({"run", "pipelines/generate.pbtxt", "Tell me a story", "--set",
                           "max_tokens=5000", "--set", "loop.ignore_eos=true", "--set",
                           "limits.drain_ms=1500", "--control", "127.0.0.1:0"}),
              EngineOptions());
  ASSERT_TRUE(run.Until([&] { return run.out().size() > 10; }));
  const std::string where = Lines(run.err())[0];
  const int port = std::stoi(where.substr(where.rfind(':') + 1));
  EXPECT_EQ(Ask(port, "POST", "/control/v1/drain").status, 202);
  const Reply health = Ask(port, "GET", "/healthz");
  EXPECT_EQ(health.status, 503);
  EXPECT_EQ(json::parse(health.body)["status"], "draining");
  const Outcome end = run.Wait();
  EXPECT_EQ(end.code, 1);
  EXPECT_THAT(end.err, HasSubstr("within 1500 ms (limits.drain_ms)"));
}

TEST(ControlSteerTest, AStopCancelsPromptly) {
  Process run(
      EngineWords({"run", "pipelines/generate.pbtxt", "Tell me a story", "--set", "max_tokens=5000",
                   "--set", "loop.ignore_eos=true", "--control", "127.0.0.1:0"}),
      EngineOptions());
  ASSERT_TRUE(run.Until([&] { return run.out().size() > 10; }));
  const std::string where = Lines(run.err())[0];
  const int port = std::stoi(where.substr(where.rfind(':') + 1));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(Ask(port, "POST", "/control/v1/stop").status, 202);
  const Outcome end = run.Wait();
  EXPECT_EQ(end.code, 1);
  EXPECT_THAT(end.err, HasSubstr("stopped through the control endpoint"));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(8));
}

}  // namespace
}  // namespace engine::tests
