#include "engine/model/formats/jinja_eval.h"

#include <algorithm>
#include <cmath>

namespace engine::model::jinja {
namespace {

constexpr size_t kMaxSteps = 4'000'000;
constexpr size_t kMaxOutput = size_t{64} << 20;
constexpr int kMaxDepth = 120;  // of macro calls

[[noreturn]] void Fail(const std::string& what) { throw TemplateError(what); }

[[noreturn]] void FailOperator(const std::string& op, const Value& a, const Value& b) {
  const auto name = [](const Value& v) {
    return v.kind == Value::kUndefined && !v.s.empty() ? "'" + v.s + "', which is undefined"
                                                       : std::string(v.KindName());
  };
  Fail("operator '" + op + "' does not work with " + name(a) + " and " + name(b));
}

Value Arithmetic(const std::string& op, const Value& a, const Value& b) {
  if (op == "/" || op == "//" || op == "%") {
    if (b.AsDouble() == 0) Fail("division by zero");
  }
  if (op == "/") return Value::Float(a.AsDouble() / b.AsDouble());
  if (a.kind == Value::kFloat || b.kind == Value::kFloat || (op == "**" && b.AsInt() < 0)) {
    const double x = a.AsDouble(), y = b.AsDouble();
    if (op == "+") return Value::Float(x + y);
    if (op == "-") return Value::Float(x - y);
    if (op == "*") return Value::Float(x * y);
    if (op == "//") return Value::Float(std::floor(x / y));
    if (op == "%") return Value::Float(x - y * std::floor(x / y));
    return Value::Float(std::pow(x, y));
  }
  const int64_t x = a.AsInt(), y = b.AsInt();
  int64_t r = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(x, y, &r);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(x, y, &r);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(x, y, &r);
  } else if (op == "**") {
    r = 1;
    if (y > 64 && (x > 1 || x < -1)) overflow = true;
    const int64_t times = x == -1 ? y % 2 : x == 0 || x == 1 ? std::min<int64_t>(y, 1) : y;
    for (int64_t k = 0; k < times && !overflow; ++k) overflow = __builtin_mul_overflow(r, x, &r);
  } else if (x == INT64_MIN && y == -1) {
    overflow = true;
  } else {  // floor division and its remainder
    const int64_t q = x / y - ((x % y != 0 && (x < 0) != (y < 0)) ? 1 : 0);
    r = op == "//" ? q : x - q * y;
  }
  if (overflow) Fail("integer overflow in '" + op + "'");
  return Value::Int(r);
}

}  // namespace

const Value* Arguments::Get(size_t k, const char* name) const {
  if (k < positional.size()) return &positional[k];
  for (const auto& [key, v] : named) {
    if (key == name) return &v;
  }
  return nullptr;
}

Evaluator::Evaluator(std::map<std::string, Value> globals) {
  scopes_.push_back(std::move(globals));
}

Evaluator::~Evaluator() {
  for (const auto& dict : namespaces_) dict->clear();
}

std::string Evaluator::Render(const Body& body) {
  std::string out;
  Run(body, &out);
  return out;
}

void Evaluator::Charge(size_t steps) {
  steps_ += steps;
  if (steps_ > kMaxSteps) {
    Fail("the template took more than " + std::to_string(kMaxSteps) + " steps");
  }
}

void Evaluator::Put(std::string* out, const std::string& text) {
  Charge(text.size() / 256);
  if (out->size() + text.size() > kMaxOutput) {
    Fail("the text is larger than " + std::to_string(kMaxOutput) + " bytes");
  }
  *out += text;
}

Evaluator::Flow Evaluator::Run(const Body& body, std::string* out) {
  for (const auto& s : body) {
    Flow flow = kNormal;
    try {
      flow = Run(*s, out);
    } catch (const TemplateError& e) {
      // The innermost statement names the line.
      if (std::string_view(e.what()).substr(0, 5) == "line ") throw;
      throw TemplateError("line " + std::to_string(s->line) + ": " + e.what());
    }
    if (flow != kNormal) return flow;
  }
  return kNormal;
}

Evaluator::Flow Evaluator::Run(const Stmt& s, std::string* out) {
  Charge(1);
  switch (s.kind) {
    case Stmt::kText:
      Put(out, s.text);
      break;
    case Stmt::kOutput:
      Put(out, Str(Eval(*s.a)));
      break;
    case Stmt::kIf:
      return Run(Eval(*s.a).Truthy() ? s.body : s.otherwise, out);
    case Stmt::kFor:
      return RunFor(s, out);
    case Stmt::kSet:
      Set(s);
      break;
    case Stmt::kSetBlock: {
      std::string text;
      scopes_.emplace_back();
      Run(s.body, &text);
      scopes_.pop_back();
      Value v = Value::String(std::move(text));
      if (s.a != nullptr) {
        scopes_.emplace_back()[""] = v;  // the name at the bottom of the chain of filters
        v = Eval(*s.a);
        scopes_.pop_back();
      }
      if (s.names.empty()) {
        Put(out, Str(v));
      } else {
        Assign(s.names, v);
      }
      break;
    }
    case Stmt::kMacro: {
      Value v;
      v.kind = Value::kCallable;
      v.s = s.text;
      v.macro = std::make_shared<Macro>(Macro{&s});
      Assign({s.text}, v);
      break;
    }
    case Stmt::kBreak:
      return kBreak;
    case Stmt::kContinue:
      return kContinue;
    case Stmt::kGroup:
      return Run(s.body, out);
  }
  return kNormal;
}

