// jsonl_source: requests of a file.
#include <cmath>
#include <iostream>
#include <limits>
#include <set>

#include "engine/util.hpp"
#include "jsonl.h"
#include "nlohmann/json.hpp"

namespace engine::text {
namespace {

constexpr size_t kLongestName = 1024;  // of id, session, key, salt, adapter

// Whole text of an answer that was made without the model.
struct BadLine : engine_event {
  engine_token owned_token = Sized<engine_token>();
  std::string owned;
  std::unique_ptr<Text> from;  // as far as it could be read
};

// Takes the fields of one object of plain values; nothing else is built, so that a line of a
// million brackets is refused at the second.
class Fields : public nlohmann::json_sax<nlohmann::json> {
 public:
  Fields(Text* out, std::string* problem) : out_(out), problem_(problem) {}
  bool done() const { return ended_; }
  bool has_prompt() const { return has_prompt_; }

  bool null() override { return Wrong("null"); }
  bool boolean(bool) override { return Wrong("a truth value"); }
  bool number_integer(number_integer_t v) override {
    if (depth_ == 0) return Fail("a request is a JSON object");
    if (key_ == "temperature" || key_ == "top_p") return Real(static_cast<double>(v));
    return Wrong("a negative number");
  }
  bool number_unsigned(number_unsigned_t v) override {
    OwnedRequest& r = out_->owned_request;
    if (depth_ == 0) return Fail("a request is a JSON object");
    if (key_ == "temperature" || key_ == "top_p") return Real(static_cast<double>(v));
    if (key_ == "max_tokens") return Whole(v, 1, 1048576, &r.value.max_tokens);
    if (key_ == "top_k") return Whole(v, 0, 10000000, &r.sampling.top_k);
    if (key_ == "priority") return Whole(v, 1, 64, &r.value.priority);
    if (key_ == "n") return Whole(v, 1, 1024, &r.value.n);
    if (key_ == "seed") {
      r.sampling.seed = v;
      return true;
    }
    if (key_ == "timeout_ms") {
      if (v == 0 || v > 86'400'000) return Range(1, 86'400'000);
      r.value.timeout_us = v * 1000;
      return true;
    }
    if (key_ == "id") {
      r.id = std::to_string(v);
      return true;
    }
    return Wrong("a number");
  }
  bool number_float(number_float_t v, const string_t&) override {
    if (depth_ == 0) return Fail("a request is a JSON object");
    if (key_ == "temperature" || key_ == "top_p") return Real(v);
    return Wrong("a number with a fraction or an exponent");
  }
  bool string(string_t& v) override {
    if (depth_ == 0) return Fail("a request is a JSON object");
    if (key_ == "prompt" || key_ == "text") {
      if (std::exchange(has_prompt_, true))
        return Fail("the prompt is given twice: prompt or text");
      out_->owned = std::move(v);
      return true;
    }
    OwnedRequest& r = out_->owned_request;
    std::string* to = key_ == "id"        ? &r.id
                      : key_ == "session" ? &r.session
                      : key_ == "key"     ? &r.key
                      : key_ == "salt"    ? &r.salt
                      : key_ == "adapter" ? &r.adapter
                                          : nullptr;
    if (to == nullptr) return Wrong("a text");
    if (v.size() > kLongestName) {
      return Fail("'" + key_ + "' has " + std::to_string(v.size()) + " bytes; at most " +
                  std::to_string(kLongestName) + " are taken");
    }
    *to = std::move(v);
    return true;
  }
  bool binary(binary_t&) override { return Wrong("bytes"); }
  bool start_object(std::size_t) override { return depth_++ == 0 || Wrong("an object"); }
  bool end_object() override {
    ended_ = true;
    return true;
  }
  bool start_array(std::size_t) override {
    return depth_ == 0 ? Fail("a request is a JSON object, and this is a list") : Wrong("a list");
  }
  bool end_array() override { return true; }
  bool key(string_t& k) override {
    static const std::set<std::string> kKnown = {
        "id", "prompt", "text",     "max_tokens", "temperature", "top_k",   "top_p",     "seed",
        "n",  "salt",   "priority", "session",    "key",         "adapter", "timeout_ms"};
    key_ = k.substr(0, 64);
    if (kKnown.count(k) == 0) {
      return Fail("field '" + key_ +
                  "' is unknown; known are adapter, id, key, max_tokens, n, "
                  "priority, prompt, salt, seed, session, temperature, text, timeout_ms, top_k, "
                  "top_p");
    }
    if (!seen_.insert(k).second) return Fail("field '" + key_ + "' is given twice");
    return true;
  }
  bool parse_error(std::size_t at, const std::string&,
                   const nlohmann::json::exception& e) override {
    // The library's words after its own prefix; its quotes of the input are cut short.
    std::string words = e.what();
    if (const size_t colon = words.find("; "); colon != std::string::npos) words.resize(colon);
    return Fail("no JSON, at byte " + std::to_string(at) + ": " + words.substr(0, 200));
  }

