// The shipped pipelines, changed at random: each is read, or refused with a place for every error.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <random>

#include "tests/support.h"
#include "tests/watched_child.h"

namespace engine::tests {
namespace {

std::vector<std::string> ShippedTexts() {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(ENGINE_SOURCE_DIR "/pipelines")) {
    if (entry.path().extension() == ".pbtxt") paths.push_back(entry.path().string());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> texts;
  for (const std::string& path : paths) texts.push_back(ReadFile(path));
  return texts;
}

// Words, numbers, texts, single signs, and what lies between them.
std::vector<std::string> Tokens(const std::string& text) {
  const auto is_word = [](char c) {
    return c == '_' || c == '.' || c == '-' || std::isalnum(static_cast<unsigned char>(c)) != 0;
  };
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    size_t end = at + 1;
    if (text[at] == '"') {
      while (end < text.size() && text[end] != '"' && text[end] != '\n') ++end;
      end = std::min(end + 1, text.size());
    } else if (is_word(text[at])) {
      while (end < text.size() && is_word(text[end])) ++end;
    }
    out.push_back(text.substr(at, end - at));
    at = end;
  }
  return out;
}

std::string Joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += part;
  return out;
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> out;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
    out.push_back(text.substr(at, end - at));
    at = end;
  }
  return out;
}

std::string Mutated(const std::string& text, std::mt19937* random) {
  const auto below = [&](size_t n) { return n == 0 ? 0 : (*random)() % n; };
  const size_t how = (*random)() % 7;
  if (how == 0 || how == 1) {  // lines change places, or one comes again
    std::vector<std::string> lines = Lines(text);
    if (lines.empty()) return text;
    const size_t a = below(lines.size()), b = below(lines.size());
    if (how == 0) {
      std::swap(lines[a], lines[b]);
    } else {
      lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(a), std::string(lines[b]));
    }
    return Joined(lines);
  }
  if (how == 2) {  // bytes
    std::string out = text;
    for (size_t k = 0, n = 1 + below(3); k < n && !out.empty(); ++k) {
      out[below(out.size())] ^= static_cast<char>(1u << below(8));
    }
    return out;
  }
  std::vector<std::string> tokens = Tokens(text);
  if (tokens.empty()) return text;
  const size_t a = below(tokens.size()), b = below(tokens.size());
  const auto at = tokens.begin() + static_cast<std::ptrdiff_t>(a);
  if (how == 3) {
    tokens.erase(at);
  } else if (how == 4) {
    tokens.insert(at, std::string(tokens[b]));
  } else if (how == 5) {
    std::swap(tokens[a], tokens[b]);
  } else {  // a number, from anywhere on
    static const char* const kNumbers[] = {
        "0", "-1", "4294967296", "1e400", "0x", "nan", "99999999999999999999", "1.5", "08", "-0"};
    for (size_t k = 0; k < tokens.size(); ++k) {
      std::string& token = tokens[(a + k) % tokens.size()];
      if (token[0] < '0' || token[0] > '9') continue;
      token = kNumbers[below(std::size(kNumbers))];
      break;
    }
  }
  return Joined(tokens);
}

enum Counter { kGood, kRefused, kErrors };

class PipelineBody : public ChildBody {
 public:
  void Prepare() override {
    index_ = &BuiltPlugins().index();
    texts_ = ShippedTexts();
    if (texts_.size() < 10) throw std::runtime_error("the shipped pipelines are not there");
  }
  std::string Name(uint64_t i) override { return Text(i); }

  void Case(uint64_t i, ChildNotes* notes) override {
    const std::string text = Text(i);
    graph::Plan plan;
    std::vector<graph::Diagnostic> diagnostics;
    const bool good = graph::LoadPipeline({.path = "m.pbtxt", .text = text, .check_paths = false},
                                          *index_, {}, &plan, &diagnostics);
    const auto lines = static_cast<int>(std::count(text.begin(), text.end(), '\n')) + 1;
    if (good == graph::HasErrors(diagnostics)) std::snprintf(notes->failure, 100, "no reason");
    for (const graph::Diagnostic& d : diagnostics) {
      const bool placed = d.file == "m.pbtxt" && d.line >= 1 && d.line <= lines && d.column >= 1 &&
                          !d.message.empty();
      const std::string place =
          "m.pbtxt:" + std::to_string(d.line) + ":" + std::to_string(d.column) + ": ";
      if (!placed || graph::Render(d).rfind(place, 0) != 0) {
        std::snprintf(notes->failure, sizeof notes->failure, "no place: %s",
                      graph::Render(d).c_str());
      }
    }
    notes->counts[good ? kGood : kRefused] = notes->counts[good ? kGood : kRefused] + 1;
    notes->counts[kErrors] = notes->counts[kErrors] + diagnostics.size();
  }

 private:
  std::string Text(uint64_t i) {
    if (texts_.empty()) texts_ = ShippedTexts();
    std::mt19937 random(static_cast<uint32_t>(i) * 2654435761u + 1);
    std::string text = texts_[i % texts_.size()];
    for (size_t k = 0, n = 1 + random() % 3; k < n; ++k) text = Mutated(text, &random);
    return text;
  }

  const abi::KindIndex* index_ = nullptr;
  std::vector<std::string> texts_;
};

TEST(HostilePipelines, AreReadOrRefusedWithAPlace) {
  const auto cases = static_cast<uint64_t>(std::max(1.0, 1000 * TestScale()));
  PipelineBody body;
  const ChildNotes notes = RunWatched(&body, cases, 20);
  std::printf("%llu read, %llu refused with %llu errors, %.0f MiB more at the peak\n",
              static_cast<unsigned long long>(notes.counts[kGood]),
              static_cast<unsigned long long>(notes.counts[kRefused]),
              static_cast<unsigned long long>(notes.counts[kErrors]),
              static_cast<double>(notes.rss_peak - notes.rss_begin) / 1048576);
  EXPECT_EQ(notes.counts[kGood] + notes.counts[kRefused], cases);
  EXPECT_GT(notes.counts[kGood], cases / 50);
  EXPECT_GT(notes.counts[kRefused], cases / 4);
  EXPECT_LT(notes.rss_peak - notes.rss_begin, uint64_t{256} << 20);
}

}  // namespace
}  // namespace engine::tests
