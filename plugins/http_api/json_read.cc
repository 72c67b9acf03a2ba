#include "json_read.h"

#include <unordered_set>
#include <vector>

namespace engine::http_api {
namespace {

class Builder : public nlohmann::json_sax<Json> {
 public:
  Builder(const JsonLimits& limits, Json* root) : limits_(limits), root_(root) {}
  const std::string& problem() const { return problem_; }

  bool null() override { return Add(nullptr); }
  bool boolean(bool v) override { return Add(v); }
  bool number_integer(number_integer_t v) override { return Add(v); }
  bool number_unsigned(number_unsigned_t v) override { return Add(v); }
  bool number_float(number_float_t v, const string_t&) override { return Add(v); }
  bool string(string_t& v) override { return Add(std::move(v)); }
  bool binary(binary_t&) override { return Fail("bytes are no JSON"); }
  bool start_object(std::size_t) override { return Open(Json::object()); }
  bool end_object() override { return Close(); }
  bool start_array(std::size_t) override { return Open(Json::array()); }
  bool end_array() override { return Close(); }
  bool key(string_t& v) override {
    Level& level = levels_.back();
    if (level.keys.size() >= limits_.members) {
      return Fail("an object has more than " + std::to_string(limits_.members) + " members");
    }
    if (!level.keys.insert(v).second) return Fail("the key " + Short(v) + " is there twice");
    level.key = std::move(v);
    return true;
  }
  bool parse_error(std::size_t at, const std::string&,
                   const nlohmann::json::exception& e) override {
    // The library's words behind its own prefix; what it quotes of the input is cut.
    std::string words = e.what();
    if (const size_t begin = words.find("] "); begin != std::string::npos)
      words.erase(0, begin + 2);
    if (const size_t end = words.find("; "); end != std::string::npos) words.resize(end);
    return Fail("no JSON at byte " + std::to_string(at) + ": " + words.substr(0, 160));
  }

 private:
  struct Level {
    Json* value;
    std::string key;
    std::unordered_set<std::string> keys;
  };
  static std::string Short(const std::string& text) { return Quoted(text.substr(0, 64)); }
  bool Fail(std::string why) {
    if (problem_.empty()) problem_ = std::move(why);
    return false;
  }
  template <typename Value>
  bool Add(Value&& value) {
    return Place(Json(std::forward<Value>(value))) != nullptr;
  }
  Json* Place(Json value) {
    if (++values_ > limits_.values) {
      Fail("there are more than " + std::to_string(limits_.values) + " values");
      return nullptr;
    }
    if (levels_.empty()) {
      *root_ = std::move(value);
      return root_;
    }
    Level& level = levels_.back();
    if (level.value->is_array()) {
      level.value->push_back(std::move(value));
      return &level.value->back();
    }
    // The key is new: it need not be looked up.
    auto& object = level.value->get_ref<Json::object_t&>();
    object.Container::emplace_back(std::move(level.key), std::move(value));
    return &object.back().second;
  }
  bool Open(Json value) {
    if (levels_.size() >= limits_.depth) {
      return Fail("values are nested more than " + std::to_string(limits_.depth) + " deep");
    }
    Json* placed = Place(std::move(value));
    if (placed == nullptr) return false;
    levels_.push_back({placed, {}, {}});
    return true;
  }
  bool Close() {
    levels_.pop_back();
    return true;
  }

  const JsonLimits& limits_;
  Json* root_;
  std::vector<Level> levels_;  // containers that are open; the inner ones do not move meanwhile
  size_t values_ = 0;
  std::string problem_;
};

}  // namespace

Status ReadJson(std::string_view text, const JsonLimits& limits, Json* out) {
  if (text.empty()) return Error(ENGINE_INVALID_ARGUMENT, "it is empty, and must be JSON");
  *out = nullptr;
  Builder builder(limits, out);
  const bool good = Json::sax_parse(text.begin(), text.end(), &builder);
  if (good && builder.problem().empty()) return Status();
  return Error(ENGINE_INVALID_ARGUMENT,
               builder.problem().empty() ? std::string("no JSON") : builder.problem());
}

std::string Line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string Quoted(std::string_view text) { return Line(Json(std::string(text))); }

}  // namespace engine::http_api
