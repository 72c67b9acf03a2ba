// A load on an OpenAI-compatible server over HTTP, with as little of the machine as can be: one
// thread, and its own share of the processor told beside the figures.
//   http_load --port 8080 --mode plain --streams 16,32,64 --waves 10
// Modes: plain (each prompt is another one), prefix (all share 512 tokens), sessions (each stream
// is a conversation of 6 turns whose prompt holds all before), overload (an open loop at --rate
// arrivals a second for --seconds), distinct (--requests other prompts, for memory).
// One JSON object a line on standard output.
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/asio.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using Json = nlohmann::ordered_json;
using ErrorCode = boost::system::error_code;
using Clock = std::chrono::steady_clock;

struct Args {
  std::string host = "127.0.0.1", mode = "plain", label, model = "m";
  uint16_t port = 8080;
  std::vector<int> streams{16};
  int waves = 10, in = 64, out = 64, turns = 6, pid = 0, seconds = 60, requests = 1000;
  double rate = 0;
  uint64_t seed = 1;
};

double Seconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}
double CpuSeconds() {
  rusage u{};
  getrusage(RUSAGE_SELF, &u);
  const auto s = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return s(u.ru_utime) + s(u.ru_stime);
}

// Words that most vocabularies hold as one token each.
std::string Words(std::mt19937_64* random, int count) {
  static const char* kWords[] = {"house", "river", "light", "stone", "music", "paper", "green",
                                 "table", "water", "small", "north", "seven", "bread", "cloud",
                                 "train", "horse", "plant", "chair", "glass", "night", "world",
                                 "black", "young", "point", "field", "metal", "ocean", "sugar",
                                 "voice", "brown", "heart", "money", "story", "state", "watch"};
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += std::string(text.empty() ? "" : " ") + kWords[(*random)() % std::size(kWords)];
  }
  return text;
}

struct Result {
  int status = 0;  // of HTTP; 0: no answer
  std::string error, text;
  double first = 0, total = 0;  // seconds
  std::vector<double> gaps;
  uint64_t out = 0, in = 0, cached = 0;
  bool whole = false, retry_after = false;
};

// One streamed completion on a connection of its own.
class Request : public std::enable_shared_from_this<Request> {
 public:
  Request(asio::io_context* context, const Args& args, std::string prompt, int out,
          std::function<void(Result)> done)
      : socket_(*context), done_(std::move(done)) {
    Json body = {{"model", args.model}, {"prompt", std::move(prompt)},
                 {"max_tokens", out},   {"temperature", 0},
                 {"stream", true},      {"ignore_eos", true}};
    body["stream_options"] = {{"include_usage", true}};
    const std::string text = body.dump();
    send_ = "POST /v1/completions HTTP/1.1\r\nHost: " + args.host +
            "\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " +
            std::to_string(text.size()) + "\r\n\r\n" + text;
  }
  void Start(const tcp::endpoint& to) {
    began_ = Clock::now();
    socket_.async_connect(to, [self = shared_from_this()](const ErrorCode& ec) {
      if (ec) return self->End(ec.message());
      asio::async_write(self->socket_, asio::buffer(self->send_),
                        [self](const ErrorCode& e, size_t) {
                          if (e) return self->End(e.message());
                          self->Read();
                        });
    });
  }

