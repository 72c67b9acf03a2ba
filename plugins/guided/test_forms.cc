// What the tests of this folder share.
#include "test_forms.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace engine::guided {
namespace {

std::shared_ptr<const Program> ProgramOf(Kind kind, std::string_view form) {
  std::shared_ptr<const Program> program;
  const Status status = CompileProgram(kind, form, ByteSet().set(), TestLimits(), &program);
  if (!status.ok()) {
    std::fprintf(stderr, "does not compile: %s\n", std::string(status.message()).c_str());
    std::abort();
  }
  return program;
}

Matcher::State After(Matcher* matcher, std::string_view text) {
  Matcher::State state = matcher->start();
  for (const char c : text) {
    if (state == Matcher::kDead) break;
    state = matcher->Advance(state, static_cast<uint8_t>(c));
  }
  return state;
}

constexpr size_t kWander = 40;  // tokens, before a way out is looked for
constexpr size_t kLongest = 20'000;

}  // namespace

std::shared_ptr<const Vocabulary> TestVocabulary() {
  static const std::shared_ptr<const Vocabulary> made = [] {
    std::vector<std::string> tokens;
    for (int b = 0; b < 256; ++b) tokens.emplace_back(1, static_cast<char>(b));
    tokens.emplace_back();  // the end
    tokens.emplace_back();  // special
    for (const char* text : {"{\"",          "\":",      "\": ",
                             "\",",          "\", \"",   "\"}",
                             "}}",           "]}",       "[]",
                             "{}",           "null",     "true",
                             "false",        ", ",       ": ",
                             "\n  ",         "\n",       "ab",
                             "abc",          "hello",    " the",
                             "12",           "3.5",      "-1",
                             "e5",           "00",       "\\n",
                             "\\u00",        "\\\"",     "\xc3\xa9",
                             "\xe2\x82",     "\x82\xac", "\xf0\x9f\x98\x80",
                             "\xc3",         "<tool",    "_call>",
                             "name",         "-0",       ".0",
                             "e+",           "T1",       "aaaa",
                             "<tool_call>\n"}) {
      tokens.emplace_back(text);
    }
    std::shared_ptr<const Vocabulary> vocabulary;
    if (!Vocabulary::Make(tokens, &vocabulary).ok()) std::abort();
    return vocabulary;
  }();
  return made;
}

Limits TestLimits() {
  Limits limits;
  limits.compile = std::chrono::seconds(60);
  return limits;
}

bool Fits(Kind kind, std::string_view form, std::string_view text) {
  Matcher matcher(ProgramOf(kind, form), Limits());
  const Matcher::State state = After(&matcher, text);
  return state != Matcher::kDead && matcher.Accepting(state);
}

bool Begins(Kind kind, std::string_view form, std::string_view text) {
  Matcher matcher(ProgramOf(kind, form), Limits());
  return After(&matcher, text) != Matcher::kDead;
}

engine_code CodeOf(Kind kind, std::string_view form, const Limits& limits) {
  std::shared_ptr<Guide> guide;
  return Guide::Compile(kind, form, TestVocabulary(), {kEndToken}, limits, &guide).code();
}

std::string RefusalOf(Kind kind, std::string_view form, const Limits& limits) {
  std::shared_ptr<Guide> guide;
  const Status status = Guide::Compile(kind, form, TestVocabulary(), {kEndToken}, limits, &guide);
  return std::string(status.message());
}

bool RandomOutput(Guide* guide, const Vocabulary& vocabulary, uint64_t stream, std::mt19937* random,
                  std::string* text, std::string* problem) {
  std::vector<int32_t> tokens, allowed, closing;
  text->clear();
  while (tokens.size() < kLongest) {
    const uint64_t* mask = nullptr;
    const Status status = guide->Allowed(stream, tokens.data(), tokens.size(), &mask);
    if (!status.ok() || mask == nullptr) {
      *problem = status.ok() ? "no mask" : std::string(status.message());
      return false;
    }
    allowed.clear();
    closing.clear();
    bool end = false;
    for (int32_t t = 0; t < static_cast<int32_t>(vocabulary.size()); ++t) {
      if ((mask[t / 64] >> (t % 64) & 1) == 0) continue;
      if (t == kEndToken) {
        end = true;
        continue;
      }
      allowed.push_back(t);
      if (t == '"' || t == '}' || t == ']') closing.push_back(t);
    }
    if (allowed.empty() && !end) {
      *problem = "an empty mask";
      return false;
    }
    const bool late = tokens.size() > kWander;
    if (end && (allowed.empty() || late || (*random)() % 4 == 0)) return true;
    // A bracket or a quote ends most things, and some patterns want a character again.
    const auto choice = (*random)() % 4;
    int32_t next = allowed[(*random)() % allowed.size()];
    if (late && choice < 2 && !closing.empty()) next = closing[(*random)() % closing.size()];
    if (late && choice == 2 && std::binary_search(allowed.begin(), allowed.end(), tokens.back())) {
      next = tokens.back();
    }
    tokens.push_back(next);
    *text += vocabulary.bytes(tokens.back());
  }
  *problem = "it does not end";
  return false;
}

}  // namespace engine::guided
