// An answer as it is gathered from events, and as a JSON object.
#include "answer.h"

#include "engine/status.hpp"
#include "engine/util.hpp"
#include "nlohmann/json.hpp"

namespace engine::text {
namespace {

double Seconds(uint64_t from, uint64_t to) {
  return to > from ? static_cast<double>(to - from) * 1e-9 : 0;
}

}  // namespace

const char* FinishName(uint32_t finish) {
  switch (finish) {
    case ENGINE_FINISH_STOP:
      return "stop";
    case ENGINE_FINISH_LENGTH:
      return "length";
    case ENGINE_FINISH_ERROR:
      return "error";
    case ENGINE_FINISH_TIMEOUT:
      return "timeout";
    case ENGINE_FINISH_CANCELLED:
      return "cancelled";
    default:
      return "none";
  }
}

const char* CacheName(uint32_t reason) {
  static constexpr const char* kNames[] = {"none",         "hit_prefix", "hit_session",
                                           "miss_cold",    "miss_short", "miss_salt",
                                           "miss_evicted", "miss_off",   "miss_preempted"};
  return reason < std::size(kNames) ? kNames[reason] : "unknown";
}

void Answer::Add(const engine_event& event) {
  const engine_token& token = *event.token;
  if (first_ns == 0) {
    first_ns = token.made_ns;
    arrived_ns = token.arrived_ns;
  }
  if (prompt_ids.empty()) {
    prompt_ids.assign(token.prompt_ids, token.prompt_ids + token.prompt_count);
  }
  last_ns = token.made_ns;
  if (token.id >= 0) {
    ids.push_back(token.id);
    margins.push_back(token.margin);
  }
  text += View(event.text);
}

double Answer::FirstAfter() const { return Seconds(arrived_ns, first_ns); }

double Answer::Rate() const {
  const double rest = Seconds(first_ns, last_ns);
  return ids.size() > 1 && rest > 0 ? static_cast<double>(ids.size() - 1) / rest : 0;
}

nlohmann::ordered_json ToJson(const Answer& answer, const engine_event& end, bool figures) {
  const engine_token& token = *end.token;
  nlohmann::ordered_json j;
  if (token.ask != nullptr && token.ask->id.size != 0) j["id"] = std::string(View(token.ask->id));
  if (token.choices > 1) j["choice"] = token.choice;
  j["text"] = answer.text;
  if (figures) {
    j["ids"] = answer.ids;
    j["prompt_ids"] = answer.prompt_ids;
    j["margins"] = answer.margins;
  }
  j["finish"] = FinishName(end.finish);
  if (token.error.size != 0) j["error"] = std::string(View(token.error));
  if (token.retry_after_us != 0) {
    j["retry_after_s"] = static_cast<double>(token.retry_after_us) * 1e-6;
  }
  if (const engine_usage* u = token.usage) {
    j["usage"] = {{"prompt_tokens", u->prompt_tokens},       {"cached_tokens", u->cached_tokens},
                  {"generated_tokens", u->generated_tokens}, {"cache", CacheName(u->cache_reason)},
                  {"preemptions", u->preemptions},           {"drafted_tokens", u->drafted_tokens},
                  {"accepted_tokens", u->accepted_tokens}};
  }
  if (figures) {
    if (token.usage != nullptr) {
      j["queued_s"] = static_cast<double>(token.usage->queued_ns) * 1e-9;
    }
    j["ttft_s"] = answer.FirstAfter();
    j["tokens_per_s"] = answer.Rate();
    j["peak_bytes"] = PeakBytes();
  }
  return j;
}

}  // namespace engine::text
