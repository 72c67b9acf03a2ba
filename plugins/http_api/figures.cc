#include "figures.h"

#include <algorithm>
#include <cstdio>

namespace engine::http_api {
namespace {

// A small model answers in milliseconds, a large one in minutes.
std::vector<double> Seconds() {
  return {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5,
          1,     2.5,    5,     10,   30,    60,   120,   300, 600,  1200};
}

std::string Number(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.9g", value);
  return text;
}

void Head(const std::string& name, const char* type, const std::string& help, std::string* to) {
  *to += "# HELP " + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
}

// Within a label's quotes.
std::string Label(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

void Histogram::Add(double value) {
  const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  ++counts_[static_cast<size_t>(at - bounds_.begin())];
  sum_ += value;
  ++count_;
}

void Histogram::Render(const std::string& name, const std::string& help, std::string* to) const {
  Head(name, "histogram", help, to);
  uint64_t below = 0;
  for (size_t i = 0; i < bounds_.size(); ++i) {
    below += counts_[i];
    *to += name + "_bucket{le=\"" + Number(bounds_[i]) + "\"} " + std::to_string(below) + "\n";
  }
  *to += name + "_bucket{le=\"+Inf\"} " + std::to_string(count_) + "\n" + name + "_sum " +
         Number(sum_) + "\n" + name + "_count " + std::to_string(count_) + "\n";
}

Figures::Figures() : first_token(Seconds()), between_tokens(Seconds()), request(Seconds()) {}

std::string Figures::Render(size_t connections, size_t running, const std::string& model,
                            bool vllm) const {
  std::string text;
  const auto one = [&](const char* name, const char* type, const char* help, uint64_t value) {
    Head(name, type, help, &text);
    text += std::string(name) + " " + std::to_string(value) + "\n";
  };
  Head("engine_http_responses_total", "counter", "Responses begun, by route and status.", &text);
  for (const auto& [key, count] : responses) {
    text += "engine_http_responses_total{route=\"" + Label(std::get<0>(key)) + "\",status=\"" +
            std::to_string(std::get<1>(key)) + "\"} " + std::to_string(count) + "\n";
  }
  const auto by_reason = [&](const char* name, const char* help,
                             const std::map<std::string, uint64_t>& counts) {
    Head(name, "counter", help, &text);
    for (const auto& [reason, count] : counts) {
      text +=
          std::string(name) + "{reason=\"" + Label(reason) + "\"} " + std::to_string(count) + "\n";
    }
  };
  by_reason("engine_http_rejected_total", "Requests refused without being begun.", rejected);
  by_reason("engine_http_finished_total", "Requests that ended, by how.", finished);
  one("engine_http_aborted_total", "counter", "Requests whose client left before the end.",
      aborted);
  one("engine_http_slow_readers_total", "counter", "Streams cut since nobody read them.",
      slow_readers);
  one("engine_http_connections", "gauge", "Open connections.", connections);
  one("engine_http_requests_running", "gauge",
      "Requests for text under way, waiting ones included.", running);
  one("engine_http_prompt_tokens_total", "counter", "Prompt tokens of finished requests.",
      prompt_tokens);
  one("engine_http_cached_tokens_total", "counter", "Of them, found computed.", cached_tokens);
  one("engine_http_generated_tokens_total", "counter", "Tokens given to clients.",
      generated_tokens);
  first_token.Render("engine_http_time_to_first_token_seconds",
                     "From a request's arrival to its first token.", &text);
  between_tokens.Render("engine_http_inter_token_seconds",
                        "Mean time between two tokens of a request.", &text);
  request.Render("engine_http_request_seconds", "From a request's arrival to its last token.",
                 &text);
  if (!vllm) return text;
  const std::string label = "{model_name=\"" + Label(model) + "\"}";
  const auto alias = [&](const std::string& name, const char* type, uint64_t value) {
    Head(name, type, "As vLLM names it.", &text);
    text += name + label + " " + std::to_string(value) + "\n";
  };
  alias("vllm:num_requests_running", "gauge", running);
  alias("vllm:prompt_tokens_total", "counter", prompt_tokens);
  alias("vllm:generation_tokens_total", "counter", generated_tokens);
  Head("vllm:request_success_total", "counter", "As vLLM names it.", &text);
  for (const auto& [reason, count] : finished) {
    text += "vllm:request_success_total{finished_reason=\"" + Label(reason) + "\",model_name=\"" +
            Label(model) + "\"} " + std::to_string(count) + "\n";
  }
  first_token.Render("vllm:time_to_first_token_seconds", "As vLLM names it.", &text);
  between_tokens.Render("vllm:inter_token_latency_seconds", "As vLLM names it.", &text);
  request.Render("vllm:e2e_request_latency_seconds", "As vLLM names it.", &text);
  return text;
}

}  // namespace engine::http_api
