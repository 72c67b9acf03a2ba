// Random JSON schemas, and a validator.
#include "test_schemas.h"

#include <algorithm>
#include <cmath>

namespace engine::guided {
namespace {

using Json = nlohmann::ordered_json;

class Maker {
 public:
  explicit Maker(std::mt19937* random) : random_(*random) {}

  Json Document() {
    Json schema = Schema(0);
    if (wants_defs_) {
      if (!schema.is_object()) schema = Json::object();
      Json tree = {
          {"type", "object"},
          {"properties",
           {{"value", Json{{"type", "integer"}}},
            {"children",
             {{"type", "array"}, {"items", {{"$ref", "#/$defs/tree"}}}, {"maxItems", 3}}}}},
          {"required", {"value"}},
          {"additionalProperties", false}};
      schema["$defs"] = {{"tree", tree}, {"leaf", Scalar()}};
    }
    return schema;
  }

 private:
  uint32_t Below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }
  bool Chance(uint32_t percent) { return Below(100) < percent; }
  template <typename T>
  T Pick(std::initializer_list<T> list) {
    return *(list.begin() + Below(static_cast<uint32_t>(list.size())));
  }

  Json Integer() {
    Json schema = {{"type", "integer"}};
    if (Chance(30)) {
      const int low = static_cast<int>(Below(2000)) - 1000;
      schema[Pick({"minimum", "exclusiveMinimum"})] = low;
      if (Chance(70))
        schema[Pick({"maximum", "exclusiveMaximum"})] = low + 2 + static_cast<int>(Below(3000));
    } else if (Chance(20)) {
      schema["maximum"] = Pick({1e3, 2.5, -17.5, 1e12, 0.0});
    }
    if (Chance(15)) schema["multipleOf"] = Pick({1, 2, 5, 7, 60});
    return schema;
  }
  Json Number() {
    Json schema = {{"type", "number"}};
    if (Chance(40))
      schema[Pick({"minimum", "exclusiveMinimum"})] = Pick({0.0, -1.5, 0.1, 1e-3, -1e6});
    if (Chance(40))
      schema[Pick({"maximum", "exclusiveMaximum"})] = Pick({1.0, 2.5, 100.0, 1e9, 0.3});
    return schema;
  }
  Json String() {
    Json schema = {{"type", "string"}};
    if (Chance(25)) {
      schema["pattern"] = Pick({"^[a-z]+$", "^[A-Z][a-z]*( [A-Z][a-z]*)*$", "[0-9]{3}", "^a|b$",
                                "^(\\+1)?\\d{3}-\\d{4}$", "^[^\"\\\\]*$", "^\\w+@\\w+\\.com$"});
      if (Chance(40)) schema["minLength"] = Below(6);
      if (Chance(40)) schema["maxLength"] = 8 + Below(20);
    } else if (Chance(30)) {
      schema["minLength"] = Below(5);
      schema["maxLength"] = 5 + Below(60);
    } else if (Chance(25)) {
      schema["format"] = Pick({"date", "time", "date-time", "uuid", "ipv4", "ipv6", "email",
                               "hostname", "uri", "never-heard-of"});
    }
    return schema;
  }
  Json Value() {
    switch (Below(7)) {
      case 0:
        return nullptr;
      case 1:
        return Chance(50);
      case 2:
        return static_cast<int>(Below(100)) - 50;
      case 3:
        return 0.25 * Below(10);
      case 4:
        return Json{{"k", Below(3)}};
      default:
        return Pick({"red", "green", "a\"b\\c", "\n\x01tab\t", "\xc3\xa9t\xc3\xa9", ""});
    }
  }
  Json Scalar() {
    switch (Below(8)) {
      case 0:
        return Integer();
      case 1:
        return Number();
      case 2:
        return {{"type", Pick({"boolean", "null"})}};
      case 3: {
        Json values = Json::array();
        for (uint32_t i = 0; i <= Below(5); ++i) values.push_back(Value());
        return {{"enum", values}};
      }
      case 4:
        return {{"const", Value()}};
      case 5:
        return {{"type", {"string", "null", "integer"}}, {"minLength", 1}, {"minimum", 3}};
      default:
        return String();
    }
  }
  std::string Name() {
    return Pick({"id", "name", "a", "ab", "kind", "x-y", "\xc3\xa4", "q\"t", "b\\s", "n\nl",
                 "items", "value", "list", "i", "data"});
  }
  Json Object(uint32_t depth) {
    Json schema = {{"type", "object"}};
    Json properties = Json::object();
    Json required = Json::array();
    const uint32_t count = Below(5);
    for (uint32_t i = 0; i < count; ++i) {
      const std::string name = Name();
      if (properties.contains(name)) continue;
      properties[name] = Schema(depth + 1);
      if (Chance(50)) required.push_back(name);
    }
    if (Chance(85)) schema["properties"] = properties;
    if (Chance(70)) schema["required"] = required;
    if (Chance(30)) {
      schema["additionalProperties"] = false;
      if (schema.contains("required") && !schema.contains("properties")) schema.erase("required");
    } else if (Chance(30)) {
      schema["additionalProperties"] = Chance(50) ? Json(true) : Schema(depth + 1);
    }
    if (Chance(12)) {
      schema["patternProperties"] = {{Pick({"^x-", "^[a-z]{2}$", "a"}), Scalar()}};
    }
    if (Chance(10)) schema["minProperties"] = Below(3);
    if (Chance(10)) schema["maxProperties"] = 2 + Below(5);
    return schema;
  }
  Json List(uint32_t depth) {
    Json schema = {{"type", "array"}};
    if (Chance(80)) schema["items"] = Schema(depth + 1);
    if (Chance(20)) {
      schema["prefixItems"] = Json::array({Schema(depth + 1), Scalar()});
      if (Chance(40)) schema["items"] = false;
    }
    if (Chance(30)) schema["minItems"] = Below(3);
    if (Chance(30)) schema["maxItems"] = 2 + Below(4);
    return schema;
  }
  Json Tagged(uint32_t depth) {
    Json list = Json::array();
    for (const char* tag : {"cat", "dog", "cow"}) {
      Json one = Object(depth + 1);
      one["properties"]["type"] = {{"const", tag}};
      one["required"] = {"type"};
      one.erase("minProperties");
      one.erase("maxProperties");
      one.erase("patternProperties");
      list.push_back(one);
    }
    return {{Pick({"oneOf", "anyOf"}), list}};
  }
  Json Schema(uint32_t depth) {
    if (depth >= 4) return Scalar();
    switch (Below(14)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return Object(depth);
      case 4:
      case 5:
        return List(depth);
      case 6: {
        Json list = Json::array();
        for (uint32_t i = 0; i < 2 + Below(2); ++i) list.push_back(Schema(depth + 1));
        Json schema = {{"anyOf", list}};
        if (Chance(30)) schema["description"] = "one of these";
        return schema;
      }
      case 7:
        return Tagged(depth);
      case 8: {
        Json schema = {{"allOf", {Object(depth + 1), Object(depth + 1)}}};
        for (Json& one : schema["allOf"]) {
          for (const char* word : {"minProperties", "maxProperties", "patternProperties"}) {
            one.erase(word);
          }
        }
        return schema;
      }
      case 9:
        wants_defs_ = true;
        return {{"$ref", Pick({"#/$defs/tree", "#/$defs/leaf"})}};
      case 10:
        return Chance(50) ? Json(true) : Json::object();
      default:
        return Scalar();
    }
  }

