// Methods, functions, filters and tests that chat templates use, as Python and Jinja define them.
#include <unicode/locid.h>
#include <unicode/unistr.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <functional>
#include <set>

#include "engine/model/formats/jinja_eval.h"
#include "engine/model/formats/unicode.h"

namespace engine::model::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;
const std::set<std::string> kFunctions = {"range", "namespace", "dict", "raise_exception",
                                          "strftime_now"};

[[noreturn]] void Fail(const std::string& what) { throw TemplateError(what); }

const std::string& NeedString(const Value* v, const std::string& where) {
  if (v == nullptr || v->kind != Value::kString) Fail("'" + where + "' needs a string");
  return v->s;
}

int64_t NeedInt(const Value* v, const std::string& where) {
  if (v == nullptr || (v->kind != Value::kInt && v->kind != Value::kBool)) {
    Fail("'" + where + "' needs an integer");
  }
  return v->AsInt();
}

// Python's white space, or the code points given.
std::string Strip(const std::string& s, bool left, bool right, const Value* chars) {
  const std::vector<std::string> points = CodePoints(s);
  const bool some = chars != nullptr && chars->kind == Value::kString;
  std::set<std::string> set;
  if (some) {
    for (auto& c : CodePoints(chars->s)) set.insert(c);
  }
  const auto gone = [&](const std::string& c) {
    if (some) return set.count(c) > 0;
    size_t at = 0;
    if (Utf8Length(c, 0) <= 0) return false;
    const char32_t p = NextCodePoint(c, &at);
    return ClassOf(p) == kSpace || (p >= 0x1C && p <= 0x1F);
  };
  size_t from = 0, to = points.size();
  while (left && from < to && gone(points[from])) ++from;
  while (right && to > from && gone(points[to - 1])) --to;
  std::string out;
  for (size_t k = from; k < to; ++k) out += points[k];
  return out;
}

enum Case { kUpper, kLower, kTitle, kCapitalize };
std::string ChangeCase(const std::string& s, Case how) {
  const auto change = [](const std::string& text, bool upper) {
    icu::UnicodeString u = icu::UnicodeString::fromUTF8(text);
    upper ? u.toUpper(icu::Locale::getRoot()) : u.toLower(icu::Locale::getRoot());
    std::string out;
    u.toUTF8String(out);
    return out;
  };
  if (how == kUpper || how == kLower) return change(s, how == kUpper);
  std::string out;
  bool word = false;
  for (const std::string& c : CodePoints(s)) {
    out += change(c, !word);
    size_t at = 0;
    const bool letter = Utf8Length(c, 0) > 0 && ClassOf(NextCodePoint(c, &at)) == kLetter;
    word = how == kCapitalize || letter;
  }
  return out;
}

std::string Replace(Evaluator* ev, const std::string& s, const std::string& from,
                    const std::string& to, int64_t times) {
  std::string out;
  size_t at = 0;
  if (from.empty()) Fail("'replace' of an empty string is not supported");
  for (size_t found = s.find(from); found != std::string::npos && times != 0;
       found = s.find(from, at), --times) {
    out.append(s, at, found - at);
    out += to;
    ev->Charge(1 + to.size() / 256);
    if (out.size() > size_t{64} << 20) Fail("a string grows beyond 64 MiB");
    at = found + from.size();
  }
  return out + s.substr(at);
}

List Split(const std::string& s, const Value* separator, int64_t most) {
  List out;
  if (separator == nullptr || separator->kind != Value::kString) {
    std::string word;
    const std::vector<std::string> points = CodePoints(s);
    for (size_t k = 0; k < points.size(); ++k) {
      const bool space = Strip(points[k], true, true, nullptr).empty();
      if (!space && word.empty() && most >= 0 && static_cast<int64_t>(out.size()) == most) {
        std::string rest;
        for (; k < points.size(); ++k) rest += points[k];
        out.push_back(Value::String(Strip(rest, false, true, nullptr)));
        return out;
      }
      if (!space) word += points[k];
      if (space && !word.empty()) out.push_back(Value::String(std::exchange(word, {})));
    }
    if (!word.empty()) out.push_back(Value::String(word));
    return out;
  }
  if (separator->s.empty()) Fail("'split' needs a separator that is not empty");
  size_t at = 0;
  for (size_t found = s.find(separator->s); found != std::string::npos && most != 0;
       found = s.find(separator->s, at), --most) {
    out.push_back(Value::String(s.substr(at, found - at)));
    at = found + separator->s.size();
  }
  out.push_back(Value::String(s.substr(at)));
  return out;
}

