// Values of the template language: Python's, as far as chat templates see them. Copies share
// lists and dictionaries, which templates cannot change.
#ifndef ENGINE_MODEL_FORMATS_JINJA_VALUE_H_
#define ENGINE_MODEL_FORMATS_JINJA_VALUE_H_

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "nlohmann/json.hpp"

namespace engine::model::jinja {

// Thrown within the interpreter only; chat_template.cc turns it into a Status.
struct TemplateError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Macro;  // a macro of the template, or a function by name
struct Value;
using List = std::vector<Value>;
using Dict = std::vector<std::pair<std::string, Value>>;  // in order of insertion

struct Value {
  enum Kind {
    kUndefined,
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kList,
    kDict,
    kNamespace,
    kCallable
  };
  Kind kind = kUndefined;
  bool b = false;
  int64_t i = 0;
  double f = 0;
  std::string s;  // kString; of kUndefined, the name that was looked up; of kCallable, its name
  std::shared_ptr<List> list;
  std::shared_ptr<Dict> dict;  // kDict and kNamespace
  std::shared_ptr<const Macro> macro;

  static Value Undefined(std::string name);
  static Value None();
  static Value Bool(bool v);
  static Value Int(int64_t v);
  static Value Float(double v);
  static Value String(std::string v);
  static Value OfList(List v);
  static Value OfDict(Dict v);
  static Value FromJson(const nlohmann::ordered_json& j, int depth = 0);

  bool IsNumber() const { return kind == kInt || kind == kFloat || kind == kBool; }
  double AsDouble() const {
    return kind == kFloat ? f : kind == kBool ? b : static_cast<double>(i);
  }
  int64_t AsInt() const { return kind == kBool ? b : i; }  // kInt, kBool
  bool Truthy() const;
  const Value* Member(const std::string& key) const;  // of a dictionary, or null
  const char* KindName() const;
};

bool Equal(const Value& a, const Value& b);
// Python's a < b; throws when the two cannot be ordered.
bool Less(const Value& a, const Value& b);
bool Contains(const Value& container, const Value& item);
std::string Str(const Value& v);   // Python's str()
std::string Repr(const Value& v);  // Python's repr()
// json.dumps(v, ensure_ascii=False), with indent < 0 for none.
std::string ToJson(const Value& v, int indent, bool sort_keys);
// What a `for` runs over: items of a list, keys, code points; nothing for undefined.
List Iterate(const Value& v);
std::vector<std::string> CodePoints(const std::string& s);

}  // namespace engine::model::jinja

#endif  // ENGINE_MODEL_FORMATS_JINJA_VALUE_H_
