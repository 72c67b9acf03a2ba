// What is wrong with a pipeline, and where: plain data that can be kept, sorted and printed after
// the texts are gone. A Reporter gathers the diagnostics of one load; it never stops the work, as
// all errors of a file are shown at once.
#ifndef ENGINE_GRAPH_DIAGNOSTIC_H_
#define ENGINE_GRAPH_DIAGNOSTIC_H_

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "engine/graph/source.h"

namespace engine::graph {

enum class Severity { kError, kWarning };

// A line under the main one. With a file it shows a place of its own, else it is a hint.
struct Note {
  std::string message;
  std::string file;
  int line = 0, column = 0, length = 0;
  std::string source_line;
};

struct Diagnostic {
  Severity severity = Severity::kError;
  std::string message;
  std::string file;
  int line = 0, column = 0, length = 1;  // from 1; length in code points, within the line
  std::string source_line;
  std::vector<Note> notes;
  uint32_t order = 0;  // of the file, for sorting

  Diagnostic& Hint(std::string text);  // an empty text adds nothing
  Diagnostic& At(const Span& span, std::string text);
};

class Reporter {
 public:
  // The reference stays valid as long as the reporter does.
  Diagnostic& Error(const Span& span, std::string message);
  Diagnostic& Warning(const Span& span, std::string message);
  bool has_errors() const { return errors_ > 0; }
  size_t error_count() const { return errors_; }
  // Sorted by place; equal ones once.
  std::vector<Diagnostic> Take();

 private:
  Diagnostic& Add(Severity severity, const Span& span, std::string message);
  std::deque<Diagnostic> all_;
  size_t errors_ = 0;
};

bool HasErrors(const std::vector<Diagnostic>& diagnostics);

// The form that compilers use, with the line, a caret and the notes; ends with a newline.
std::string Render(const Diagnostic& diagnostic);
std::string Render(const std::vector<Diagnostic>& diagnostics);

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_DIAGNOSTIC_H_