std::string Join(Evaluator* ev, const List& items, const std::string& separator) {
  std::string out;
  for (size_t k = 0; k < items.size(); ++k) {
    const std::string text = Str(items[k]);
    ev->Charge(1 + text.size() / 256);
    if (out.size() + text.size() > size_t{64} << 20) Fail("a string grows beyond 64 MiB");
    if (k > 0) out += separator;
    out += text;
  }
  return out;
}

// s.startswith(prefix) where prefix is a string or a tuple of strings.
bool HasEnd(const std::string& s, const Value* v, bool front, const std::string& where) {
  if (v != nullptr && v->kind == Value::kList) {
    return std::any_of(v->list->begin(), v->list->end(),
                       [&](const Value& x) { return HasEnd(s, &x, front, where); });
  }
  const std::string& end = NeedString(v, where);
  return front ? s.starts_with(end) : s.ends_with(end);
}

int64_t Length(const Value& v) {
  switch (v.kind) {
    case Value::kUndefined:
      return 0;
    case Value::kString:
      return static_cast<int64_t>(CodePoints(v.s).size());
    case Value::kList:
      return static_cast<int64_t>(v.list->size());
    case Value::kDict:
      return static_cast<int64_t>(v.dict->size());
    default:
      Fail(std::string(v.KindName()) + " has no length");
  }
}

List Items(const Value& v) {
  List out;
  if (v.kind == Value::kUndefined) return out;
  if (v.kind != Value::kDict) Fail(std::string(v.KindName()) + " has no items");
  for (const auto& [key, x] : *v.dict) out.push_back(Value::OfList({Value::String(key), x}));
  return out;
}

bool StringMethod(Evaluator* ev, const std::string& s, const std::string& name,
                  const Arguments& args, Value* out) {
  const Value* first = args.Get(0, "");
  ev->Charge(s.size() / 64);
  if (name == "strip" || name == "lstrip" || name == "rstrip") {
    *out = Value::String(Strip(s, name != "rstrip", name != "lstrip", first));
  } else if (name == "split") {
    const Value* most = args.Get(1, "maxsplit");
    *out = Value::OfList(Split(s, args.Get(0, "sep"), most != nullptr ? NeedInt(most, name) : -1));
  } else if (name == "rsplit") {
    List parts = Split(s, args.Get(0, "sep"), -1);
    const Value* most = args.Get(1, "maxsplit");
    if (most != nullptr && first != nullptr && first->kind == Value::kString) {
      const int64_t keep = NeedInt(most, name);
      while (keep >= 0 && static_cast<int64_t>(parts.size()) > keep + 1) {
        parts[0].s += first->s + parts[1].s;
        parts.erase(parts.begin() + 1);
      }
    }
    *out = Value::OfList(std::move(parts));
  } else if (name == "splitlines") {
    List lines;
    size_t at = 0;
    for (size_t end = s.find('\n'); end != std::string::npos; end = s.find('\n', at)) {
      const size_t stop = end > at && s[end - 1] == '\r' ? end - 1 : end;
      lines.push_back(Value::String(s.substr(at, stop - at)));
      at = end + 1;
    }
    if (at < s.size()) lines.push_back(Value::String(s.substr(at)));
    *out = Value::OfList(std::move(lines));
  } else if (name == "startswith" || name == "endswith") {
    *out = Value::Bool(HasEnd(s, first, name == "startswith", name));
  } else if (name == "upper" || name == "lower" || name == "title" || name == "capitalize") {
    *out = Value::String(ChangeCase(s, name == "upper"   ? kUpper
                                       : name == "lower" ? kLower
                                       : name == "title" ? kTitle
                                                         : kCapitalize));
  } else if (name == "replace") {
    const Value* times = args.Get(2, "count");
    *out =
        Value::String(Replace(ev, s, NeedString(first, name), NeedString(args.Get(1, "new"), name),
                              times != nullptr ? NeedInt(times, name) : -1));
  } else if (name == "find" || name == "rfind") {
    const std::string& what = NeedString(first, name);
    const size_t at = name == "find" ? s.find(what) : s.rfind(what);
    *out = Value::Int(
        at == std::string::npos ? -1 : static_cast<int64_t>(CodePoints(s.substr(0, at)).size()));
  } else if (name == "count") {
    const std::string& what = NeedString(first, name);
    if (what.empty()) Fail("'count' of an empty string is not supported");
    int64_t n = 0;
    for (size_t at = s.find(what); at != std::string::npos; at = s.find(what, at + what.size())) {
      ++n;
    }
    *out = Value::Int(n);
  } else if (name == "removeprefix" || name == "removesuffix") {
    const std::string& end = NeedString(first, name);
    const bool front = name == "removeprefix";
    const bool has = front ? s.starts_with(end) : s.ends_with(end);
    *out = Value::String(!has    ? s
                         : front ? s.substr(end.size())
                                 : s.substr(0, s.size() - end.size()));
  } else if (name == "join") {
    if (first == nullptr) Fail("'join' needs a list");
    *out = Value::String(Join(ev, Iterate(*first), s));
  } else if (name == "isdigit" || name == "isspace" || name == "isalpha") {
    bool all = !s.empty();
    for (size_t at = 0; all && at < s.size() && Utf8Length(s, at) > 0;) {
      const char32_t c = NextCodePoint(s, &at);
      all = name == "isdigit"   ? IsNumeric(c)
            : name == "isspace" ? ClassOf(c) == kSpace
                                : ClassOf(c) == kLetter;
    }
    *out = Value::Bool(all);
  } else {
    return false;
  }
  return true;
}

