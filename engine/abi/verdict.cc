#include "engine/abi/verdict.h"

#include <nlohmann/json.hpp>

namespace engine::abi {
namespace {

using nlohmann::json;

// The texts of a refusal, by their names in JSON.
template <typename R, typename F>
void ForTexts(R& r, F f) {
  f("id", r.id);
  f("version", r.version);
  f("because", r.reason);
  f("built_for", r.built_for);
  f("this_host", r.this_host);
  f("differs", r.differs);
  f("fix", r.fix);
}

bool ReadTexts(const json& from, const char* name, std::vector<std::string>* out) {
  const auto it = from.find(name);
  if (it == from.end()) return true;
  if (!it->is_array()) return false;
  for (const json& each : *it) {
    if (!each.is_string()) return false;
    out->push_back(each.get<std::string>());
  }
  return true;
}

}  // namespace

json RefusalToJson(const Refusal& refusal) {
  json out = json::object();
  ForTexts(refusal, [&](const char* name, const std::string& text) {
    if (!text.empty()) out[name] = text;
  });
  if (!refusal.kinds.empty()) out["kinds"] = refusal.kinds;
  if (!refusal.output.empty()) out["output"] = refusal.output;
  return out;
}

bool RefusalFromJson(const json& from, Refusal* refusal) {
  if (!from.is_object()) return false;
  Refusal read;
  bool good = true;
  ForTexts(read, [&](const char* name, std::string& text) {
    const auto it = from.find(name);
    if (it == from.end()) return;
    good = good && it->is_string();
    if (good) text = it->get<std::string>();
  });
  if (!good || read.reason.empty() || !ReadTexts(from, "kinds", &read.kinds) ||
      !ReadTexts(from, "output", &read.output)) {
    return false;
  }
  read.path = refusal->path;
  *refusal = std::move(read);
  return true;
}

std::string JsonLine(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace engine::abi