 private:
  void Read() {
    socket_.async_read_some(asio::buffer(buffer_),
                            [self = shared_from_this()](const ErrorCode& ec, size_t got) {
                              self->raw_.append(self->buffer_, got);
                              self->Parse();
                              if (self->ended_) return;
                              if (ec) return self->End(self->result_.whole ? "" : ec.message());
                              self->Read();
                            });
  }
  void Parse() {
    if (result_.status == 0) {
      const size_t end = raw_.find("\r\n\r\n");
      if (end == std::string::npos) return;
      std::string head = raw_.substr(0, end);
      std::transform(head.begin(), head.end(), head.begin(), ::tolower);
      result_.status = std::atoi(head.c_str() + std::min<size_t>(head.size(), 9));
      chunked_ = head.find("transfer-encoding: chunked") != std::string::npos;
      result_.retry_after = head.find("retry-after:") != std::string::npos;
      raw_.erase(0, end + 4);
    }
    if (result_.status != 200) return;
    if (!chunked_) {
      body_ += std::exchange(raw_, {});
    } else {
      for (;;) {
        if (left_ == 0) {
          const size_t skip = raw_.compare(0, 2, "\r\n") == 0 ? 2 : 0;
          const size_t end = raw_.find("\r\n", skip);
          if (end == std::string::npos) break;
          left_ = std::strtoul(raw_.c_str() + skip, nullptr, 16);
          raw_.erase(0, end + 2);
          if (left_ == 0) break;
        }
        const size_t take = std::min(left_, raw_.size());
        if (take == 0) break;
        body_.append(raw_, 0, take);
        raw_.erase(0, take);
        left_ -= take;
      }
    }
    for (size_t end; (end = body_.find('\n')) != std::string::npos;) {
      Line(std::string_view(body_).substr(0, end));
      body_.erase(0, end + 1);
      if (ended_) return;
    }
  }
  void Line(std::string_view line) {
    if (line.substr(0, 6) != "data: ") return;
    line.remove_prefix(6);
    while (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line == "[DONE]") {
      result_.whole = true;
      return End("");
    }
    const Json event = Json::parse(line, nullptr, false);
    if (event.is_discarded()) return End("an event is no JSON");
    if (event.contains("error")) return End(event["error"].dump());
    if (event.contains("usage") && event["usage"].is_object()) {
      const Json& usage = event["usage"];
      result_.out = usage.value("completion_tokens", uint64_t{0});
      result_.in = usage.value("prompt_tokens", uint64_t{0});
      if (usage.contains("prompt_tokens_details") && usage["prompt_tokens_details"].is_object()) {
        result_.cached = usage["prompt_tokens_details"].value("cached_tokens", uint64_t{0});
      }
    }
    if (!event.contains("choices") || event["choices"].empty()) return;
    const Json& choice = event["choices"][0];
    const std::string text = choice.value("text", "");
    if (text.empty()) return;
    const auto now = Clock::now();
    if (result_.first == 0) {
      result_.first = Seconds(began_, now);
    } else {
      result_.gaps.push_back(Seconds(last_, now));
    }
    last_ = now;
    result_.text += text;
  }
  void End(std::string error) {
    if (std::exchange(ended_, true)) return;
    result_.total = Seconds(began_, Clock::now());
    result_.error = std::move(error);
    if (result_.status != 200) result_.error = raw_.substr(0, 200);
    ErrorCode ignored;
    socket_.close(ignored);
    done_(std::move(result_));
  }

  tcp::socket socket_;
  std::function<void(Result)> done_;
  std::string send_, raw_, body_;
  char buffer_[16384];
  Result result_;
  Clock::time_point began_, last_;
  size_t left_ = 0;
  bool chunked_ = false, ended_ = false;
};

double Percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double place = static_cast<double>(values.size() - 1) * share;
  const auto low = static_cast<size_t>(place);
  const size_t high = std::min(low + 1, values.size() - 1);
  return values[low] + (values[high] - values[low]) * (place - static_cast<double>(low));
}

// Memory of the server, in MiB: now and at its peak.
std::pair<double, double> Memory(int pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  double now = 0, peak = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("VmRSS:", 0) == 0) now = std::atof(line.c_str() + 6) / 1024;
    if (line.rfind("VmHWM:", 0) == 0) peak = std::atof(line.c_str() + 6) / 1024;
  }
  return {now, peak};
}

class Load {
 public:
  explicit Load(const Args& args)
      : args_(args), to_(asio::ip::make_address(args.host), args.port), random_(args.seed) {}

