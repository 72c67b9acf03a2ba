#include "engine/graph/diagnostic.h"

#include <algorithm>
#include <tuple>

namespace engine::graph {
namespace {

int CountCodePoints(std::string_view text) {
  return static_cast<int>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

template <typename Place>
void Fill(const Span& span, Place* place) {
  if (!span) return;
  place->file = span.file->name();
  span.file->Locate(span.begin, &place->line, &place->column);
  place->source_line = std::string(span.file->Line(place->line));
  std::string_view text = std::string_view(span.file->text()).substr(span.begin, span.length);
  text = text.substr(0, text.find('\n'));
  place->length = std::max(1, CountCodePoints(text));
}

// The source line and the carets under it. Long lines (a whole file may be one) are cut to a
// window around the caret.
void AppendExcerpt(const std::string& source, int line, int column, int length, std::string* out) {
  constexpr int kWindow = 160;
  std::vector<std::string_view> points;
  for (size_t i = 0; i < source.size();) {
    size_t next = i + 1;
    while (next < source.size() && (source[next] & 0xC0) == 0x80) ++next;
    points.push_back(std::string_view(source).substr(i, next - i));
    i = next;
  }
  const int size = static_cast<int>(points.size());
  const int first = column > kWindow - 40 ? column - 60 : 0;
  const int last = std::min(size, first + kWindow);
  std::string number = std::to_string(line);
  std::string shown = first > 0 ? "..." : "", under = first > 0 ? "   " : "";
  for (int i = first; i < last; ++i) {
    const bool control = points[i].size() == 1 && points[i][0] != '\t' &&
                         (static_cast<unsigned char>(points[i][0]) < 32 || points[i][0] == 127);
    shown += control ? std::string_view("?") : points[i];
    if (i < column - 1) under += points[i] == "\t" ? '\t' : ' ';
  }
  if (last < size) shown += "...";
  int carets = std::max(1, std::min(length, last - (column - 1)));
  *out += " " + number + " | " + shown + "\n";
  *out += std::string(number.size() + 2, ' ') + "| " + under + "^" +
          std::string(static_cast<size_t>(carets - 1), '~') + "\n";
}

}  // namespace

Diagnostic& Diagnostic::Hint(std::string text) {
  if (!text.empty()) notes.push_back({std::move(text), "", 0, 0, 0, ""});
  return *this;
}

Diagnostic& Diagnostic::At(const Span& span, std::string text) {
  Note note;
  note.message = std::move(text);
  Fill(span, &note);
  notes.push_back(std::move(note));
  return *this;
}

Diagnostic& Reporter::Add(Severity severity, const Span& span, std::string message) {
  Diagnostic d;
  d.severity = severity;
  d.message = std::move(message);
  Fill(span, &d);
  if (span) d.order = span.file->order();
  all_.push_back(std::move(d));
  return all_.back();
}

Diagnostic& Reporter::Error(const Span& span, std::string message) {
  ++errors_;
  return Add(Severity::kError, span, std::move(message));
}

Diagnostic& Reporter::Warning(const Span& span, std::string message) {
  return Add(Severity::kWarning, span, std::move(message));
}

std::vector<Diagnostic> Reporter::Take() {
  std::vector<Diagnostic> result(all_.begin(), all_.end());
  all_.clear();
  std::stable_sort(result.begin(), result.end(), [](const Diagnostic& a, const Diagnostic& b) {
    return std::tie(a.order, a.line, a.column) < std::tie(b.order, b.line, b.column);
  });
  auto same = [](const Diagnostic& a, const Diagnostic& b) {
    return std::tie(a.order, a.line, a.column, a.message) ==
           std::tie(b.order, b.line, b.column, b.message);
  };
  result.erase(std::unique(result.begin(), result.end(), same), result.end());
  return result;
}

bool HasErrors(const std::vector<Diagnostic>& diagnostics) {
  return std::any_of(diagnostics.begin(), diagnostics.end(),
                     [](const Diagnostic& d) { return d.severity == Severity::kError; });
}

std::string Render(const Diagnostic& d) {
  std::string out;
  if (!d.file.empty()) {
    out += d.file + ":";
    if (d.line > 0) out += std::to_string(d.line) + ":" + std::to_string(d.column) + ":";
    out += " ";
  }
  out += d.severity == Severity::kError ? "error: " : "warning: ";
  out += d.message + "\n";
  std::string bar;
  if (d.line > 0) {
    AppendExcerpt(d.source_line, d.line, d.column, d.length, &out);
    bar = std::string(std::to_string(d.line).size() + 2, ' ');
  } else {
    bar = "  ";
  }
  for (const Note& note : d.notes) {
    if (note.line == 0) {
      out += bar + "= " + note.message + "\n";
      continue;
    }
    out += note.file + ":" + std::to_string(note.line) + ":" + std::to_string(note.column) +
           ": note: " + note.message + "\n";
    AppendExcerpt(note.source_line, note.line, note.column, note.length, &out);
  }
  return out;
}

std::string Render(const std::vector<Diagnostic>& diagnostics) {
  std::string out;
  for (const Diagnostic& d : diagnostics) out += Render(d);
  return out;
}

}  // namespace engine::graph