  std::mt19937& random_;
  bool wants_defs_ = false;
};

bool IsType(const Json& value, const std::string& type) {
  if (type == "null") return value.is_null();
  if (type == "boolean") return value.is_boolean();
  if (type == "string") return value.is_string();
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "number") return value.is_number();
  return value.is_number_integer() ||
         (value.is_number_float() && std::trunc(value.get<double>()) == value.get<double>());
}

// The patterns that are written above, said again by hand.
bool Matches(const std::string& text, const std::string& pattern) {
  const auto is = [](const char* set) {
    return [set = std::string(set)](char c) { return c != 0 && set.find(c) != std::string::npos; };
  };
  const auto lower = is("abcdefghijklmnopqrstuvwxyz"), digit = is("0123456789"),
             upper = is("ABCDEFGHIJKLMNOPQRSTUVWXYZ");
  const auto word = [&](char c) { return lower(c) || upper(c) || digit(c) || c == '_'; };
  const auto all = [](std::string_view part, const auto& test) {
    return !part.empty() && std::all_of(part.begin(), part.end(), test);
  };
  const std::string_view view = text;
  if (pattern == "^[a-z]+$") return all(view, lower);
  if (pattern == "[0-9]{3}") {
    size_t run = 0;
    for (const char c : text) {
      run = digit(c) ? run + 1 : 0;
      if (run == 3) return true;
    }
    return false;
  }
  if (pattern == "^a|b$") return view.starts_with('a') || view.ends_with('b');
  if (pattern == "^[^\"\\\\]*$") return text.find_first_of("\"\\") == std::string::npos;
  if (pattern == "a") return text.find('a') != std::string::npos;
  if (pattern == "^x-") return view.starts_with("x-");
  if (pattern == "^[a-z]{2}$") return text.size() == 2 && all(view, lower);
  if (pattern == "^(\\+1)?\\d{3}-\\d{4}$") {
    const std::string_view rest = view.starts_with("+1") ? view.substr(2) : view;
    return rest.size() == 8 && rest[3] == '-' && all(rest.substr(0, 3), digit) &&
           all(rest.substr(4), digit);
  }
  if (pattern == "^\\w+@\\w+\\.com$") {
    const size_t at = text.find('@');
    return at != std::string::npos && view.ends_with(".com") && text.size() > at + 5 &&
           all(view.substr(0, at), word) && all(view.substr(at + 1, text.size() - at - 5), word);
  }
  // ^[A-Z][a-z]*( [A-Z][a-z]*)*$
  bool first = true;  // of a word
  for (const char c : text) {
    if (first ? !upper(c) : !lower(c) && c != ' ') return false;
    first = c == ' ';
  }
  return !first;
}