 private:
  bool Fail(std::string why) {
    if (problem_->empty()) *problem_ = std::move(why);
    return false;
  }
  bool Wrong(const char* found) {
    if (depth_ == 0) return Fail("a request is a JSON object");
    const bool text = key_ == "prompt" || key_ == "text" || key_ == "session" || key_ == "key" ||
                      key_ == "salt" || key_ == "adapter";
    return Fail("'" + key_ + "' is " + found + "; it must be " +
                (key_ == "id" ? "a text or a whole number"
                 : text       ? "a text"
                 : key_ == "temperature" || key_ == "top_p"
                     ? "a number"
                     : "a whole number that is not negative"));
  }
  bool Range(uint64_t least, uint64_t most) {
    return Fail("'" + key_ + "' must be from " + std::to_string(least) + " to " +
                std::to_string(most));
  }
  bool Whole(uint64_t v, uint64_t least, uint64_t most, uint32_t* to) {
    if (v < least || v > most) return Range(least, most);
    *to = static_cast<uint32_t>(v);
    return true;
  }
  bool Real(double v) {
    engine_sampling& s = out_->owned_request.sampling;
    const double most = key_ == "temperature" ? 100 : 1;
    if (!(v >= 0 && v <= most)) return Range(0, static_cast<uint64_t>(most));
    (key_ == "temperature" ? s.temperature : s.top_p) = v;
    return true;
  }

  Text* out_;
  std::string* problem_;
  std::string key_;
  std::set<std::string> seen_;
  int depth_ = 0;
  bool has_prompt_ = false, ended_ = false;
};

}  // namespace

Status ParseRequest(std::string_view line, const JsonlSourceOptions& defaults, Text* out) {
  OwnedRequest& r = out->owned_request;
  r.sampling.temperature = defaults.temperature;
  r.sampling.top_k = defaults.top_k;
  r.sampling.top_p = defaults.top_p;
  r.sampling.seed = defaults.seed;
  r.value.max_tokens = defaults.max_tokens;
  r.adapter = defaults.adapter;
  std::string problem;
  Fields fields(out, &problem);
  const bool good = nlohmann::json::sax_parse(line.begin(), line.end(), &fields);
  out->request = r.Finish(true);
  out->text = Str(out->owned);
  if (problem.empty() && good && !fields.has_prompt()) problem = "there is no 'prompt'";
  if (problem.empty() && !good) problem = "no JSON";
  return problem.empty() ? Status() : Status(ENGINE_INVALID_ARGUMENT, problem);
}

Status CountAnswered(const std::string& path, Answered* out) {
  *out = {};
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) return Status();
  std::vector<char> buffer(1 << 20);
  std::string last;  // whole line
  std::string line;
  uint64_t read = 0;
  for (size_t got; (got = std::fread(buffer.data(), 1, buffer.size(), file)) != 0;) {
    for (size_t i = 0; i < got; ++i) {
      ++read;
      if (buffer[i] != '\n') {
        line += buffer[i];
        continue;
      }
      ++out->lines;
      out->bytes = read;
      last = std::move(line);
      line.clear();
    }
  }
  std::fclose(file);
  if (out->lines == 0 && line.empty()) return Status();
  // The last line says which it is: so a file of somebody else is not gone on with.
  const auto j = nlohmann::json::parse(out->lines == 0 ? line : last, nullptr, false);
  static constexpr std::string_view kFirst = "{\"index\":0,";
  const bool torn_first = out->lines == 0 && kFirst.starts_with(line.substr(0, kFirst.size()));
  const bool ours = j.is_object() && j.contains("index") && j["index"].is_number_unsigned() &&
                    j["index"].get<uint64_t>() + 1 == out->lines;
  if (torn_first || ours) return Status();
  return Error(ENGINE_FAILED_PRECONDITION, "file '", path,
               "' holds something else than answers: its line ", out->lines,
               " has no \"index\": ", out->lines - std::min<uint64_t>(out->lines, 1),
               "; name another file, or delete it to begin anew");
}