Evaluator::Flow Evaluator::RunFor(const Stmt& s, std::string* out) {
  List items = Iterate(Eval(*s.a));
  Charge(items.size());
  if (s.b != nullptr) {
    List kept;
    scopes_.emplace_back();
    for (Value& v : items) {
      Assign(s.names, v);
      if (Eval(*s.b).Truthy()) kept.push_back(std::move(v));
    }
    scopes_.pop_back();
    items = std::move(kept);
  }
  if (items.empty()) return Run(s.otherwise, out);
  const auto count = static_cast<int64_t>(items.size());
  for (int64_t k = 0; k < count; ++k) {
    const auto item = [&](int64_t at) {
      return at < 0 || at >= count ? Value::Undefined("loop item") : items[static_cast<size_t>(at)];
    };
    Scope& scope = scopes_.emplace_back();
    scope["loop"] = Value::OfDict({{"index", Value::Int(k + 1)},
                                   {"index0", Value::Int(k)},
                                   {"revindex", Value::Int(count - k)},
                                   {"revindex0", Value::Int(count - k - 1)},
                                   {"first", Value::Bool(k == 0)},
                                   {"last", Value::Bool(k + 1 == count)},
                                   {"length", Value::Int(count)},
                                   {"previtem", item(k - 1)},
                                   {"nextitem", item(k + 1)}});
    Assign(s.names, item(k));
    const Flow flow = Run(s.body, out);
    scopes_.pop_back();
    if (flow == kBreak) break;
  }
  return kNormal;
}

void Evaluator::Set(const Stmt& s) {
  const Value v = Eval(*s.a);
  if (s.text.empty()) return Assign(s.names, v);
  const Value object = Lookup(s.text);
  if (object.kind != Value::kNamespace) {
    Fail("'" + s.text + "' is " + object.KindName() +
         "; only attributes of a namespace can be set");
  }
  for (auto& [key, old] : *object.dict) {
    if (key == s.names[0]) {
      old = v;
      return;
    }
  }
  object.dict->emplace_back(s.names[0], v);
}

void Evaluator::Assign(const std::vector<std::string>& names, const Value& v) {
  if (names.size() == 1) {
    scopes_.back()[names[0]] = v;
    return;
  }
  const List items = Iterate(v);
  if (items.size() != names.size()) {
    Fail(std::to_string(items.size()) + " values cannot be given to " +
         std::to_string(names.size()) + " names");
  }
  for (size_t k = 0; k < names.size(); ++k) scopes_.back()[names[k]] = items[k];
}

Value Evaluator::Lookup(const std::string& name) const {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto it = scope->find(name);
    if (it != scope->end()) return it->second;
  }
  if (IsFunction(name)) {
    Value v;
    v.kind = Value::kCallable;
    v.s = name;
    return v;
  }
  return Value::Undefined(name);
}

Value Evaluator::Eval(const Expr& e) {
  Charge(1);
  switch (e.kind) {
    case Expr::kLiteral:
      return e.value;
    case Expr::kName:
      return Lookup(e.text);
    case Expr::kList: {
      List list;
      for (const auto& a : e.args) list.push_back(Eval(*a));
      return Value::OfList(std::move(list));
    }
    case Expr::kDict: {
      Dict dict;
      for (size_t k = 0; k < e.args.size(); k += 2) {
        const Value key = Eval(*e.args[k]);
        if (key.kind != Value::kString) Fail("a key of a dictionary must be a string");
        std::erase_if(dict, [&](const auto& item) { return item.first == key.s; });
        dict.emplace_back(key.s, Eval(*e.args[k + 1]));
      }
      return Value::OfDict(std::move(dict));
    }
    case Expr::kAttribute:
      return Attribute(Eval(*e.args[0]), e.text);
    case Expr::kIndex:
      return EvalIndex(e);
    case Expr::kSlice:
      return EvalSlice(e);
    case Expr::kCall:
      return EvalCall(e);
    case Expr::kFilter: {
      // `x | default(y)` must not fail on an undefined x; arguments come after.
      const Value v = Eval(*e.args[0]);
      return ApplyFilter(e.text, v, EvalArguments(e, 1));
    }
    case Expr::kTest: {
      const Value v = Eval(*e.args[0]);
      return Value::Bool(ApplyTest(e.text, v, EvalArguments(e, 1)) != e.negated);
    }
    case Expr::kNot:
      return Value::Bool(!Eval(*e.args[0]).Truthy());
    case Expr::kNegate:
    case Expr::kPlus: {
      const Value v = Eval(*e.args[0]);
      if (!v.IsNumber()) Fail(std::string("a sign does not work with ") + v.KindName());
      if (e.kind == Expr::kPlus) return v;
      return Arithmetic("-", Value::Int(0), v);
    }
    case Expr::kBinary:
      return EvalBinary(e);
    case Expr::kCompare:
      return EvalCompare(e);
    case Expr::kCondition:
      if (Eval(*e.args[1]).Truthy()) return Eval(*e.args[0]);
      return e.args[2] != nullptr ? Eval(*e.args[2]) : Value::Undefined("");
  }
  return Value();
}

