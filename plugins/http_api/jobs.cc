// Requests for text: admission, their way into the engine, and what comes back.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>

#include "engine/util.hpp"
#include "server.h"

namespace engine::http_api {
namespace {

constexpr uint64_t kRateWindowNs = 10'000'000'000;
constexpr size_t kRateKept = 4096;

uint64_t RandomSeed() {
  static std::random_device random;
  return uint64_t{random()} << 32 | random();
}

}  // namespace

AskLimits Server::Limits() const {
  AskLimits limits;
  limits.max_answers = options_.max_answers;
  limits.max_prompts = options_.max_prompts;
  limits.vocab = facts_.vocab;
  limits.context = facts_.context;
  limits.has_chat = facts_.has_chat;
  limits.template_has_tools = facts_.template_has_tools;
  return limits;
}

// Seconds until there will be room for whoever comes now, at the rate at which requests ended of
// late. `ahead`: those who were sent away before him come first, as far as they may have come
// since.
double Server::RetryAfter(bool ahead) {
  const uint64_t now = NowNs();
  while (!ended_ns_.empty() && ended_ns_.front() + kRateWindowNs < now) ended_ns_.pop_front();
  const double window =
      ended_ns_.empty() ? 1 : std::max(0.1, static_cast<double>(now - ended_ns_.front()) * 1e-9);
  const double rate = std::max(1.0, static_cast<double>(ended_ns_.size())) / window;
  double before = 0;
  if (ahead) {
    const double since = static_cast<double>(now - std::min(now, refused_ns_)) * 1e-9;
    before =
        std::clamp(refused_ahead_ - since * rate, 0.0, static_cast<double>(options_.max_requests));
    refused_ahead_ = before + 1;
    refused_ns_ = now;
  }
  return std::clamp((before + 1) / rate, 0.05, 60.0);
}

// Whether there is room for one more request; told before its body is waited for.
Refusal Server::Admit(int key) {
  Refusal refusal;
  if (draining_.load()) {
    ++figures_.rejected["draining"];
    return Draining();
  }
  if (jobs_.size() + tasks_ >= options_.max_requests) {
    refusal = Refused(429, "the server has " + std::to_string(jobs_.size() + tasks_) +
                               " requests under way, as many as it takes (max_requests)");
    refusal.retry_after = RetryAfter(true);
    ++figures_.rejected["queue"];
  } else if (options_.max_requests_per_key != 0 && by_key_.count(key) != 0 &&
             by_key_[key] >= options_.max_requests_per_key) {
    refusal = Refused(429, "your key has " + std::to_string(by_key_[key]) +
                               " requests under way, as many as one may have "
                               "(max_requests_per_key)");
    refusal.retry_after = RetryAfter(false);
    ++figures_.rejected["key_limit"];
  }
  refusal.retry = refusal.set();
  return refusal;
}

bool Server::FindAdapter(const std::string& model, std::string* adapter) const {
  if (model.empty() || model == facts_.name) return true;
  if (std::find(facts_.adapters.begin(), facts_.adapters.end(), model) == facts_.adapters.end()) {
    return false;
  }
  *adapter = model;
  return true;
}

// What others may share of computed prompts and sessions: within a key, and within its own salt.
std::string Server::Salt(int key, const std::string& salt) const {
  return keys_.needed() ? std::to_string(key) + ":" + salt : salt;
}

void Server::Generate(Incoming& in, Style style) {
  Json body;
  if (!ReadBody(in, &body)) return;
  AskRead read = ReadAsk(style, body, Limits());
  if (!read.refusal.set() && style == Style::kGenerate) {
    read.ask.session = std::string(in.request.Header("x-session-id"));
    if (!read.ask.session.empty() && !IsSessionName(read.ask.session)) {
      read.refusal = Refused(400, "X-Session-ID must be 1 to 128 letters, digits, '.', '_' or '-'",
                             "X-Session-ID");
    } else if (!read.ask.session.empty() && !read.ask.salt.empty()) {
      read.refusal = Refused(400, "a session shares nothing: leave cache_salt out", "cache_salt");
    }
  }
  std::string adapter;
  if (!read.refusal.set() && !FindAdapter(read.ask.model, &adapter)) {
    std::string known = facts_.name;
    for (const std::string& name : facts_.adapters) known += ", " + name;
    read.refusal = Refused(404,
                           "model " + Quoted(read.ask.model.substr(0, 128)) +
                               " is not served here; there are: " + known,
                           "model");
  }
  if (!read.refusal.set() && style == Style::kChat && !facts_.has_chat) {
    read.refusal = Refused(400, "the model has no chat format; use /v1/completions", "messages");
  }
  if (read.refusal.set()) {
    ++figures_.rejected["invalid"];
    return in.exchange->Refuse(read.refusal);
  }
  Ask& ask = read.ask;
  if (!read.has_seed) ask.sampling.seed = RandomSeed();

  const uint64_t number = next_job_++;
  GenerationInfo info;
  const char* prefix = style == Style::kChat         ? "chatcmpl-"
                       : style == Style::kCompletion ? "cmpl-"
                                                     : "gen-";
  info.id = prefix + instance_ + "-" + std::to_string(number);
  info.model = adapter.empty() ? facts_.name : adapter;
  char fingerprint[32];
  std::snprintf(fingerprint, sizeof fingerprint, "fp_%016llx",
                static_cast<unsigned long long>(facts_.fingerprint));
  info.fingerprint = fingerprint;
  info.created = std::chrono::duration_cast<std::chrono::seconds>(
                     std::chrono::system_clock::now().time_since_epoch())
                     .count();
  info.arrived_ns = in.arrived_ns;
  auto job = std::make_shared<Job>();
  job->number = number;
  job->key = in.key;
  job->said_ns = in.arrived_ns;
  const std::string salt = Salt(in.key, ask.salt);
  if (!ask.session.empty()) {
    for (const SessionId& id : sessions_.Touch({in.key, ask.session}, in.arrived_ns)) {
      DropSession(id);
    }
  }
  // Prompts go with their submissions; here they are needed only where they are told back.
  std::vector<Prompt> prompts = std::move(ask.prompts);
  ask.prompts.assign(prompts.size(), {});
  for (size_t i = 0; i < prompts.size(); ++i) {
    ask.prompts[i].form = prompts[i].form;
    if (ask.echo) ask.prompts[i].text = prompts[i].text;
  }
  const auto shared = std::make_shared<const Ask>(std::move(ask));
  job->generation = std::make_unique<Generation>(shared, std::move(info), in.exchange);
  if (jobs_.empty()) moved_ns_ = in.arrived_ns;
  jobs_[number] = job;
  ++by_key_[in.key];
  in.from->job = number;
  for (size_t i = 0; i < prompts.size(); ++i) {
    Submission s;
    s.group = next_group_++;
    s.prompt = std::move(prompts[i]);
    s.ask = shared;
    s.adapter = adapter;
    s.key = keys_.needed() ? std::to_string(in.key) : "";
    s.salt = salt;
    s.arrived_ns = in.arrived_ns;
    job->groups.push_back(s.group);
    groups_[s.group] = {job, i, 0};
    backend_->Submit(std::move(s));
  }
}

void Server::OnPieces(std::vector<Piece> pieces) {
  for (Piece& piece : pieces) {
    const auto at = groups_.find(piece.group);
    if (at == groups_.end()) continue;  // of a request that is over
    const std::shared_ptr<Job> job = at->second.job;
    const size_t prompt = at->second.prompt;
    moved_ns_ = std::max(piece.made_ns, moved_ns_);
    Generation::Wanted wanted;
    if (piece.finish != ENGINE_FINISH_NONE) {
      if (piece.choice == 0 && piece.finish != ENGINE_FINISH_ERROR) {
        figures_.prompt_tokens += piece.usage.prompt_tokens;
        figures_.cached_tokens += piece.usage.cached_tokens;
      }
      if (++at->second.ended >= piece.choices) groups_.erase(at);
    }
    job->generation->OnPiece(prompt, std::move(piece), &wanted);
    if (wanted.sent) job->said_ns = NowNs();
    for (const auto& [place, choice] : wanted.enough) {
      backend_->Enough(job->groups[place], choice);
    }
    if (wanted.cancel_all) Abandon(job);
    if (job->generation->done()) End(job, wanted.cancel_all ? "error" : "done");
  }
}

void Server::Abandon(const std::shared_ptr<Job>& job) {
  for (const uint64_t group : job->groups) {
    if (groups_.count(group) != 0) backend_->Abandon(group);
  }
}

void Server::End(const std::shared_ptr<Job>& job, const char* reason) {
  if (jobs_.erase(job->number) == 0) return;
  for (const uint64_t group : job->groups) groups_.erase(group);
  if (const auto at = by_key_.find(job->key); at != by_key_.end() && --at->second == 0) {
    by_key_.erase(at);
  }
  const Generation& g = *job->generation;
  ++figures_.finished[reason];
  figures_.generated_tokens += g.generated();
  if (g.first_ns() != 0) {
    const auto seconds = [](uint64_t from, uint64_t to) {
      return to > from ? static_cast<double>(to - from) * 1e-9 : 0;
    };
    figures_.first_token.Add(seconds(g.arrived_ns(), g.first_ns()));
    figures_.request.Add(seconds(g.arrived_ns(), g.last_ns()));
    if (g.generated() > 1) {
      figures_.between_tokens.Add(seconds(g.first_ns(), g.last_ns()) /
                                  static_cast<double>(g.generated() - 1));
    }
  }
  ended_ns_.push_back(NowNs());
  if (ended_ns_.size() > kRateKept) ended_ns_.pop_front();
}

}  // namespace engine::http_api
