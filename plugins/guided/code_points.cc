// Sets of Unicode code points, and UTF-8.
#include "code_points.h"

#include <algorithm>

namespace engine::guided {
namespace {

constexpr uint32_t kFirstSurrogate = 0xd800, kLastSurrogate = 0xdfff;

}  // namespace

void CodeSet::Normalize() {
  std::vector<CodeRange> parts;
  for (const CodeRange& r : ranges_) {
    const uint32_t high = std::min(r.high, kLastCodePoint);
    if (r.low < kFirstSurrogate) parts.push_back({r.low, std::min(high, kFirstSurrogate - 1)});
    if (high > kLastSurrogate) parts.push_back({std::max(r.low, kLastSurrogate + 1), high});
  }
  std::erase_if(parts, [](const CodeRange& r) { return r.low > r.high; });
  std::sort(parts.begin(), parts.end(),
            [](const CodeRange& a, const CodeRange& b) { return a.low < b.low; });
  ranges_.clear();
  for (const CodeRange& r : parts) {
    if (!ranges_.empty() && r.low <= ranges_.back().high + 1) {
      ranges_.back().high = std::max(ranges_.back().high, r.high);
    } else {
      ranges_.push_back(r);
    }
  }
}

bool CodeSet::Has(uint32_t code) const {
  const auto it = std::upper_bound(ranges_.begin(), ranges_.end(), code,
                                   [](uint32_t c, const CodeRange& r) { return c < r.low; });
  return it != ranges_.begin() && code <= std::prev(it)->high;
}

CodeSet CodeSet::And(const CodeSet& other) const {
  CodeSet both;
  auto a = ranges_.begin();
  auto b = other.ranges_.begin();
  while (a != ranges_.end() && b != other.ranges_.end()) {
    const CodeRange r = {std::max(a->low, b->low), std::min(a->high, b->high)};
    if (r.low <= r.high) both.ranges_.push_back(r);
    (a->high < b->high ? a : b)++;
  }
  return both;
}

CodeSet CodeSet::Or(const CodeSet& other) const {
  CodeSet either = *this;
  either.ranges_.insert(either.ranges_.end(), other.ranges_.begin(), other.ranges_.end());
  either.Normalize();
  return either;
}

CodeSet CodeSet::Not() const {
  CodeSet rest;
  uint32_t next = 0;
  for (const CodeRange& r : ranges_) {
    if (r.low > next) rest.ranges_.push_back({next, r.low - 1});
    next = r.high + 1;
  }
  if (next <= kLastCodePoint) rest.ranges_.push_back({next, kLastCodePoint});
  rest.Normalize();
  return rest;
}

bool TakeCodePoint(std::string_view* text, uint32_t* code) {
  if (text->empty()) return false;
  const auto at = [&](size_t i) { return static_cast<uint8_t>((*text)[i]); };
  const uint8_t first = at(0);
  size_t size = 1;
  uint32_t value = first;
  if (first >= 0x80) {
    if (first < 0xc2 || first > 0xf4) return false;
    size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (text->size() < size) return false;
    value = first & (0x7fu >> size);
    for (size_t i = 1; i < size; ++i) {
      if ((at(i) & 0xc0) != 0x80) return false;
      value = value << 6 | (at(i) & 0x3f);
    }
    constexpr uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (value < least[size] || value > kLastCodePoint) return false;
    if (value >= kFirstSurrogate && value <= kLastSurrogate) return false;
  }
  *code = value;
  text->remove_prefix(size);
  return true;
}

bool IsUtf8(std::string_view text) {
  uint32_t code;
  while (!text.empty()) {
    if (!TakeCodePoint(&text, &code)) return false;
  }
  return true;
}

void AppendUtf8(uint32_t code, std::string* out) {
  const auto put = [&](uint32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3f));
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  }
}

}  // namespace engine::guided
