#include "spec.h"

#include <charconv>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace engine::traffic {
namespace {

constexpr char kKeys[] =
    "streams, rate, requests, prompt, out, prefix, turns, cancel, waves, warmup, seed";

template <typename T>
bool Number(const std::string& text, T* out) {
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, *out);
  return error == std::errc() && at == end;
}

Status Whole(const std::string& key, const std::string& value, uint32_t least, uint32_t most,
             uint32_t* out) {
  if (Number(value, out) && *out >= least && *out <= most) return Status();
  return Error(ENGINE_INVALID_ARGUMENT, "load: ", key, "=", value, "; a whole number from ", least,
               " to ", most, " is needed");
}

Status Between(const std::string& key, const std::string& value, Range* out) {
  constexpr uint32_t kMost = 1u << 20;
  const size_t dots = value.find("..");
  const std::string first = value.substr(0, dots);
  const std::string last = dots == std::string::npos ? first : value.substr(dots + 2);
  ENGINE_RETURN_IF_ERROR(Whole(key, first, 1, kMost, &out->least));
  ENGINE_RETURN_IF_ERROR(Whole(key, last, 1, kMost, &out->most));
  if (out->least <= out->most) return Status();
  return Error(ENGINE_INVALID_ARGUMENT, "load: ", key, "=", value,
               "; the lesser bound comes first");
}

Status Fraction(const std::string& key, const std::string& value, double most, double* out) {
  if (Number(value, out) && std::isfinite(*out) && *out >= 0 && *out <= most) return Status();
  return Error(ENGINE_INVALID_ARGUMENT, "load: ", key, "=", value, "; a number from 0 to ", most,
               " is needed");
}

Status Set(const std::string& key, const std::string& value, Spec* s) {
  constexpr uint32_t kMany = 1'000'000;
  if (key == "streams") return Whole(key, value, 0, 4096, &s->streams);
  if (key == "requests") return Whole(key, value, 1, kMany, &s->requests);
  if (key == "prefix") return Whole(key, value, 0, 1u << 20, &s->prefix);
  if (key == "turns") return Whole(key, value, 1, 1000, &s->turns);
  if (key == "waves") return Whole(key, value, 1, 1000, &s->waves);
  if (key == "warmup") return Whole(key, value, 0, 1000, &s->warmup);
  if (key == "prompt") return Between(key, value, &s->prompt);
  if (key == "out") return Between(key, value, &s->out);
  if (key == "rate") return Fraction(key, value, 1e6, &s->rate);
  if (key == "cancel") return Fraction(key, value, 1, &s->cancel);
  if (key == "seed") {
    if (Number(value, &s->seed)) return Status();
    return Error(ENGINE_INVALID_ARGUMENT, "load: seed=", value, "; a whole number is needed");
  }
  return Error(ENGINE_INVALID_ARGUMENT, "load: there is no key '", key, "'; there are ", kKeys);
}

}  // namespace

Status ParseSpec(const std::string& text, Spec* out) {
  if (!text.empty() && text[0] == '@') {
    std::ifstream in(text.substr(1), std::ios::binary);
    std::ostringstream whole;
    whole << in.rdbuf();
    if (!in) return Error(ENGINE_NOT_FOUND, "load: file '", text.substr(1), "' cannot be read");
    if (whole.str().empty() || whole.str()[0] == '@') {
      return Error(ENGINE_INVALID_ARGUMENT, "load: file '", text.substr(1), "' holds no load");
    }
    return ParseSpec(whole.str(), out);
  }
  Spec spec;
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first != std::string::npos && text[first] == '{') {
    const auto j = nlohmann::json::parse(text, nullptr, false);
    if (!j.is_object()) return Error(ENGINE_INVALID_ARGUMENT, "load: this is no JSON object");
    for (const auto& [key, value] : j.items()) {
      if (!value.is_number() && !value.is_string()) {
        return Error(ENGINE_INVALID_ARGUMENT, "load: \"", key, "\" must be a number or a string");
      }
      ENGINE_RETURN_IF_ERROR(
          Set(key, value.is_string() ? value.get<std::string>() : value.dump(), &spec));
    }
  } else {
    std::istringstream words(text);
    for (std::string word; words >> word;) {
      const size_t equals = word.find('=');
      if (equals == std::string::npos) {
        return Error(ENGINE_INVALID_ARGUMENT, "load: '", word, "' is no KEY=VALUE; keys are ",
                     kKeys);
      }
      ENGINE_RETURN_IF_ERROR(Set(word.substr(0, equals), word.substr(equals + 1), &spec));
    }
  }
  if (spec.streams == 0 && spec.rate == 0) {
    return Error(ENGINE_INVALID_ARGUMENT, "load: streams=0 needs a rate of arrivals");
  }
  if (spec.requests == 0) spec.requests = spec.streams == 0 ? 1 : spec.streams;
  if (uint64_t{spec.requests} * spec.turns * (spec.waves + spec.warmup) > 4'000'000) {
    return Error(ENGINE_OUT_OF_RANGE, "load: more than 4000000 requests in all");
  }
  *out = spec;
  return Status();
}

}  // namespace engine::traffic