  // `jobs` one after the other, `streams` at once.
  void Closed(int streams, std::vector<std::string> jobs, int out) {
    Begin();
    size_t next = 0;
    std::function<void()> go = [&] {
      if (next == jobs.size()) return;
      Send(jobs[next++], out, [&](const Result&) { go(); });
    };
    for (int i = 0; i < streams; ++i) go();
    context_.run();
    Report(streams);
  }
  void Plain(int streams) {
    std::vector<std::string> jobs;
    for (int i = 0; i < streams * args_.waves; ++i) {
      jobs.push_back("Request " + std::to_string(random_() % 1000000) + ": " +
                     Words(&random_, args_.in - 6));
    }
    Closed(streams, std::move(jobs), args_.out);
  }
  void Prefix(int streams) {
    const std::string prefix =
        "System " + std::to_string(random_() % 1000000) + ": " + Words(&random_, 506);
    std::vector<std::string> jobs;
    for (int i = 0; i < streams * args_.waves; ++i) {
      jobs.push_back(prefix + " " + Words(&random_, 16));
    }
    Closed(streams, std::move(jobs), 32);
  }
  void Distinct(int streams) {
    std::vector<std::string> jobs;
    for (int i = 0; i < args_.requests; ++i) {
      jobs.push_back("Number " + std::to_string(random_()) + ": " + Words(&random_, args_.in - 8));
    }
    Closed(streams, std::move(jobs), args_.out);
  }
  void Sessions(int streams) {
    Begin();
    by_turn_.assign(static_cast<size_t>(args_.turns), {});
    std::vector<std::string> histories(static_cast<size_t>(streams));
    std::function<void(size_t, size_t)> turn = [&](size_t s, size_t t) {
      histories[s] += "User: " + Words(&random_, 32) + "\nAssistant:";
      Send(histories[s], 48, [&, s, t](const Result& r) {
        by_turn_[t].push_back(r.first);
        histories[s] += r.text + "\n";
        if (t + 1 < by_turn_.size()) turn(s, t + 1);
      });
    };
    for (size_t s = 0; s < histories.size(); ++s) {
      histories[s] = "Session " + std::to_string(random_() % 1000000) + ". ";
      turn(s, 0);
    }
    context_.run();
    Report(streams);
  }
  // Arrivals at a rate, whatever comes back.
  void Overload() {
    Begin();
    asio::steady_timer timer(context_);
    std::exponential_distribution<double> gap(args_.rate);
    double at = 0;
    std::function<void()> arrive = [&] {
      at += gap(random_);
      if (at > args_.seconds) return;
      timer.expires_at(began_ + std::chrono::nanoseconds(static_cast<int64_t>(at * 1e9)));
      timer.async_wait([&](const ErrorCode& ec) {
        if (ec) return;
        Send(
            "Request " + std::to_string(random_() % 1000000) + ": " + Words(&random_, args_.in - 6),
            args_.out, [](const Result&) {});
        arrive();
      });
    };
    arrive();
    context_.run();
    Report(0);
  }