// The items whose attribute, or who themselves, pass a test; or truth where no test is given.
List Select(Evaluator* ev, const Value& v, const Arguments& args, bool by_attribute, bool keep) {
  const size_t from = by_attribute ? 1 : 0;
  std::string attribute, test;
  if (by_attribute) attribute = NeedString(args.Get(0, ""), "selectattr");
  if (args.positional.size() > from) test = NeedString(&args.positional[from], "select");
  Arguments rest;
  for (size_t k = from + 1; k < args.positional.size(); ++k) {
    rest.positional.push_back(args.positional[k]);
  }
  List out;
  for (const Value& item : Iterate(v)) {
    ev->Charge(1);
    const Value x = by_attribute ? ev->Attribute(item, attribute) : item;
    if ((test.empty() ? x.Truthy() : ev->ApplyTest(test, x, rest)) == keep) out.push_back(item);
  }
  return out;
}

List Map(Evaluator* ev, const Value& v, const Arguments& args) {
  List out;
  const Value* attribute = nullptr;
  const Value* otherwise = nullptr;
  for (const auto& [name, x] : args.named) {
    if (name == "attribute") attribute = &x;
    if (name == "default") otherwise = &x;
  }
  Arguments rest;
  if (attribute == nullptr && args.positional.size() > 1) {
    rest.positional.assign(args.positional.begin() + 1, args.positional.end());
  }
  for (const Value& item : Iterate(v)) {
    ev->Charge(1);
    if (attribute == nullptr) {
      out.push_back(ev->ApplyFilter(NeedString(args.Get(0, ""), "map"), item, rest));
      continue;
    }
    Value x = ev->Attribute(item, NeedString(attribute, "map"));
    out.push_back(x.kind == Value::kUndefined && otherwise != nullptr ? *otherwise : x);
  }
  return out;
}

