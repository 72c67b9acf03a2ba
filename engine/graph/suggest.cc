#include "engine/graph/suggest.h"

#include <algorithm>

namespace engine::graph {
namespace {

char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

int EditDistance(std::string_view a, std::string_view b, int limit) {
  const int n = static_cast<int>(a.size()), m = static_cast<int>(b.size());
  if (std::abs(n - m) > limit) return limit + 1;
  std::vector<int> two(m + 1), one(m + 1), now(m + 1);
  for (int j = 0; j <= m; ++j) one[j] = j;
  for (int i = 1; i <= n; ++i) {
    now[0] = i;
    int least = now[0];
    for (int j = 1; j <= m; ++j) {
      const bool same = Lower(a[i - 1]) == Lower(b[j - 1]);
      now[j] = std::min({one[j] + 1, now[j - 1] + 1, one[j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && Lower(a[i - 1]) == Lower(b[j - 2]) &&
          Lower(a[i - 2]) == Lower(b[j - 1])) {
        now[j] = std::min(now[j], two[j - 2] + 1);
      }
      least = std::min(least, now[j]);
    }
    if (least > limit) return limit + 1;
    two.swap(one);
    one.swap(now);
  }
  return std::min(one[m], limit + 1);
}

std::string Nearest(std::string_view written, const std::vector<std::string>& right) {
  if (written.size() > 200) return "";
  const int limit = written.size() <= 3 ? 1 : written.size() <= 6 ? 2 : 3;
  int best = limit + 1;
  std::string result;
  for (const std::string& candidate : right) {
    int distance = EditDistance(written, candidate, limit);
    // A word written short ("batch" for "batcher") is near too, but never nearer than a slip.
    if (distance > limit && written.size() >= 3 && candidate.size() > written.size() &&
        candidate.compare(0, written.size(), written) == 0) {
      distance = limit;
    }
    // Of the same length, and all letters changed, is not near.
    if (distance >= static_cast<int>(written.size())) continue;
    if (distance < best) {
      best = distance;
      result = candidate;
    }
  }
  return result;
}

std::string DidYouMean(std::string_view written, const std::vector<std::string>& right,
                       std::string_view what) {
  if (std::string near = Nearest(written, right); !near.empty()) {
    return "did you mean " + Quote(near) + "?";
  }
  if (right.empty()) return "";
  std::string text = "known " + std::string(what) + ": ";
  constexpr size_t kShown = 12;
  for (size_t i = 0; i < std::min(kShown, right.size()); ++i) {
    if (i > 0) text += ", ";
    text += right[i];
  }
  if (right.size() > kShown) text += ", and " + std::to_string(right.size() - kShown) + " more";
  return text;
}

std::string Quote(std::string_view text) {
  constexpr size_t kLongest = 120;
  std::string out = "\"";
  for (char c : text.substr(0, kLongest)) {
    out += static_cast<unsigned char>(c) < 32 || c == 127 ? '?' : c;
  }
  if (text.size() > kLongest) {
    while (!out.empty() && (out.back() & 0xC0) == 0x80) out.pop_back();
    if (!out.empty() && (out.back() & 0x80)) out.pop_back();
    out += "...";
  }
  return out + "\"";
}

}  // namespace engine::graph
