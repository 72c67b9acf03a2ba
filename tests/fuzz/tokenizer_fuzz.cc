// tokenizer.json, up to a first zero byte; what follows is a text that the tokenizer encodes.
#include <cstring>

#include "engine/model/formats/tokenizer.h"

using namespace engine::model;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const size_t zero = all.find('\0');
  const std::string_view json = all.substr(0, zero);
  const std::string_view text = zero == std::string_view::npos
                                    ? std::string_view("Hello, w\xc3\xb6rld 123")
                                    : all.substr(zero + 1);
  std::unique_ptr<Tokenizer> tokenizer;
  if (!TokenizerFromJson(json, "tokenizer.json", &tokenizer).ok()) return 0;
  std::vector<int32_t> ids;
  if (!tokenizer->Encode(text, true, true, &ids).ok()) return 0;
  for (int32_t id : ids) {
    if (id < 0 || id >= tokenizer->vocab_size()) __builtin_trap();
  }
  std::vector<int32_t> plain;
  if (!tokenizer->Encode(text, false, false, &plain).ok()) return 0;
  tokenizer->Decode(plain, true);
  const int32_t found = tokenizer->Find(text);
  if (found >= tokenizer->vocab_size()) __builtin_trap();
  tokenizer->TokenBytes(found);
  tokenizer->IsSpecial(found);
  StreamDecoder stream(*tokenizer, false);
  std::string streamed;
  for (int32_t id : ids) streamed += stream.Append(id);
  streamed += stream.Flush();
  if (streamed != tokenizer->Decode(ids, false)) __builtin_trap();
  return 0;
}
