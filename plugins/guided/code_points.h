// Sets of Unicode code points, and UTF-8.
// Invariant of a set: its ranges are sorted, apart from one another, and hold no surrogate, which
// UTF-8 cannot spell.
#ifndef PLUGINS_GUIDED_CODE_POINTS_H_
#define PLUGINS_GUIDED_CODE_POINTS_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace engine::guided {

constexpr uint32_t kLastCodePoint = 0x10ffff;

struct CodeRange {
  uint32_t low = 0, high = 0;  // both within
  friend bool operator==(const CodeRange&, const CodeRange&) = default;
};

class CodeSet {
 public:
  CodeSet() = default;
  CodeSet(std::initializer_list<CodeRange> ranges) : ranges_(ranges) { Normalize(); }
  explicit CodeSet(std::vector<CodeRange> ranges) : ranges_(std::move(ranges)) { Normalize(); }
  static CodeSet All() { return CodeSet{{0, kLastCodePoint}}; }
  static CodeSet Of(uint32_t code) { return CodeSet{{code, code}}; }

  const std::vector<CodeRange>& ranges() const { return ranges_; }
  bool empty() const { return ranges_.empty(); }
  bool Has(uint32_t code) const;
  CodeSet And(const CodeSet& other) const;
  CodeSet Or(const CodeSet& other) const;
  CodeSet Not() const;
  friend bool operator==(const CodeSet&, const CodeSet&) = default;

 private:
  void Normalize();
  std::vector<CodeRange> ranges_;
};

// Takes a code point off the front of `text`: false for what is not UTF-8 (overlong forms,
// surrogates and what lies above U+10FFFF among it) or for an empty text.
bool TakeCodePoint(std::string_view* text, uint32_t* code);
bool IsUtf8(std::string_view text);
void AppendUtf8(uint32_t code, std::string* out);

}  // namespace engine::guided

#endif  // PLUGINS_GUIDED_CODE_POINTS_H_