size_t Length(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

Json RandomSchema(std::mt19937* random) { return Maker(random).Document(); }

bool IsValid(const Json& value, const Json& schema, const Json& document) {
  if (schema.is_boolean()) return schema.get<bool>();
  const auto has = [&](const char* word) { return schema.contains(word); };
  if (has("$ref")) {
    const std::string ref = schema["$ref"].get<std::string>();
    if (!IsValid(value, document.at(Json::json_pointer(ref.substr(1))), document)) return false;
  }
  if (has("type")) {
    const Json types = schema["type"].is_array() ? schema["type"] : Json::array({schema["type"]});
    if (std::none_of(types.begin(), types.end(),
                     [&](const Json& type) { return IsType(value, type.get<std::string>()); })) {
      return false;
    }
  }
  if (has("const") && schema["const"] != value) return false;
  if (has("enum") &&
      std::find(schema["enum"].begin(), schema["enum"].end(), value) == schema["enum"].end()) {
    return false;
  }
  const auto count = [&](const char* word) {
    const Json& list = schema[word];
    return std::count_if(list.begin(), list.end(),
                         [&](const Json& one) { return IsValid(value, one, document); });
  };
  if (has("allOf") && count("allOf") != static_cast<long>(schema["allOf"].size())) return false;
  if (has("anyOf") && count("anyOf") == 0) return false;
  if (has("oneOf") && count("oneOf") != 1) return false;
  if (value.is_number()) {
    const double number = value.get<double>();
    if (has("minimum") && number < schema["minimum"].get<double>()) return false;
    if (has("maximum") && number > schema["maximum"].get<double>()) return false;
    if (has("exclusiveMinimum") && number <= schema["exclusiveMinimum"].get<double>()) return false;
    if (has("exclusiveMaximum") && number >= schema["exclusiveMaximum"].get<double>()) return false;
    if (has("multipleOf") && std::fmod(number, schema["multipleOf"].get<double>()) != 0)
      return false;
  }
  if (value.is_string()) {
    const std::string text = value.get<std::string>();
    if (has("minLength") && Length(text) < schema["minLength"].get<size_t>()) return false;
    if (has("maxLength") && Length(text) > schema["maxLength"].get<size_t>()) return false;
    if (has("pattern") && !Matches(text, schema["pattern"].get<std::string>())) {
      return false;
    }
  }
  if (value.is_object()) {
    if (has("required")) {
      for (const Json& name : schema["required"]) {
        if (!value.contains(name.get<std::string>())) return false;
      }
    }
    if (has("minProperties") && value.size() < schema["minProperties"].get<size_t>()) return false;
    if (has("maxProperties") && value.size() > schema["maxProperties"].get<size_t>()) return false;
    for (const auto& [name, member] : value.items()) {
      bool named = false;
      if (has("properties") && schema["properties"].contains(name)) {
        named = true;
        if (!IsValid(member, schema["properties"][name], document)) return false;
      }
      if (has("patternProperties")) {
        for (const auto& [pattern, inner] : schema["patternProperties"].items()) {
          if (!Matches(name, pattern)) continue;
          named = true;
          if (!IsValid(member, inner, document)) return false;
        }
      }
      if (!named && has("additionalProperties") &&
          !IsValid(member, schema["additionalProperties"], document)) {
        return false;
      }
    }
  }
  if (value.is_array()) {
    if (has("minItems") && value.size() < schema["minItems"].get<size_t>()) return false;
    if (has("maxItems") && value.size() > schema["maxItems"].get<size_t>()) return false;
    const size_t prefix = has("prefixItems") ? schema["prefixItems"].size() : 0;
    for (size_t i = 0; i < value.size(); ++i) {
      if (i < prefix) {
        if (!IsValid(value[i], schema["prefixItems"][i], document)) return false;
      } else if (has("items") && !IsValid(value[i], schema["items"], document)) {
        return false;
      }
    }
  }
  return true;
}

}  // namespace engine::guided