List Sorted(Evaluator* ev, const Value& v, const Arguments& args) {
  List items = Iterate(v);
  ev->Charge(items.size());
  const Value* reverse = args.Get(0, "reverse");
  const Value* attribute = args.Get(2, "attribute");
  const auto key = [&](const Value& x) {
    Value k = attribute != nullptr ? ev->Attribute(x, NeedString(attribute, "sort")) : x;
    if (k.kind == Value::kString) k.s = ChangeCase(k.s, kLower);
    return k;
  };
  const bool down = reverse != nullptr && reverse->Truthy();
  std::stable_sort(items.begin(), items.end(), [&](const Value& a, const Value& b) {
    return down ? Less(key(b), key(a)) : Less(key(a), key(b));
  });
  return items;
}

std::string Indent(const std::string& s, const Arguments& args) {
  const Value* width = args.Get(0, "width");
  const Value* first = args.Get(1, "first");
  const Value* blank = args.Get(2, "blank");
  int64_t n = 4;
  std::string pad;
  if (width != nullptr && width->kind == Value::kString) {
    pad = width->s;
  } else {
    if (width != nullptr) n = NeedInt(width, "indent");
    pad.assign(static_cast<size_t>(std::clamp<int64_t>(n, 0, 1000)), ' ');
  }
  std::string out;
  size_t at = 0;
  for (bool begin = true; at <= s.size(); begin = false) {
    const size_t end = std::min(s.find('\n', at), s.size());
    const bool empty = end == at && (blank == nullptr || !blank->Truthy());
    if (begin ? first != nullptr && first->Truthy() : !empty) out += pad;
    out.append(s, at, end - at);
    if (end == s.size()) break;
    out += '\n';
    at = end + 1;
  }
  return out;
}

Value ToNumber(const Value& v, const Arguments& args, bool integer) {
  const Value* otherwise = args.Get(0, "default");
  double d = 0;
  bool ok = v.IsNumber();
  if (ok) {
    if (integer && v.kind != Value::kFloat) return Value::Int(v.AsInt());
    d = v.AsDouble();
  } else if (v.kind == Value::kString) {
    char* end = nullptr;
    d = std::strtod(v.s.c_str(), &end);
    ok = end != v.s.c_str() && Strip(end, true, true, nullptr).empty();
  }
  if (!ok) return otherwise != nullptr ? *otherwise : integer ? Value::Int(0) : Value::Float(0);
  if (!integer) return Value::Float(d);
  if (!(std::abs(d) < 9e18)) Fail("a number is too large for an integer");
  return Value::Int(static_cast<int64_t>(d));
}

}  // namespace

bool IsFunction(const std::string& name) { return kFunctions.count(name) > 0; }

bool CallMethod(Evaluator* ev, const Value& object, const std::string& name, const Arguments& args,
                Value* out) {
  if (object.kind == Value::kString) return StringMethod(ev, object.s, name, args, out);
  if (object.kind != Value::kDict) return false;
  if (name == "items") {
    *out = Value::OfList(Items(object));
  } else if (name == "keys") {
    *out = Value::OfList(Iterate(object));
  } else if (name == "values") {
    List values;
    for (const auto& item : *object.dict) values.push_back(item.second);
    *out = Value::OfList(std::move(values));
  } else if (name == "get") {
    const Value* key = args.Get(0, "key");
    const Value* otherwise = args.Get(1, "default");
    const Value* found =
        key != nullptr && key->kind == Value::kString ? object.Member(key->s) : nullptr;
    *out = found != nullptr ? *found : otherwise != nullptr ? *otherwise : Value::None();
  } else {
    return false;
  }
  return true;
}

