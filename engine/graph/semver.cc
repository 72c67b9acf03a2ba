#include "engine/graph/semver.h"

#include <array>
#include <optional>
#include <vector>

namespace engine::graph {
namespace {

struct Version {
  std::array<uint64_t, 3> number = {0, 0, 0};
  int given = 0;    // how many of the three were written
  std::string pre;  // "rc.1"
};

bool AllDigits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

std::vector<std::string_view> Split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = text.find(at);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::optional<Version> Parse(std::string_view text) {
  Version version;
  text = text.substr(0, text.find('+'));
  if (size_t dash = text.find('-'); dash != std::string_view::npos) {
    version.pre = std::string(text.substr(dash + 1));
    if (version.pre.empty()) return std::nullopt;
    text = text.substr(0, dash);
  }
  auto parts = Split(text, '.');
  if (parts.size() > 3) return std::nullopt;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!AllDigits(parts[i]) || parts[i].size() > 9) return std::nullopt;
    version.number[i] = std::stoull(std::string(parts[i]));
  }
  version.given = static_cast<int>(parts.size());
  return version;
}

int ComparePre(std::string_view a, std::string_view b) {
  if (a == b) return 0;
  if (a.empty()) return 1;  // a release comes after its candidates
  if (b.empty()) return -1;
  auto left = Split(a, '.'), right = Split(b, '.');
  for (size_t i = 0; i < left.size() && i < right.size(); ++i) {
    if (left[i] == right[i]) continue;
    const bool x = AllDigits(left[i]), y = AllDigits(right[i]);
    if (x != y) return x ? -1 : 1;
    if (x && left[i].size() != right[i].size()) return left[i].size() < right[i].size() ? -1 : 1;
    return left[i] < right[i] ? -1 : 1;
  }
  return left.size() < right.size() ? -1 : left.size() > right.size() ? 1 : 0;
}

int Compare(const Version& a, const Version& b) {
  if (a.number != b.number) return a.number < b.number ? -1 : 1;
  return ComparePre(a.pre, b.pre);
}

// The least version that "^v" or "~v" leaves out.
Version Above(const Version& v, bool caret) {
  Version above;
  size_t keep;  // the last number that may not change
  if (caret) {
    keep = v.number[0] > 0 || v.given == 1 ? 0 : v.number[1] > 0 || v.given == 2 ? 1 : 2;
  } else {
    keep = v.given == 1 ? 0 : 1;
  }
  for (size_t i = 0; i <= keep; ++i) above.number[i] = v.number[i];
  ++above.number[keep];
  above.pre.assign(1, '0');  // its candidates are out too
  return above;
}

}  // namespace

bool IsVersion(std::string_view text) { return Parse(text).has_value(); }

int CompareVersions(std::string_view a, std::string_view b) {
  return Compare(*Parse(a), *Parse(b));
}

bool InRange(std::string_view version, std::string_view range, std::string* error) {
  error->clear();
  const auto have = Parse(version);
  bool all = have.has_value();
  for (std::string_view part : Split(range, ' ')) {
    if (part.empty() || part == "*") continue;
    std::string_view op = part.substr(0, part.find_first_of("0123456789"));
    const auto bound = Parse(part.substr(op.size()));
    const bool known = op.empty() || op == "=" || op == ">=" || op == "<=" || op == ">" ||
                       op == "<" || op == "^" || op == "~";
    if (!bound || !known) {
      *error = std::string(part);
      return false;
    }
    if (!have) continue;
    const int order = Compare(*have, *bound);
    if (op == ">=") {
      all = all && order >= 0;
    } else if (op == ">") {
      all = all && order > 0;
    } else if (op == "<=") {
      all = all && order <= 0;
    } else if (op == "<") {
      all = all && order < 0;
    } else if (op == "^" || op == "~") {
      all = all && order >= 0 && Compare(*have, Above(*bound, op == "^")) < 0;
    } else {
      all = all && order == 0;
    }
  }
  return all;
}

}  // namespace engine::graph
