// The texts that errors point into, and places in them. A SourceFile owns one text (a pipeline
// file, or the arguments of the command line, one a line) and never changes once made, so that a
// Span stays true however much the graph is rewritten.
#ifndef ENGINE_GRAPH_SOURCE_H_
#define ENGINE_GRAPH_SOURCE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace engine::graph {

class SourceFile {
 public:
  SourceFile(std::string name, std::string text, uint32_t order);

  const std::string& name() const { return name_; }
  const std::string& text() const { return text_; }
  // Errors are sorted by it: the main file is 0.
  uint32_t order() const { return order_; }

  // Line and column of a byte, both from 1; columns count code points.
  void Locate(uint32_t offset, int* line, int* column) const;
  // Without its line end; empty when there is no such line.
  std::string_view Line(int line) const;
  // The byte at which the protobuf tokenizer says (line, column), both from 0: it counts bytes,
  // and a tab to the next multiple of 8.
  uint32_t OffsetOfToken(int line, int column) const;

 private:
  std::string name_, text_;
  uint32_t order_;
  std::vector<uint32_t> starts_;  // of each line
};

// Bytes of a source; without a file it is nowhere.
struct Span {
  const SourceFile* file = nullptr;
  uint32_t begin = 0;
  uint32_t length = 0;

  explicit operator bool() const { return file != nullptr; }
  Span Part(size_t offset, size_t count) const {
    return {file, begin + static_cast<uint32_t>(offset), static_cast<uint32_t>(count)};
  }
};

// "chat.pbtxt:14", for texts that name another line.
std::string ShortPlace(const Span& span);

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_SOURCE_H_
