// The parts of JSON texts.
#include "json_forms.h"

#include "numbers.h"

namespace engine::guided {
namespace {

constexpr uint32_t kIndent = 16;

}  // namespace

Node JsonForms::Colon() {
  return grammar_.Sequence({grammar_.Text(":"), grammar_.Optional(grammar_.Text(" "))});
}

Node JsonForms::Break() {
  if (!break_) {
    const Rule rule = grammar_.NewRule("a line break");
    grammar_.Define(rule,
                    grammar_.Optional(grammar_.Sequence(
                        {grammar_.Text("\n"), grammar_.Repeat(grammar_.Text(" "), 0, kIndent)})));
    break_ = grammar_.Call(rule);
  }
  return *break_;
}

Node JsonForms::Comma() {
  if (!comma_) {
    const Rule rule = grammar_.NewRule("a comma");
    grammar_.Define(
        rule, grammar_.Sequence(
                  {grammar_.Text(","),
                   grammar_.Optional(grammar_.Either(
                       {grammar_.Text(" "),
                        grammar_.Sequence({grammar_.Text("\n"),
                                           grammar_.Repeat(grammar_.Text(" "), 0, kIndent)})}))}));
    comma_ = grammar_.Call(rule);
  }
  return *comma_;
}

Node JsonForms::String(Node content) {
  return grammar_.Sequence({grammar_.Text("\""), grammar_.Quoted(content), grammar_.Text("\"")});
}

const CodeSet& JsonForms::Characters() {
  static const CodeSet characters{{1, kLastCodePoint}};
  return characters;
}

Node JsonForms::AnyString() {
  if (!any_string_) {
    any_string_ = String(grammar_.Repeat(grammar_.Class(Characters()), 0, kInfinite));
  }
  return *any_string_;
}

Node JsonForms::Key(std::string_view utf8) {
  return grammar_.Sequence({String(grammar_.Text(utf8)), Colon()});
}

Node JsonForms::Container(char open, Node item, char close) {
  Graph graph;
  const uint32_t begin = graph.Add(), first = graph.Add(), next = graph.Add(), after = graph.Add(),
                 end = graph.Add(true);
  const Node shut = grammar_.Text(std::string_view(&close, 1));
  graph.Join(begin, grammar_.Sequence({grammar_.Text(std::string_view(&open, 1)), Break()}), first);
  graph.Join(first, shut, end);
  graph.Join(first, grammar_.Empty(), next);
  graph.Join(next, item, after);
  graph.Join(after, Comma(), next);
  graph.Join(after, grammar_.Sequence({Break(), shut}), end);
  return grammar_.Of(std::move(graph));
}

Node JsonForms::AnyValue() {
  if (!any_value_) {
    any_object_ = grammar_.NewRule("any object");
    any_list_ = grammar_.NewRule("any list");
    any_value_ =
        grammar_.Either({grammar_.Call(*any_object_), grammar_.Call(*any_list_), AnyString(),
                         Number(&grammar_, {}), grammar_.Texts({"true", "false", "null"})});
    grammar_.Define(*any_object_,
                    Container('{', grammar_.Sequence({AnyString(), Colon(), *any_value_}), '}'));
    grammar_.Define(*any_list_, Container('[', *any_value_, ']'));
  }
  return *any_value_;
}

Node JsonForms::AnyObject() {
  AnyValue();
  return grammar_.Call(*any_object_);
}

Node JsonForms::AnyList() {
  AnyValue();
  return grammar_.Call(*any_list_);
}

}  // namespace engine::guided
