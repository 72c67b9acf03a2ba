// A small random model on disk, for trying out plugins where no model was downloaded: a Llama with
// a tokenizer of the 256 bytes and 64 made-up tokens.
#ifndef ENGINE_CLI_CONFORMANCE_SMALL_MODEL_H_
#define ENGINE_CLI_CONFORMANCE_SMALL_MODEL_H_

#include <cstdint>
#include <string>

#include "engine/status.hpp"

namespace engine::conformance {

struct SmallModelSize {
  int64_t hidden = 64, blocks = 2, heads = 4, kv_heads = 2, mlp = 96, context = 256;
  uint64_t seed = 7;
};
inline constexpr int32_t kSmallVocab = 320;

// A Hugging Face folder. Sizes that make no model are refused.
Status WriteSmallModel(const std::string& folder, const SmallModelSize& size);

}  // namespace engine::conformance

#endif  // ENGINE_CLI_CONFORMANCE_SMALL_MODEL_H_
