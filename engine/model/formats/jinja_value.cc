#include "engine/model/formats/jinja_value.h"

#include <algorithm>

#include "engine/model/formats/unicode.h"

namespace engine::model::jinja {
namespace {

constexpr int kMaxDepth = 64;  // of nested lists and dictionaries

[[noreturn]] void TooDeep() { throw TemplateError("a value is nested too deeply"); }

std::string ReprString(const std::string& s) {
  const char quote =
      s.find('\'') != std::string::npos && s.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, quote);
  for (char c : s) {
    switch (c) {
      case '\n':
        out += "\\n";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\\':
        out += "\\\\";
        break;
      default:
        if (c == quote) out += '\\';
        if (static_cast<unsigned char>(c) < 32 || c == 127) {
          const char* hex = "0123456789abcdef";
          out += "\\x";
          out += hex[static_cast<unsigned char>(c) >> 4];
          out += hex[c & 15];
        } else {
          out += c;
        }
    }
  }
  return out + quote;
}

std::string Text(const Value& v, bool repr, int depth) {
  if (depth > kMaxDepth) TooDeep();
  switch (v.kind) {
    case Value::kUndefined:
      return repr ? "Undefined" : "";
    case Value::kNone:
      return "None";
    case Value::kBool:
      return v.b ? "True" : "False";
    case Value::kInt:
      return std::to_string(v.i);
    case Value::kFloat:
      return nlohmann::json(v.f).dump();
    case Value::kString:
      return repr ? ReprString(v.s) : v.s;
    case Value::kCallable:
      return "<function " + v.s + ">";
    case Value::kNamespace:
    case Value::kList:
    case Value::kDict:
      break;
  }
  std::string out(1, v.kind == Value::kList ? '[' : '{');
  bool first = true;
  if (v.kind == Value::kList) {
    for (const Value& x : *v.list) {
      out += (first ? "" : ", ") + Text(x, true, depth + 1);
      first = false;
    }
    return out + "]";
  }
  for (const auto& [key, x] : *v.dict) {
    out += (first ? "" : ", ") + ReprString(key) + ": " + Text(x, true, depth + 1);
    first = false;
  }
  return out + "}";
}

void Json(const Value& v, int indent, bool sort_keys, int depth, std::string* out) {
  if (depth > kMaxDepth) TooDeep();
  const auto line = [&](int level) {
    if (indent < 0) return;
    *out += '\n';
    out->append(static_cast<size_t>(indent * level), ' ');
  };
  const char* separator = indent < 0 ? ", " : ",";
  const auto quoted = [](const std::string& s) {
    return nlohmann::json(s).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  switch (v.kind) {
    case Value::kNone:
      *out += "null";
      return;
    case Value::kBool:
      *out += v.b ? "true" : "false";
      return;
    case Value::kInt:
    case Value::kFloat:
      *out += Text(v, false, 0);
      return;
    case Value::kString:
      *out += quoted(v.s);
      return;
    case Value::kList: {
      *out += '[';
      bool first = true;
      for (const Value& x : *v.list) {
        if (!first) *out += separator;
        first = false;
        line(depth + 1);
        Json(x, indent, sort_keys, depth + 1, out);
      }
      if (!first) line(depth);
      *out += ']';
      return;
    }
    case Value::kDict: {
      *out += '{';
      bool first = true;
      Dict items = *v.dict;
      if (sort_keys) {
        std::sort(items.begin(), items.end(),
                  [](const auto& a, const auto& b) { return a.first < b.first; });
      }
      for (const auto& [key, x] : items) {
        if (!first) *out += separator;
        first = false;
        line(depth + 1);
        *out += quoted(key) + ": ";
        Json(x, indent, sort_keys, depth + 1, out);
      }
      if (!first) line(depth);
      *out += '}';
      return;
    }
    default:
      throw TemplateError(std::string("a value that is ") + v.KindName() +
                          " cannot be written as JSON");
  }
}

}  // namespace

Value Value::Undefined(std::string name) {
  Value v;
  v.s = std::move(name);
  return v;
}
Value Value::None() {
  Value v;
  v.kind = kNone;
  return v;
}
Value Value::Bool(bool x) {
  Value v;
  v.kind = kBool;
  v.b = x;
  return v;
}
Value Value::Int(int64_t x) {
  Value v;
  v.kind = kInt;
  v.i = x;
  return v;
}
Value Value::Float(double x) {
  Value v;
  v.kind = kFloat;
  v.f = x;
  return v;
}
Value Value::String(std::string x) {
  Value v;
  v.kind = kString;
  v.s = std::move(x);
  return v;
}
Value Value::OfList(List x) {
  Value v;
  v.kind = kList;
  v.list = std::make_shared<List>(std::move(x));
  return v;
}
Value Value::OfDict(Dict x) {
  Value v;
  v.kind = kDict;
  v.dict = std::make_shared<Dict>(std::move(x));
  return v;
}

Value Value::FromJson(const nlohmann::ordered_json& j, int depth) {
  if (depth > kMaxDepth) TooDeep();
  if (j.is_boolean()) return Bool(j.get<bool>());
  if (j.is_number_unsigned() && j.get<uint64_t>() > uint64_t{INT64_MAX}) {
    return Float(j.get<double>());
  }
  if (j.is_number_integer()) return Int(j.get<int64_t>());
  if (j.is_number()) return Float(j.get<double>());
  if (j.is_string()) return String(j.get<std::string>());
  if (j.is_array()) {
    List list;
    for (const auto& x : j) list.push_back(FromJson(x, depth + 1));
    return OfList(std::move(list));
  }
  if (j.is_object()) {
    Dict dict;
    for (const auto& [key, x] : j.items()) dict.emplace_back(key, FromJson(x, depth + 1));
    return OfDict(std::move(dict));
  }
  return None();
}

bool Value::Truthy() const {
  switch (kind) {
    case kUndefined:
    case kNone:
      return false;
    case kBool:
      return b;
    case kInt:
      return i != 0;
    case kFloat:
      return f != 0;
    case kString:
      return !s.empty();
    case kList:
      return !list->empty();
    case kDict:
      return !dict->empty();
    case kNamespace:
    case kCallable:
      return true;
  }
  return false;
}

const Value* Value::Member(const std::string& key) const {
  if (dict == nullptr) return nullptr;
  for (const auto& [k, v] : *dict) {
    if (k == key) return &v;
  }
  return nullptr;
}

const char* Value::KindName() const {
  static const char* const kNames[] = {"undefined",   "none",      "a bool", "an integer",
                                       "a float",     "a string",  "a list", "a dictionary",
                                       "a namespace", "a function"};
  return kNames[kind];
}

bool Equal(const Value& a, const Value& b) {
  if (a.IsNumber() && b.IsNumber()) {
    return a.kind != Value::kFloat && b.kind != Value::kFloat ? a.AsInt() == b.AsInt()
                                                              : a.AsDouble() == b.AsDouble();
  }
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case Value::kString:
      return a.s == b.s;
    case Value::kList:
      return std::equal(a.list->begin(), a.list->end(), b.list->begin(), b.list->end(), Equal);
    case Value::kDict: {
      if (a.dict->size() != b.dict->size()) return false;
      for (const auto& [key, x] : *a.dict) {
        const Value* y = b.Member(key);
        if (y == nullptr || !Equal(x, *y)) return false;
      }
      return true;
    }
    case Value::kNamespace:
      return a.dict == b.dict;
    case Value::kCallable:
      return a.s == b.s && a.macro == b.macro;
    default:
      return true;
  }
}

