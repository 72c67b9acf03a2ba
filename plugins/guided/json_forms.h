// The parts of JSON texts: punctuation with the white space that is allowed there, strings, and
// values of which nothing is asked.
//
// White space is what compact and pretty writers put: at most a space behind ':', a space or a line
// break with at most 16 spaces behind ',', such a line break behind an opening bracket and before a
// closing one. So a text never goes on without saying anything.
#ifndef PLUGINS_GUIDED_JSON_FORMS_H_
#define PLUGINS_GUIDED_JSON_FORMS_H_

#include <optional>
#include <string_view>

#include "ast.h"

namespace engine::guided {

class JsonForms {
 public:
  explicit JsonForms(Grammar* grammar) : grammar_(*grammar) {}

  Grammar* grammar() { return &grammar_; }

  Node Colon();
  Node Comma();  // with what may follow it
  Node Break();  // nothing, or a line break

  // A string whose content is what `content` says of code points.
  Node String(Node content);
  // What strings hold when nothing is asked of them. U+0000, which much software cannot hold, is
  // not generated.
  static const CodeSet& Characters();
  Node AnyString();
  // A member's key and the colon.
  Node Key(std::string_view utf8);

  Node AnyValue();
  Node AnyObject();
  Node AnyList();

 private:
  Node Container(char open, Node item, char close);

  Grammar& grammar_;
  std::optional<Node> comma_, break_, any_string_, any_value_;
  std::optional<Rule> any_object_, any_list_;
};

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_JSON_FORMS_H_