Status JsonlSource::Open(Call&) {
  if (!options.has_path) {
    return Error(ENGINE_INVALID_ARGUMENT, "no file of requests was given: set path");
  }
  if (options.path == kStandardStream) {
    from_ = std::cin.rdbuf();
    // Nothing tells which requests of a stream were answered before.
    if (!options.has_answers || options.answers == kStandardStream) return Status();
    return Error(ENGINE_INVALID_ARGUMENT, "answers '", options.answers,
                 "' of an earlier run go with a file of requests, not "
                 "with standard input; leave 'answers' out");
  }
  file_.open(options.path);
  from_ = file_.rdbuf();
  if (!file_) return Error(ENGINE_NOT_FOUND, "file '", options.path, "' cannot be read");
  if (!options.has_answers || options.answers == kStandardStream) return Status();
  Answered answered;
  ENGINE_RETURN_IF_ERROR(CountAnswered(options.answers, &answered));
  answered_ = answered.lines;
  return Status();
}

// The next line that is not empty; one that is too long comes cut, a byte beyond what is allowed.
Status JsonlSource::NextLine(std::string* line, bool* there) {
  *there = false;
  std::streambuf* from = from_;
  for (;;) {
    line->clear();
    int c = from->sbumpc();
    if (c == std::char_traits<char>::eof()) return Status();
    ++line_number_;
    for (; c != std::char_traits<char>::eof() && c != '\n'; c = from->sbumpc()) {
      if (line->size() <= options.max_line_bytes) line->push_back(static_cast<char>(c));
    }
    while (!line->empty() && (line->back() == '\r' || line->back() == ' ')) line->pop_back();
    if (!line->empty()) {
      *there = true;
      return Status();
    }
  }
}

Status JsonlSource::Process(Call& call) {
  bool there = false;
  do {
    ENGINE_RETURN_IF_ERROR(NextLine(&line_, &there));
  } while (there && place_++ < answered_);
  if (!there) {
    call.Finish();
    if (place_ >= answered_) return Status();
    return Error(ENGINE_FAILED_PRECONDITION, "file '", options.answers, "' has answers to ",
                 answered_, " requests, but '", options.path, "' holds ", place_);
  }
  const uint64_t place = place_ - 1;
  auto payload = std::make_unique<Text>();
  payload->arrived_ns = NowNs();
  const Status status = line_.size() > options.max_line_bytes
                            ? Error(ENGINE_OUT_OF_RANGE, "longer than ", options.max_line_bytes,
                                    " bytes (max_line_bytes)")
                            : ParseRequest(line_, options, payload.get());
  if (status.ok()) return out.Emit(call, std::move(payload), place);
  auto answer = std::make_unique<BadLine>();
  answer->finish = answer->owned_token.finish = ENGINE_FINISH_ERROR;
  answer->owned = "line " + std::to_string(line_number_) + " of '" + options.path +
                  "': " + std::string(status.message());
  answer->owned_token.struct_size = sizeof(engine_token);
  answer->owned_token.id = -1;
  answer->owned_token.request = place;
  answer->owned_token.choices = 1;
  answer->owned_token.error = Str(answer->owned);
  answer->owned_token.error_code = status.code();
  answer->owned_token.arrived_ns = answer->owned_token.made_ns = payload->arrived_ns;
  answer->owned_token.ask = payload->request;
  answer->token = &answer->owned_token;
  answer->from = std::move(payload);
  return bad.Emit(call, std::move(answer), place);
}

}  // namespace engine::text
