#include "engine/model/formats/jinja_parser.h"

#include <algorithm>
#include <initializer_list>
#include <set>

#include "engine/model/formats/jinja_lexer.h"

namespace engine::model::jinja {
namespace {

constexpr int kMaxDepth = 100;   // of nested blocks, brackets and operators
constexpr int kMaxChain = 1000;  // operators in one tag

class Parser {
 public:
  explicit Parser(const std::string& text) : tokens_(Tokenize(text)) {}

  Body Run() {
    Body body = Statements({});
    return body;
  }

 private:
  struct Deeper {
    explicit Deeper(Parser* p) : parser(p) {
      if (++p->depth_ > kMaxDepth) p->Fail("the template is nested too deeply");
    }
    ~Deeper() { --parser->depth_; }
    Parser* parser;
  };

  // A chain of operators makes a tree as deep as it is long, which is walked by recursion.
  void Grow() {
    if (++chain_ > kMaxChain) Fail("an expression has too many operators");
  }

  const Token& Peek(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  Token Next() {
    Token t = Peek();
    if (at_ + 1 < tokens_.size()) ++at_;
    return t;
  }
  [[noreturn]] void Fail(const std::string& what) const {
    throw TemplateError("line " + std::to_string(Peek().line) + ": " + what);
  }
  bool IsOp(const char* op) const { return Peek().kind == Token::kOperator && Peek().text == op; }
  bool IsWord(const char* w) const { return Peek().kind == Token::kName && Peek().text == w; }
  bool SkipOp(const char* op) {
    if (!IsOp(op)) return false;
    Next();
    return true;
  }
  bool SkipWord(const char* w) {
    if (!IsWord(w)) return false;
    Next();
    return true;
  }
  void NeedOp(const char* op) {
    if (!SkipOp(op)) Fail("'" + std::string(op) + "' is expected before '" + Peek().text + "'");
  }
  std::string NeedName() {
    if (Peek().kind != Token::kName) Fail("a name is expected before '" + Peek().text + "'");
    return Next().text;
  }
  void NeedClose() {
    if (Peek().kind != Token::kCloseBlock) Fail("'%}' is expected before '" + Peek().text + "'");
    Next();
  }

  ExprPtr New(Expr::Kind kind, std::string text = "") const {
    auto e = std::make_unique<Expr>();
    e->kind = kind;
    e->text = std::move(text);
    e->line = Peek().line;
    return e;
  }
  ExprPtr New(Expr::Kind kind, std::string text, ExprPtr a, ExprPtr b = nullptr) const {
    ExprPtr e = New(kind, std::move(text));
    e->args.push_back(std::move(a));
    if (b != nullptr) e->args.push_back(std::move(b));
    return e;
  }
  ExprPtr Literal(Value v) const {
    ExprPtr e = New(Expr::kLiteral);
    e->value = std::move(v);
    return e;
  }

  // Up to a block whose first word is one of `ends`, which is left unread; or to the end.
  Body Statements(std::initializer_list<const char*> ends) {
    const Deeper deeper(this);
    Body body;
    while (true) {
      const Token& t = Peek();
      if (t.kind == Token::kEnd) {
        if (ends.size() > 0) Fail("'{% " + std::string(*(ends.end() - 1)) + " %}' is missing");
        return body;
      }
      auto s = std::make_unique<Stmt>();
      s->line = t.line;
      chain_ = 0;
      if (t.kind == Token::kText) {
        s->text = Next().text;
      } else if (t.kind == Token::kOpenOutput) {
        Next();
        s->kind = Stmt::kOutput;
        s->a = Tuple();
        if (Peek().kind != Token::kCloseOutput) {
          Fail("'}}' is expected before '" + Peek().text + "'");
        }
        Next();
      } else {
        const Token& word = Peek(1);
        for (const char* end : ends) {
          if (word.kind == Token::kName && word.text == end) return body;
        }
        Next();
        Block(s.get());
      }
      body.push_back(std::move(s));
    }
  }

  void End(const char* word) {
    Next();  // the opening tag
    if (!SkipWord(word)) Fail("'" + std::string(word) + "' is expected");
    NeedClose();
  }

  void Block(Stmt* s) {
    const std::string word = NeedName();
    if (word == "if") return If(s);
    if (word == "for") return For(s);
    if (word == "set") return Set(s);
    if (word == "macro") return MacroBlock(s);
    if (word == "generation") {  // marks the assistant's text; it does not change what is rendered
      s->kind = Stmt::kGroup;
      NeedClose();
      s->body = Statements({"endgeneration"});
      return End("endgeneration");
    }
    if (word == "filter") {  // the same as a block set that is printed at once
      s->kind = Stmt::kSetBlock;
      s->a = Filters(New(Expr::kName, ""), NeedName());
      NeedClose();
      s->body = Statements({"endfilter"});
      return End("endfilter");
    }
    if ((word == "break" || word == "continue") && loops_ > 0) {
      s->kind = word == "break" ? Stmt::kBreak : Stmt::kContinue;
      return NeedClose();
    }
    Fail("the statement '" + word +
         "' is not supported here; if, for, set, macro, filter, raw, "
         "generation, and break and continue within for are");
  }

  void If(Stmt* s) {
    const Deeper deeper(this);
    s->kind = Stmt::kIf;
    s->a = Tuple();
    NeedClose();
    s->body = Statements({"elif", "else", "endif"});
    if (Peek(1).text == "elif") {
      Next();
      Next();
      auto other = std::make_unique<Stmt>();
      other->line = Peek().line;
      If(other.get());
      s->otherwise.push_back(std::move(other));
      return;
    }
    if (Peek(1).text == "else") {
      End("else");
      s->otherwise = Statements({"endif"});
    }
    End("endif");
  }

  void For(Stmt* s) {
    s->kind = Stmt::kFor;
    const bool bracket = SkipOp("(");
    do s->names.push_back(NeedName());
    while (SkipOp(","));
    if (bracket) NeedOp(")");
    if (!SkipWord("in")) Fail("'in' is expected before '" + Peek().text + "'");
    s->a = Or();
    if (SkipOp(",")) Fail("a loop over several expressions is not supported; put them in [ ]");
    if (SkipWord("if")) s->b = Expression();
    if (IsWord("recursive")) Fail("a recursive loop is not supported; use a macro");
    NeedClose();
    ++loops_;
    s->body = Statements({"else", "endfor"});
    --loops_;
    if (Peek(1).text == "else") {
      End("else");
      s->otherwise = Statements({"endfor"});
    }
    End("endfor");
  }

  void Set(Stmt* s) {
    s->kind = Stmt::kSet;
    s->names.push_back(NeedName());
    if (SkipOp(".")) {
      s->text = s->names[0];
      s->names[0] = NeedName();
    }
    while (s->text.empty() && SkipOp(",")) s->names.push_back(NeedName());
    if (SkipOp("=")) {
      s->a = Tuple();
      return NeedClose();
    }
    if (s->names.size() > 1 || !s->text.empty()) Fail("'=' is expected");
    s->kind = Stmt::kSetBlock;
    if (SkipOp("|")) s->a = Filters(New(Expr::kName, ""), NeedName());
    NeedClose();
    s->body = Statements({"endset"});
    End("endset");
  }

  void MacroBlock(Stmt* s) {
    s->kind = Stmt::kMacro;
    s->text = NeedName();
    NeedOp("(");
    while (!IsOp(")")) {
      s->names.push_back(NeedName());
      s->defaults.push_back(SkipOp("=") ? Expression() : nullptr);
      if (!IsOp(")")) NeedOp(",");
    }
    NeedOp(")");
    NeedClose();
    const int loops = std::exchange(loops_, 0);
    s->body = Statements({"endmacro"});
    loops_ = loops;
    End("endmacro");
  }

  ExprPtr Tuple() {
    ExprPtr first = Expression();
    if (!IsOp(",")) return first;
    ExprPtr list = New(Expr::kList, "", std::move(first));
    while (SkipOp(",")) list->args.push_back(Expression());
    return list;
  }

  ExprPtr Expression() {
    const Deeper deeper(this);
    ExprPtr e = Or();
    while (SkipWord("if")) {
      Grow();
      ExprPtr c = New(Expr::kCondition, "", std::move(e), Or());
      c->args.push_back(SkipWord("else") ? Expression() : nullptr);
      e = std::move(c);
    }
    return e;
  }

  ExprPtr Or() {
    ExprPtr e = And();
    while (SkipWord("or")) {
      Grow();
      e = New(Expr::kBinary, "or", std::move(e), And());
    }
    return e;
  }
  ExprPtr And() {
    ExprPtr e = Not();
    while (SkipWord("and")) {
      Grow();
      e = New(Expr::kBinary, "and", std::move(e), Not());
    }
    return e;
  }
  ExprPtr Not() {
    const Deeper deeper(this);
    if (SkipWord("not")) return New(Expr::kNot, "", Not());
    return Compare();
  }

  ExprPtr Compare() {
    ExprPtr e = Sum();
    ExprPtr chain;
    while (true) {
      std::string op;
      for (const char* o : {"==", "!=", "<", "<=", ">", ">="}) {
        if (IsOp(o)) op = o;
      }
      if (IsWord("in")) op = "in";
      if (IsWord("not") && Peek(1).kind == Token::kName && Peek(1).text == "in") {
        Next();
        op = "not in";
      }
      if (op.empty()) return chain != nullptr ? std::move(chain) : std::move(e);
      Next();
      if (chain == nullptr) chain = New(Expr::kCompare, "", std::move(e));
      chain->ops.push_back(op);
      chain->args.push_back(Sum());
    }
  }

  using Rule = ExprPtr (Parser::*)();
  ExprPtr LeftToRight(std::initializer_list<const char*> ops, Rule inner) {
    ExprPtr e = (this->*inner)();
    while (true) {
      const char* found = nullptr;
      for (const char* op : ops) {
        if (IsOp(op)) found = op;
      }
      if (found == nullptr) return e;
      Next();
      Grow();
      e = New(Expr::kBinary, found, std::move(e), (this->*inner)());
    }
  }
  ExprPtr Sum() { return LeftToRight({"+", "-"}, &Parser::Concat); }
  ExprPtr Concat() { return LeftToRight({"~"}, &Parser::Product); }
  ExprPtr Product() { return LeftToRight({"*", "/", "//", "%"}, &Parser::Power); }
  ExprPtr Power() { return LeftToRight({"**"}, &Parser::UnaryWithFilter); }
  ExprPtr UnaryWithFilter() { return Unary(true); }

  ExprPtr Unary(bool with_filter) {
    const Deeper deeper(this);
    ExprPtr e;
    if (SkipOp("-")) {
      e = New(Expr::kNegate, "", Unary(false));
    } else if (SkipOp("+")) {
      e = New(Expr::kPlus, "", Unary(false));
    } else {
      e = Primary();
    }
    e = Postfix(std::move(e));
    while (with_filter) {
      if (SkipOp("|")) {
        e = Filters(std::move(e), NeedName());
      } else if (SkipWord("is")) {
        e = Test(std::move(e));
      } else if (IsOp("(")) {
        e = Call(std::move(e));
      } else {
        break;
      }
    }
    return e;
  }

  ExprPtr Primary() {
    const Token t = Next();
    switch (t.kind) {
      case Token::kInt:
        return Literal(Value::Int(std::stoll(t.text)));
      case Token::kFloat:
        return Literal(Value::Float(std::stod(t.text)));
      case Token::kString: {
        std::string text = t.text;
        while (Peek().kind == Token::kString) text += Next().text;
        return Literal(Value::String(text));
      }
      case Token::kName:
        if (t.text == "true" || t.text == "True") return Literal(Value::Bool(true));
        if (t.text == "false" || t.text == "False") return Literal(Value::Bool(false));
        if (t.text == "none" || t.text == "None") return Literal(Value::None());
        return New(Expr::kName, t.text);
      case Token::kOperator:
        if (t.text == "(") {
          if (SkipOp(")")) return New(Expr::kList);
          ExprPtr first = Expression();
          if (IsOp(",")) {
            first = New(Expr::kList, "", std::move(first));
            while (SkipOp(",") && !IsOp(")")) first->args.push_back(Expression());
          }
          NeedOp(")");
          return first;
        }
        if (t.text == "[") return Sequence("]", Expr::kList);
        if (t.text == "{") return Sequence("}", Expr::kDict);
        break;
      default:
        break;
    }
    Fail("an expression is expected" + (t.text.empty() ? "" : " instead of '" + t.text + "'"));
  }

  ExprPtr Sequence(const char* close, Expr::Kind kind) {
    ExprPtr e = New(kind);
    while (!IsOp(close)) {
      e->args.push_back(Expression());
      if (kind == Expr::kDict) {
        NeedOp(":");
        e->args.push_back(Expression());
      }
      if (!IsOp(close)) NeedOp(",");
    }
    NeedOp(close);
    return e;
  }

  ExprPtr Postfix(ExprPtr e) {
    while (true) {
      if (SkipOp(".")) {
        if (Peek().kind == Token::kInt) {
          ExprPtr index = Literal(Value::Int(std::stoll(Next().text)));
          e = New(Expr::kIndex, "", std::move(e), std::move(index));
        } else {
          std::string name = NeedName();
          e = New(Expr::kAttribute, std::move(name), std::move(e));
        }
      } else if (SkipOp("[")) {
        e = Subscript(std::move(e));
      } else if (IsOp("(")) {
        e = Call(std::move(e));
      } else {
        return e;
      }
      Grow();
    }
  }

  ExprPtr Subscript(ExprPtr object) {
    ExprPtr parts[3];
    int colons = 0;
    while (!IsOp("]")) {
      if (SkipOp(":")) {
        if (++colons > 2) Fail("a slice has at most two ':'");
      } else if (parts[colons] == nullptr) {
        parts[colons] = Expression();
      } else {
        Fail("']' is expected before '" + Peek().text + "'");
      }
    }
    NeedOp("]");
    if (colons == 0) {
      if (parts[0] == nullptr) Fail("a subscript is empty");
      return New(Expr::kIndex, "", std::move(object), std::move(parts[0]));
    }
    ExprPtr slice = New(Expr::kSlice, "", std::move(object));
    for (ExprPtr& p : parts) slice->args.push_back(std::move(p));
    return slice;
  }

  void Arguments(Expr* e) {
    NeedOp("(");
    while (!IsOp(")")) {
      if (Peek().kind == Token::kName && Peek(1).kind == Token::kOperator && Peek(1).text == "=") {
        std::string name = Next().text;
        Next();
        e->named.emplace_back(std::move(name), Expression());
      } else {
        if (IsOp("*") || IsOp("**")) Fail("'*' arguments are not supported");
        e->args.push_back(Expression());
      }
      if (!IsOp(")")) NeedOp(",");
    }
    NeedOp(")");
  }

  ExprPtr Call(ExprPtr callee) {
    ExprPtr e = New(Expr::kCall, "", std::move(callee));
    Arguments(e.get());
    return e;
  }

  ExprPtr Filters(ExprPtr e, const std::string& name) {
    e = New(Expr::kFilter, name, std::move(e));
    if (IsOp("(")) Arguments(e.get());
    Grow();
    return e;
  }

  ExprPtr Test(ExprPtr e) {
    const bool negated = SkipWord("not");
    e = New(Expr::kTest, NeedName(), std::move(e));
    e->negated = negated;
    static const std::set<std::string> kStop = {"else", "or", "and", "is", "if", "in", "not"};
    const Token& t = Peek();
    if (IsOp("(")) {
      Arguments(e.get());
    } else if (t.kind == Token::kString || t.kind == Token::kInt || t.kind == Token::kFloat ||
               IsOp("[") || IsOp("{") || (t.kind == Token::kName && kStop.count(t.text) == 0)) {
      e->args.push_back(Postfix(Primary()));
    }
    return e;
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0, loops_ = 0, chain_ = 0;
};

}  // namespace

Body Parse(const std::string& text) { return Parser(text).Run(); }

}  // namespace engine::model::jinja
