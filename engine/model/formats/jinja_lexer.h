// Tokens of a template: text, and what stands between {{ }} and {% %}.
#ifndef ENGINE_MODEL_FORMATS_JINJA_LEXER_H_
#define ENGINE_MODEL_FORMATS_JINJA_LEXER_H_

#include <string>
#include <vector>

namespace engine::model::jinja {

struct Token {
  enum Kind {
    kText,
    kName,
    kString,
    kInt,
    kFloat,
    kOperator,
    kOpenOutput,
    kCloseOutput,
    kOpenBlock,
    kCloseBlock,
    kEnd
  };
  Kind kind = kEnd;
  std::string text;
  int line = 1;
};

// Throws TemplateError with the line.
std::vector<Token> Tokenize(const std::string& source);

}  // namespace engine::model::jinja

#endif  // ENGINE_MODEL_FORMATS_JINJA_LEXER_H_