Value Evaluator::EvalBinary(const Expr& e) {
  const std::string& op = e.text;
  Value a = Eval(*e.args[0]);
  if (op == "and") return a.Truthy() ? Eval(*e.args[1]) : a;
  if (op == "or") return a.Truthy() ? a : Eval(*e.args[1]);
  const Value b = Eval(*e.args[1]);
  if (op == "~") {
    std::string text = Str(a);
    Put(&text, Str(b));
    return Value::String(std::move(text));
  }
  if (a.IsNumber() && b.IsNumber()) return Arithmetic(op, a, b);
  if (op == "+" && a.kind == Value::kString && b.kind == Value::kString) {
    Charge(a.s.size() / 256);
    Put(&a.s, b.s);
    return a;
  }
  if (op == "+" && a.kind == Value::kList && b.kind == Value::kList) {
    Charge(a.list->size() + b.list->size());
    List list = *a.list;
    list.insert(list.end(), b.list->begin(), b.list->end());
    return Value::OfList(std::move(list));
  }
  if (op == "*" && a.kind == Value::kString && b.kind == Value::kInt) {
    std::string text;
    for (int64_t k = 0; k < b.i; ++k) {
      Charge(1);
      Put(&text, a.s);
    }
    return Value::String(std::move(text));
  }
  FailOperator(op, a, b);
}