 private:
  void Begin() {
    context_.restart();
    results_.clear();
    by_turn_.clear();
    cpu_ = CpuSeconds();
    began_ = Clock::now();
  }
  void Send(std::string prompt, int out, std::function<void(const Result&)> then) {
    std::make_shared<Request>(&context_, args_, std::move(prompt), out,
                              [this, then = std::move(then)](Result r) {
                                results_.push_back(std::move(r));
                                const Result copy = results_.back();
                                then(copy);
                              })
        ->Start(to_);
  }
  void Report(int streams) {
    const double wall = Seconds(began_, Clock::now());
    std::vector<double> first, gaps, refused, total;
    uint64_t out = 0, in = 0, cached = 0, failed = 0, told = 0, hash = 0;
    std::map<int, int> statuses;
    std::string error;
    for (const Result& r : results_) {
      ++statuses[r.status];
      if (r.status != 200 || !r.whole) {
        ++failed;
        error = r.error;
        refused.push_back(r.total);
        told += r.retry_after ? 1 : 0;
        continue;
      }
      first.push_back(r.first);
      total.push_back(r.total);
      gaps.insert(gaps.end(), r.gaps.begin(), r.gaps.end());
      out += r.out;
      in += r.in;
      cached += r.cached;
      hash += std::hash<std::string>{}(r.text);
    }
    Json j = {{"label", args_.label}, {"mode", args_.mode}, {"streams", streams}};
    j["requests"] = results_.size();
    j["failed"] = failed;
    j["wall_s"] = wall;
    j["out_tokens_per_s"] = static_cast<double>(out) / wall;
    j["ttft_p50_s"] = Percentile(first, 0.5);
    j["ttft_p99_s"] = Percentile(first, 0.99);
    j["gap_p50_s"] = Percentile(gaps, 0.5);
    j["gap_p99_s"] = Percentile(gaps, 0.99);
    j["total_p99_s"] = Percentile(total, 0.99);
    j["out_tokens"] = out;
    j["in_tokens"] = in;
    j["cached_tokens"] = cached;
    j["texts"] = hash;
    j["client_cpu_share"] = (CpuSeconds() - cpu_) / wall;
    if (failed != 0) {
      for (const auto& [status, count] : statuses) j["statuses"][std::to_string(status)] = count;
      j["refused_p50_s"] = Percentile(refused, 0.5);
      j["refused_p99_s"] = Percentile(refused, 0.99);
      j["retry_after_told"] = told;
      j["error"] = error;
    }
    for (const auto& turn : by_turn_) j["ttft_p50_by_turn_s"].push_back(Percentile(turn, 0.5));
    if (args_.pid != 0) {
      const auto [now, peak] = Memory(args_.pid);
      j["rss_mib"] = now;
      j["peak_mib"] = peak;
    }
    std::cout << j.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
  }

  const Args args_;
  const tcp::endpoint to_;
  std::mt19937_64 random_;
  asio::io_context context_{1};
  std::vector<Result> results_;
  std::vector<std::vector<double>> by_turn_;
  double cpu_ = 0;
  Clock::time_point began_;
};

}  // namespace

int main(int argc, char** argv) {
  Args args;
  CLI::App app("A load on an OpenAI-compatible server.");
  app.add_option("--host", args.host, "Its address");
  app.add_option("--port", args.port, "Its port")->required();
  app.add_option("--mode", args.mode, "plain, prefix, sessions, overload or distinct")
      ->check(CLI::IsMember({"plain", "prefix", "sessions", "overload", "distinct"}));
  app.add_option("--streams", args.streams, "Requests at once, one run each")->delimiter(',');
  app.add_option("--waves", args.waves, "Requests of a stream")->check(CLI::Range(1, 100000));
  app.add_option("--in", args.in, "Words of a prompt")->check(CLI::Range(8, 100000));
  app.add_option("--out", args.out, "Tokens of an answer")->check(CLI::Range(1, 100000));
  app.add_option("--turns", args.turns, "Of a session")->check(CLI::Range(1, 1000));
  app.add_option("--requests", args.requests, "Of distinct")->check(CLI::Range(1, 10000000));
  app.add_option("--rate", args.rate, "Of overload, arrivals a second");
  app.add_option("--seconds", args.seconds, "Of overload")->check(CLI::Range(1, 86400));
  app.add_option("--pid", args.pid, "The server's process, for its memory");
  app.add_option("--seed", args.seed, "Of all prompts");
  app.add_option("--label", args.label, "Handed through");
  app.add_option("--model", args.model, "The model's name");
  CLI11_PARSE(app, argc, argv);
  if (args.mode == "overload" && !(args.rate > 0)) {
    std::fprintf(stderr, "http_load: overload needs --rate\n");
    return 2;
  }
  Load load(args);
  if (args.mode == "overload") {
    load.Overload();
    return 0;
  }
  for (const int streams : args.streams) {
    if (args.mode == "plain") load.Plain(streams);
    if (args.mode == "prefix") load.Prefix(streams);
    if (args.mode == "sessions") load.Sessions(streams);
    if (args.mode == "distinct") load.Distinct(streams);
  }
}
