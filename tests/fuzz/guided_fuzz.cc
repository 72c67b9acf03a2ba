// A form for guided decoding: a byte for its kind, then its text. What compiles is followed for
// some tokens; the bytes of the text choose among those that are allowed.
#include "plugins/guided/guide.h"

using namespace engine::guided;

namespace {

constexpr int32_t kEnd = 256;

std::shared_ptr<const Vocabulary> Bytes() {
  std::vector<std::string> tokens;
  for (int b = 0; b < 256; ++b) tokens.emplace_back(1, static_cast<char>(b));
  for (const char* text :
       {"", "{\"", "\": ", "\", \"", "\"}", "\xc3\xa9", "\xf0\x9f", "12", "aa"}) {
    tokens.emplace_back(text);
  }
  std::shared_ptr<const Vocabulary> made;
  if (!Vocabulary::Make(tokens, &made).ok()) __builtin_trap();
  return made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::shared_ptr<const Vocabulary> vocabulary = Bytes();
  if (size == 0) return 0;
  Limits limits;
  limits.compile = std::chrono::milliseconds(10'000);  // sanitizers are slow
  limits.instructions = 1u << 16;
  limits.automaton = 1u << 12;
  limits.work = 1'000'000;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::shared_ptr<Guide> guide;
  if (!Guide::Compile(static_cast<Kind>(data[0] % 4), text, vocabulary, {kEnd}, limits, &guide)
           .ok()) {
    return 0;
  }
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < 64; ++i) {
    const uint64_t* mask = nullptr;
    const engine::Status status = guide->Allowed(1, tokens.data(), tokens.size(), &mask);
    if (status.code() == ENGINE_RESOURCE_EXHAUSTED) return 0;
    if (!status.ok()) __builtin_trap();
    if (mask == nullptr)
      __builtin_trap();  // an end token is missing, or what was allowed does not fit
    std::vector<int32_t> allowed;
    for (int32_t t = 0; t < static_cast<int32_t>(vocabulary->size()); ++t) {
      if ((mask[t / 64] >> (t % 64) & 1) != 0) allowed.push_back(t);
    }
    if (allowed.empty()) __builtin_trap();
    const int32_t next = allowed[(data[i % size] + i) % allowed.size()];
    bool fits = false, complete = false;
    if (!guide->Look(tokens.data(), tokens.size(), &fits, &complete).ok()) return 0;
    if (!fits || complete != ((mask[kEnd / 64] >> (kEnd % 64) & 1) != 0)) __builtin_trap();
    if (next == kEnd) break;
    tokens.push_back(next);
  }
  return 0;
}
