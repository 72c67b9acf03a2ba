// Runs a parsed template. One Evaluator is one rendering; it counts steps, depth and bytes, so
// that no template runs for ever or fills the memory.
#ifndef ENGINE_MODEL_FORMATS_JINJA_EVAL_H_
#define ENGINE_MODEL_FORMATS_JINJA_EVAL_H_

#include <map>
#include <string>
#include <vector>

#include "engine/model/formats/jinja_parser.h"
#include "engine/model/formats/jinja_value.h"

namespace engine::model::jinja {

struct Macro {
  const Stmt* definition = nullptr;
};

// Arguments of a call, filter or test.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;

  // The k-th positional or the named argument, or null.
  const Value* Get(size_t k, const char* name) const;
};

class Evaluator {
 public:
  // `globals` are the template's variables. Throws TemplateError, as do all functions here.
  explicit Evaluator(std::map<std::string, Value> globals);
  ~Evaluator();
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;
  std::string Render(const Body& body);

  // For filters and tests that take the name of another.
  Value ApplyFilter(const std::string& name, const Value& v, const Arguments& args);
  bool ApplyTest(const std::string& name, const Value& v, const Arguments& args);
  Value Attribute(const Value& object, const std::string& name);
  // Counts work; throws when there was too much.
  void Charge(size_t steps);
  // A namespace can come to hold itself; those kept here are emptied at the end.
  void Keep(std::shared_ptr<Dict> namespace_dict) {
    namespaces_.push_back(std::move(namespace_dict));
  }

 private:
  enum Flow { kNormal, kBreak, kContinue };
  using Scope = std::map<std::string, Value>;

  Flow Run(const Body& body, std::string* out);
  Flow Run(const Stmt& s, std::string* out);
  Flow RunFor(const Stmt& s, std::string* out);
  void Set(const Stmt& s);
  void Assign(const std::vector<std::string>& names, const Value& v);
  void Put(std::string* out, const std::string& text);

  Value Eval(const Expr& e);
  Value EvalBinary(const Expr& e);
  Value EvalCompare(const Expr& e);
  Value EvalIndex(const Expr& e);
  Value EvalSlice(const Expr& e);
  Value EvalCall(const Expr& e);
  Value CallMacro(const Macro& macro, const Arguments& args);
  Arguments EvalArguments(const Expr& e, size_t from);
  Value Lookup(const std::string& name) const;

  std::vector<Scope> scopes_;
  std::vector<std::shared_ptr<Dict>> namespaces_;
  size_t steps_ = 0;
  int depth_ = 0;
};

// Implemented in jinja_builtins.cc. Each answers false when there is nothing of that name.
bool CallMethod(Evaluator* ev, const Value& object, const std::string& name, const Arguments& args,
                Value* out);
bool CallFunction(Evaluator* ev, const std::string& name, const Arguments& args, Value* out);
bool CallFilter(Evaluator* ev, const std::string& name, const Value& v, const Arguments& args,
                Value* out);
bool CallTest(Evaluator* ev, const std::string& name, const Value& v, const Arguments& args,
              bool* out);
bool IsFunction(const std::string& name);

}  // namespace engine::model::jinja

#endif  // ENGINE_MODEL_FORMATS_JINJA_EVAL_H_
