#include "engine/graph/source.h"

#include <algorithm>

namespace engine::graph {

SourceFile::SourceFile(std::string name, std::string text, uint32_t order)
    : name_(std::move(name)), text_(std::move(text)), order_(order), starts_{0} {
  for (uint32_t i = 0; i < text_.size(); ++i) {
    if (text_[i] == '\n') starts_.push_back(i + 1);
  }
}

void SourceFile::Locate(uint32_t offset, int* line, int* column) const {
  offset = std::min<uint32_t>(offset, static_cast<uint32_t>(text_.size()));
  auto it = std::upper_bound(starts_.begin(), starts_.end(), offset) - 1;
  *line = static_cast<int>(it - starts_.begin()) + 1;
  *column = 1;
  for (uint32_t i = *it; i < offset; ++i) *column += (text_[i] & 0xC0) != 0x80;
}

std::string_view SourceFile::Line(int line) const {
  if (line < 1 || static_cast<size_t>(line) > starts_.size()) return {};
  std::string_view rest = std::string_view(text_).substr(starts_[line - 1]);
  rest = rest.substr(0, rest.find('\n'));
  if (!rest.empty() && rest.back() == '\r') rest.remove_suffix(1);
  return rest;
}

uint32_t SourceFile::OffsetOfToken(int line, int column) const {
  if (line < 0) return 0;
  if (static_cast<size_t>(line) >= starts_.size()) return static_cast<uint32_t>(text_.size());
  uint32_t at = starts_[line];
  for (int c = 0; c < column && at < text_.size() && text_[at] != '\n'; ++at) {
    c += text_[at] == '\t' ? 8 - c % 8 : 1;
  }
  return at;
}

std::string ShortPlace(const Span& span) {
  if (!span) return "?";
  int line, column;
  span.file->Locate(span.begin, &line, &column);
  return span.file->name() + ":" + std::to_string(line);
}

}  // namespace engine::graph
