// Template text to a tree. White space is handled as Jinja does with trim_blocks and
// lstrip_blocks, which is how transformers sets it.
#ifndef ENGINE_MODEL_FORMATS_JINJA_PARSER_H_
#define ENGINE_MODEL_FORMATS_JINJA_PARSER_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/model/formats/jinja_value.h"

namespace engine::model::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Expr {
  enum Kind {
    kLiteral,    // value
    kName,       // text
    kList,       // args
    kDict,       // args: key, value, key, value …
    kAttribute,  // args[0].text
    kIndex,      // args[0][args[1]]
    kSlice,      // args[0][args[1]:args[2]:args[3]]; an absent one is null
    kCall,       // args[0](args[1…], named…)
    kFilter,     // args[0] | text(args[1…], named…)
    kTest,       // args[0] is text(args[1…]); negated: is not
    kNot,
    kNegate,
    kPlus,
    kBinary,     // text is the operator
    kCompare,    // args[0] ops[0] args[1] ops[1] args[2] …
    kCondition,  // args[0] if args[1] else args[2] (may be null)
  };
  Kind kind = kLiteral;
  std::string text;
  bool negated = false;
  Value value;
  std::vector<ExprPtr> args;
  std::vector<std::pair<std::string, ExprPtr>> named;
  std::vector<std::string> ops;
  int line = 0;
};

struct Stmt;
using Body = std::vector<std::unique_ptr<Stmt>>;

struct Stmt {
  enum Kind {
    kText,      // text
    kOutput,    // a
    kIf,        // a, body, otherwise
    kFor,       // names in a if b: body; otherwise
    kSet,       // names = a; or text.names[0] = a
    kSetBlock,  // names[0] = what body gives (through filter a, if any: a kFilter chain on kName
                // "")
    kMacro,     // text(names, with defaults from the end in `defaults`): body
    kBreak,
    kContinue,
    kGroup,  // body, as it is
  };
  Kind kind = kText;
  std::string text;
  ExprPtr a, b;
  std::vector<std::string> names;
  std::vector<ExprPtr> defaults;  // one for each name, null where there is none
  Body body, otherwise;
  int line = 0;
};

// Throws TemplateError with the line.
Body Parse(const std::string& text);

}  // namespace engine::model::jinja

#endif  // ENGINE_MODEL_FORMATS_JINJA_PARSER_H_