bool CallFunction(Evaluator* ev, const std::string& name, const Arguments& args, Value* out) {
  if (name == "range") {
    const size_t n = args.positional.size();
    if (n < 1 || n > 3) Fail("'range' takes 1 to 3 integers");
    const int64_t from = n == 1 ? 0 : NeedInt(&args.positional[0], name);
    const int64_t to = NeedInt(&args.positional[n == 1 ? 0 : 1], name);
    const int64_t step = n == 3 ? NeedInt(&args.positional[2], name) : 1;
    if (step == 0) Fail("the step of a range is 0");
    List list;
    for (int64_t k = from; step > 0 ? k < to : k > to;) {
      if (static_cast<int64_t>(list.size()) >= kMaxRange) {
        Fail("a range has more than " + std::to_string(kMaxRange) + " numbers");
      }
      ev->Charge(1);
      list.push_back(Value::Int(k));
      if (__builtin_add_overflow(k, step, &k)) break;
    }
    *out = Value::OfList(std::move(list));
  } else if (name == "namespace" || name == "dict") {
    Dict dict;
    if (const Value* from = args.positional.empty() ? nullptr : &args.positional[0]) {
      if (from->kind == Value::kDict) dict = *from->dict;
    }
    for (const auto& item : args.named) dict.push_back(item);
    *out = Value::OfDict(std::move(dict));
    if (name == "namespace") {
      out->kind = Value::kNamespace;
      ev->Charge(1);
      ev->Keep(out->dict);
    }
  } else if (name == "raise_exception") {
    const Value* message = args.Get(0, "message");
    Fail("the template refuses: " + (message != nullptr ? Str(*message) : std::string()));
  } else if (name == "strftime_now") {
    const std::string& format = NeedString(args.Get(0, "format"), name);
    const std::time_t now = std::time(nullptr);
    std::tm local = {};
    localtime_r(&now, &local);
    char text[256];
    *out =
        Value::String(std::string(text, std::strftime(text, sizeof text, format.c_str(), &local)));
  } else {
    return false;
  }
  return true;
}

bool CallFilter(Evaluator* ev, const std::string& name, const Value& v, const Arguments& args,
                Value* out) {
  if (v.kind == Value::kString) ev->Charge(v.s.size() / 64);
  const auto list = [out](List items) { *out = Value::OfList(std::move(items)); };
  const auto string = [out](std::string s) { *out = Value::String(std::move(s)); };
  if (name == "default" || name == "d") {
    const Value* otherwise = args.Get(0, "default_value");
    const Value* falsy = args.Get(1, "boolean");
    const bool use =
        v.kind == Value::kUndefined || (falsy != nullptr && falsy->Truthy() && !v.Truthy());
    *out = use ? (otherwise != nullptr ? *otherwise : Value::String("")) : v;
  } else if (name == "tojson") {
    const Value* indent = args.Get(0, "indent");
    const Value* sort = nullptr;
    for (const auto& [key, x] : args.named) {
      if (key == "sort_keys") sort = &x;
    }
    const int64_t width =
        indent != nullptr && indent->kind != Value::kNone ? NeedInt(indent, name) : -1;
    string(ToJson(v, static_cast<int>(std::clamp<int64_t>(width, -1, 64)),
                  sort != nullptr && sort->Truthy()));
  } else if (name == "trim") {
    string(Strip(Str(v), true, true, args.Get(0, "chars")));
  } else if (name == "length" || name == "count") {
    *out = Value::Int(Length(v));
  } else if (name == "join") {
    const Value* attribute = args.Get(1, "attribute");
    const Value* separator = args.Get(0, "d");
    List items = Iterate(v);
    if (attribute != nullptr) {
      for (Value& x : items) x = ev->Attribute(x, NeedString(attribute, name));
    }
    string(Join(ev, items, separator != nullptr ? NeedString(separator, name) : ""));
  } else if (name == "upper" || name == "lower" || name == "title" || name == "capitalize") {
    StringMethod(ev, Str(v), name, {}, out);
  } else if (name == "replace") {
    StringMethod(ev, Str(v), name, args, out);
  } else if (name == "string" || name == "safe" || name == "escape" || name == "e") {
    if (name[0] == 'e') Fail("the filter '" + name + "' is not supported");
    string(Str(v));
  } else if (name == "first" || name == "last") {
    const List items = Iterate(v);
    *out = items.empty() ? Value::Undefined(name) : name == "first" ? items.front() : items.back();
  } else if (name == "list") {
    list(Iterate(v));
  } else if (name == "items") {
    list(Items(v));
  } else if (name == "dictsort") {
    List items = Items(v);
    std::stable_sort(items.begin(), items.end(), [](const Value& a, const Value& b) {
      return ChangeCase((*a.list)[0].s, kLower) < ChangeCase((*b.list)[0].s, kLower);
    });
    list(std::move(items));
  } else if (name == "map") {
    list(Map(ev, v, args));
  } else if (name == "selectattr" || name == "rejectattr") {
    list(Select(ev, v, args, true, name == "selectattr"));
  } else if (name == "select" || name == "reject") {
    list(Select(ev, v, args, false, name == "select"));
  } else if (name == "sort") {
    list(Sorted(ev, v, args));
  } else if (name == "reverse") {
    List items = Iterate(v);
    std::reverse(items.begin(), items.end());
    list(std::move(items));
    if (v.kind == Value::kString) string(Join(ev, *out->list, ""));
  } else if (name == "unique") {
    List kept;
    for (const Value& x : Iterate(v)) {
      ev->Charge(kept.size());
      if (std::none_of(kept.begin(), kept.end(), [&](const Value& y) { return Equal(x, y); })) {
        kept.push_back(x);
      }
    }
    list(std::move(kept));
  } else if (name == "max" || name == "min") {
    const List items = Iterate(v);
    *out = items.empty()   ? Value::Undefined(name)
           : name == "max" ? *std::max_element(items.begin(), items.end(), Less)
                           : *std::min_element(items.begin(), items.end(), Less);
  } else if (name == "int" || name == "float") {
    *out = ToNumber(v, args, name == "int");
  } else if (name == "abs") {
    if (!v.IsNumber()) Fail("'abs' needs a number");
    if (v.kind != Value::kFloat && v.AsInt() == INT64_MIN) Fail("integer overflow in 'abs'");
    *out = v.kind == Value::kFloat ? Value::Float(std::abs(v.f)) : Value::Int(std::abs(v.AsInt()));
  } else if (name == "indent") {
    string(Indent(Str(v), args));
  } else {
    return false;
  }
  return true;
}