bool Less(const Value& a, const Value& b) {
  if (a.IsNumber() && b.IsNumber()) {
    return a.kind != Value::kFloat && b.kind != Value::kFloat ? a.AsInt() < b.AsInt()
                                                              : a.AsDouble() < b.AsDouble();
  }
  if (a.kind == Value::kString && b.kind == Value::kString) return a.s < b.s;
  throw TemplateError(std::string(a.KindName()) + " and " + b.KindName() + " cannot be ordered");
}

bool Contains(const Value& container, const Value& item) {
  switch (container.kind) {
    case Value::kUndefined:
      return false;
    case Value::kString:
      if (item.kind != Value::kString) {
        throw TemplateError(std::string("'in' a string needs a string, not ") + item.KindName());
      }
      return container.s.find(item.s) != std::string::npos;
    case Value::kList:
      return std::any_of(container.list->begin(), container.list->end(),
                         [&](const Value& v) { return Equal(v, item); });
    case Value::kDict:
      return item.kind == Value::kString && container.Member(item.s) != nullptr;
    default:
      throw TemplateError(std::string("'in' does not work with ") + container.KindName());
  }
}

std::string Str(const Value& v) { return Text(v, false, 0); }
std::string Repr(const Value& v) { return Text(v, true, 0); }

std::string ToJson(const Value& v, int indent, bool sort_keys) {
  std::string out;
  Json(v, indent, sort_keys, 0, &out);
  return out;
}

List Iterate(const Value& v) {
  List out;
  switch (v.kind) {
    case Value::kUndefined:
      break;
    case Value::kList:
      return *v.list;
    case Value::kDict:
      for (const auto& item : *v.dict) out.push_back(Value::String(item.first));
      break;
    case Value::kString:
      for (auto& c : CodePoints(v.s)) out.push_back(Value::String(std::move(c)));
      break;
    default:
      throw TemplateError(std::string(v.KindName()) + " cannot be iterated over");
  }
  return out;
}

std::vector<std::string> CodePoints(const std::string& s) {
  std::vector<std::string> out;
  for (size_t at = 0; at < s.size();) {
    const int n = std::max(1, Utf8Length(s, at));
    out.push_back(s.substr(at, static_cast<size_t>(n)));
    at += static_cast<size_t>(n);
  }
  return out;
}

}  // namespace engine::model::jinja
