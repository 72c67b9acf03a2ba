// The shape of a text before its meaning: fields, values and blocks of protobuf text with the bytes
// they stand on. It is what lets every error name the very character, and what lets reading go on
// past a field that makes no sense. Only broken syntax ends an outline.
#ifndef ENGINE_GRAPH_OUTLINE_H_
#define ENGINE_GRAPH_OUTLINE_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/graph/source.h"

namespace engine::graph {

class Reporter;
struct OutlineBlock;

struct OutlineValue {
  enum class Type { kText, kNumber, kWord, kBlock };
  Type type = Type::kWord;
  Span span;           // the whole token or block
  std::string text;    // texts: without quotes and escapes; numbers and words: as written
  bool plain = false;  // a text in one piece without escapes: its bytes stand in the file as such
  std::shared_ptr<OutlineBlock> block;

  // Bytes [offset, offset + count) of a text, or the whole token when it is not plain.
  Span Part(size_t offset, size_t count) const;
};

struct OutlineField {
  std::string name;
  Span name_span;
  Span span;                         // from its name to its end
  std::vector<OutlineValue> values;  // one, or those of a [list]
  bool bad = false;                  // reported and left out of what is parsed
};

struct OutlineBlock {
  Span span;
  std::vector<OutlineField> fields;

  // The n-th value of a field, in the order of the file; null if there is none.
  const OutlineValue* Find(std::string_view name, size_t n = 0) const;
  const OutlineField* FindField(std::string_view name) const;  // the first good one
  bool damaged() const;                                        // has a bad field of its own
};

inline constexpr int kMaxDepth = 64;

// False after an error of syntax, which is reported.
bool ParseOutline(const SourceFile& file, OutlineBlock* root, Reporter* reporter);

}  // namespace engine::graph

#endif  // ENGINE_GRAPH_OUTLINE_H_