bool CallTest(Evaluator*, const std::string& name, const Value& v, const Arguments& args,
              bool* out) {
  const Value* first = args.Get(0, "other");
  const auto other = [&]() -> const Value& {
    if (first == nullptr) Fail("the test '" + name + "' needs a value");
    return *first;
  };
  const bool number = v.kind == Value::kInt || v.kind == Value::kFloat || v.kind == Value::kBool;
  const bool many = v.kind == Value::kString || v.kind == Value::kList || v.kind == Value::kDict;
  if (name == "defined")
    *out = v.kind != Value::kUndefined;
  else if (name == "undefined")
    *out = v.kind == Value::kUndefined;
  else if (name == "none")
    *out = v.kind == Value::kNone;
  else if (name == "string")
    *out = v.kind == Value::kString;
  else if (name == "number")
    *out = number;
  else if (name == "integer")
    *out = v.kind == Value::kInt;
  else if (name == "float")
    *out = v.kind == Value::kFloat;
  else if (name == "boolean")
    *out = v.kind == Value::kBool;
  else if (name == "true")
    *out = v.kind == Value::kBool && v.b;
  else if (name == "false")
    *out = v.kind == Value::kBool && !v.b;
  else if (name == "mapping")
    *out = v.kind == Value::kDict;
  else if (name == "iterable" || name == "sequence")
    *out = many || v.kind == Value::kUndefined;
  else if (name == "callable")
    *out = v.kind == Value::kCallable;
  else if (name == "equalto" || name == "eq")
    *out = Equal(v, other());
  else if (name == "ne")
    *out = !Equal(v, other());
  else if (name == "in")
    *out = Contains(other(), v);
  else if (name == "lt" || name == "lessthan")
    *out = Less(v, other());
  else if (name == "gt" || name == "greaterthan")
    *out = Less(other(), v);
  else if (name == "le")
    *out = !Less(other(), v);
  else if (name == "ge")
    *out = !Less(v, other());
  else if (name == "odd" || name == "even")
    *out = (NeedInt(&v, name) % 2 == 0) == (name == "even");
  else if (name == "divisibleby") {
    const int64_t by = NeedInt(first, name);
    if (by == 0) Fail("division by zero");
    *out = by == -1 || NeedInt(&v, name) % by == 0;
  } else {
    return false;
  }
  return true;
}

}  // namespace engine::model::jinja