Value Evaluator::EvalCompare(const Expr& e) {
  Value left = Eval(*e.args[0]);
  for (size_t k = 0; k < e.ops.size(); ++k) {
    const std::string& op = e.ops[k];
    Value right = Eval(*e.args[k + 1]);
    bool holds = false;
    if (op == "==") holds = Equal(left, right);
    if (op == "!=") holds = !Equal(left, right);
    if (op == "<") holds = Less(left, right);
    if (op == "<=") holds = Less(left, right) || Equal(left, right);
    if (op == ">") holds = Less(right, left);
    if (op == ">=") holds = Less(right, left) || Equal(left, right);
    if (op == "in") holds = Contains(right, left);
    if (op == "not in") holds = !Contains(right, left);
    if (!holds) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

Value Evaluator::Attribute(const Value& object, const std::string& name) {
  if (object.kind == Value::kUndefined) {
    Fail("'" + object.s + "' is undefined, so it has no '" + name + "'");
  }
  const Value* member = object.Member(name);
  return member != nullptr ? *member : Value::Undefined(name);
}

Value Evaluator::EvalIndex(const Expr& e) {
  const Value object = Eval(*e.args[0]), index = Eval(*e.args[1]);
  if (object.kind == Value::kDict || object.kind == Value::kUndefined ||
      object.kind == Value::kNamespace) {
    if (index.kind != Value::kString) {
      if (object.kind == Value::kUndefined) Attribute(object, Str(index));
      return Value::Undefined(Str(index));
    }
    return Attribute(object, index.s);
  }
  if (index.kind != Value::kInt && index.kind != Value::kBool) {
    return Value::Undefined(Str(index));
  }
  List points;  // of a string; a list is indexed where it is
  if (object.kind == Value::kString) points = Iterate(object);
  Charge(points.size() / 16);
  const List& items = object.kind == Value::kList ? *object.list : points;
  const auto count = static_cast<int64_t>(items.size());
  const int64_t at = index.AsInt() < 0 ? index.AsInt() + count : index.AsInt();
  return at < 0 || at >= count ? Value::Undefined(Str(index)) : items[static_cast<size_t>(at)];
}

Value Evaluator::EvalSlice(const Expr& e) {
  const Value object = Eval(*e.args[0]);
  if (object.kind != Value::kString && object.kind != Value::kList) {
    Fail(std::string(object.KindName()) + " cannot be sliced");
  }
  const List items = Iterate(object);
  Charge(items.size());
  const auto count = static_cast<int64_t>(items.size());
  const auto bound = [&](size_t k, int64_t otherwise) {
    if (e.args[k] == nullptr) return otherwise;
    const Value v = Eval(*e.args[k]);
    if (v.kind == Value::kNone) return otherwise;
    if (v.kind != Value::kInt) Fail("a bound of a slice must be an integer");
    return v.i;
  };
  const int64_t step = bound(3, 1);
  if (step == 0) Fail("the step of a slice is 0");
  const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? count : count - 1;
  const auto clamp = [&](int64_t v) { return std::clamp(v < 0 ? v + count : v, low, high); };
  const int64_t from = e.args[1] == nullptr ? (step > 0 ? low : high) : clamp(bound(1, 0));
  const int64_t to = e.args[2] == nullptr ? (step > 0 ? high : low) : clamp(bound(2, count));
  List out;
  const int64_t distance = step > 0 ? to - from : from - to;
  const int64_t stride = step > 0 ? step : step == INT64_MIN ? INT64_MAX : -step;
  for (int64_t k = 0; k<distance; k = k> INT64_MAX - stride ? INT64_MAX : k + stride) {
    out.push_back(items[static_cast<size_t>(step > 0 ? from + k : from - k)]);
  }
  if (object.kind == Value::kList) return Value::OfList(std::move(out));
  std::string text;
  for (const Value& v : out) text += v.s;
  return Value::String(std::move(text));
}

Arguments Evaluator::EvalArguments(const Expr& e, size_t from) {
  Arguments args;
  for (size_t k = from; k < e.args.size(); ++k) args.positional.push_back(Eval(*e.args[k]));
  for (const auto& [name, a] : e.named) args.named.emplace_back(name, Eval(*a));
  return args;
}

Value Evaluator::EvalCall(const Expr& e) {
  const Expr& callee = *e.args[0];
  Value target;
  if (callee.kind == Expr::kAttribute) {
    const Value object = Eval(*callee.args[0]);
    const Arguments args = EvalArguments(e, 1);
    Value out;
    if (object.kind == Value::kUndefined) Attribute(object, callee.text);
    if (CallMethod(this, object, callee.text, args, &out)) return out;
    target = Attribute(object, callee.text);
    if (target.kind != Value::kCallable) {
      Fail(std::string(object.KindName()) + " has no method '" + callee.text + "'");
    }
  } else {
    target = Eval(callee);
  }
  if (target.kind != Value::kCallable) {
    Fail(target.kind == Value::kUndefined ? "'" + target.s + "' is undefined and cannot be called"
                                          : std::string(target.KindName()) + " cannot be called");
  }
  const Arguments args = EvalArguments(e, 1);
  if (target.macro != nullptr) return CallMacro(*target.macro, args);
  Value out;
  CallFunction(this, target.s, args, &out);
  return out;
}

Value Evaluator::CallMacro(const Macro& macro, const Arguments& args) {
  const Stmt& m = *macro.definition;
  if (++depth_ > kMaxDepth) Fail("macro '" + m.text + "' calls too deeply");
  if (args.positional.size() > m.names.size()) {
    Fail("macro '" + m.text + "' takes at most " + std::to_string(m.names.size()) + " arguments");
  }
  for (const auto& [name, v] : args.named) {
    if (std::count(m.names.begin(), m.names.end(), name) == 0) {
      Fail("macro '" + m.text + "' has no argument '" + name + "'");
    }
  }
  // A macro sees the template's variables and its own, not those of its caller.
  std::vector<Scope> callers(std::make_move_iterator(scopes_.begin() + 1),
                             std::make_move_iterator(scopes_.end()));
  scopes_.resize(1);
  scopes_.emplace_back();
  for (size_t k = 0; k < m.names.size(); ++k) {
    const Value* v = args.Get(k, m.names[k].c_str());
    scopes_.back()[m.names[k]] = v != nullptr               ? *v
                                 : m.defaults[k] != nullptr ? Eval(*m.defaults[k])
                                                            : Value::Undefined(m.names[k]);
  }
  std::string out;
  Run(m.body, &out);
  scopes_.resize(1);
  scopes_.insert(scopes_.end(), std::make_move_iterator(callers.begin()),
                 std::make_move_iterator(callers.end()));
  --depth_;
  return Value::String(std::move(out));
}

Value Evaluator::ApplyFilter(const std::string& name, const Value& v, const Arguments& args) {
  Value out;
  if (!CallFilter(this, name, v, args, &out)) Fail("the filter '" + name + "' is not supported");
  return out;
}

bool Evaluator::ApplyTest(const std::string& name, const Value& v, const Arguments& args) {
  bool out = false;
  if (!CallTest(this, name, v, args, &out)) Fail("the test '" + name + "' is not supported");
  return out;
}

}  // namespace engine::model::jinja
